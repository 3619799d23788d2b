"""Answers to disputes: leaves revealed from the archive, and overdue ones concluded.

They are sent with a key of its own, which has no rights anywhere and pays gas only: the operator's
key signs settlements and nothing else, so that any other transaction of it is a stolen key. At most
one transaction is on its way; which, the chain says.
"""

from __future__ import annotations

import structlog
from eth_account.signers.local import LocalAccount

from fallow.settler.disputes import Dispute, Disputes, Status
from fallow.settler.faults import DisputePoint, Faults
from fallow.settler.leaves import EpochLeaves
from fallow.settler.refusals import EscrowRefused

log = structlog.get_logger(__name__)


class Revealer:
    """Sends with `key`, paying at most `fee_ceiling` wei per gas, `leaves_per_transaction` leaves at once."""

    def __init__(
        self, key: LocalAccount, *, fee_ceiling: int, leaves_per_transaction: int, faults: Faults
    ) -> None:
        self._key = key
        self._fee_ceiling = fee_ceiling
        self._leaves_per_transaction = leaves_per_transaction
        self._faults = faults

    async def answer(self, module: Disputes, leaves: EpochLeaves, final: Dispute, *, now: int) -> None:
        """Do the one next thing about an open dispute; `final` is how it stands for good, `now` Unix seconds.

        Raises Retryable when the endpoint fails or fees are too high. What the contract refuses was
        done by somebody else in the meantime, or cannot be done: that is logged.
        """
        at = final.epoch, final.line
        newest = await module.dispute(*at)  # a reveal that is not final yet is not sent again
        if newest.status is Status.FROZEN and now <= newest.deadline:
            indexes = [
                index
                for index in leaves.claims_of_line(final.line)
                if leaves.claim_id(index) > newest.last_claim_id
            ][: self._leaves_per_transaction]
            if indexes:
                some = [leaves.leaf(index) for index in indexes]
                await self._send(module, "reveal", leaves.header, final.line, some)
        elif newest.status is Status.REVEALED and now > newest.deadline:
            # Nobody ruled: the payee gets its money. (What nobody revealed is the payer's to conclude.)
            await self._send(module, "conclude", *at)

    async def _send(self, module: Disputes, function: str, *arguments: object) -> None:
        rpc, contract = module.rpc, module.artifact
        try:
            signed = await rpc.sign(
                self._key,
                to=module.address,
                data=contract.call(function, *arguments),
                # The mined count: what waits in a pool is the same transaction, or an earlier one that
                # this replaces when fees have risen.
                nonce=await rpc.nonce(self._key.address),
                fees=await rpc.fees(ceiling=self._fee_ceiling),
                errors=contract.errors,
            )
        except EscrowRefused as refusal:
            log.error("a dispute cannot be answered", function=function, refusal=str(refusal))
            return
        self._faults.reach(DisputePoint.ANSWER_SIGNED)
        await rpc.broadcast(signed.raw)
        log.info("answered a dispute", function=function, transaction=signed.hash)
        self._faults.reach(DisputePoint.ANSWER_SENT)
