"""Chain mode: epochs as transactions on the escrow.

Everything is read at fixed blocks. What is final is read `confirmations` blocks below the newest;
what could be debited, at the newest. The epoch chain in the contract lets an epoch happen once,
whatever is sent how often; here it is only made sure that it does happen: the same signed bytes are
sent again, and where fees have risen above them, a dearer transaction replaces them on the same
nonce.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from eth_account.signers.local import LocalAccount

from fallow.receipts.epochs import genesis_commitment, pack_lines
from fallow.receipts.typed_data import Domain
from fallow.receipts.words import to_hex
from fallow.resources.settlement import SettlementTransaction
from fallow.settler.bundle import Bundle
from fallow.settler.escrow import Escrow, Head
from fallow.settler.protocol import NO_PURSE, Position, Purse, Settled
from fallow.settler.refusals import ForeignTransaction
from fallow.settler.rpc import Fees, Inclusion

_BUMP_PERCENT = 113
"""Nodes take a replacement whose both fees are at least 10 % (most) or 12.5 % (some) higher."""


class ChainPayments:
    """Payments on an escrow contract. `fee_ceiling` is the most wei per gas that is paid."""

    mode: Literal["chain", "ledger"] = "chain"

    def __init__(
        self, escrow: Escrow, domain: Domain, key: LocalAccount, *, confirmations: int, fee_ceiling: int
    ) -> None:
        self.domain = domain
        self._escrow = escrow
        self._rpc = escrow.rpc
        self._key = key
        self._confirmations = confirmations
        self._fee_ceiling = fee_ceiling

    async def position(self) -> Position:
        """Read the final and the newest head."""
        newest = await self._rpc.block_number()
        final = max(0, newest - self._confirmations)
        head = await self._escrow.head(block=newest)
        before = head if final == newest else await self._head_at(final)
        return Position(
            block=final,
            time=await self._rpc.block_time(newest),
            epoch=before.last_epoch,
            commitment=before.commitment,
            settled=head.last_epoch,
        )

    async def purse(self, payer: str, *, position: Position, final: bool) -> Purse:
        """Read a payer's state."""
        if final and not await self._rpc.has_code(self._escrow.address, block=position.block):
            return NO_PURSE
        state = await self._escrow.payer(payer, block=position.block if final else "latest")
        return Purse(
            bound=state.bound,
            balance=state.balance,
            cap=state.cap,
            debitable_from=state.last_debit_at + state.min_interval_seconds,
            under_notice=state.under_notice,
        )

    async def payee_is_active(self, payee: str, *, position: Position) -> bool:
        """Read the registry, and compare with the newest block's time."""
        return 0 < await self._escrow.payee_active_from(payee) <= position.time

    async def simulate(self, bundle: Bundle) -> None:
        """Execute the call at the newest block without sending it."""
        await self._rpc.call(
            self._escrow.address,
            self._call(bundle),
            sender=self._key.address,
            errors=self._escrow.artifact.errors,
        )

    async def sign(
        self, bundle: Bundle, *, earlier: Sequence[SettlementTransaction]
    ) -> SettlementTransaction | None:
        """Sign for the key's next nonce; dearer than what may already be known for that nonce."""
        nonce = await self._rpc.nonce(self._key.address)
        fees = await self._rpc.fees(ceiling=self._fee_ceiling)
        for rival in (one for one in earlier if one.nonce == nonce):
            fees = Fees(
                max_fee=max(fees.max_fee, _bumped(rival.max_fee_per_gas_wei)),
                max_priority_fee=max(fees.max_priority_fee, _bumped(rival.max_priority_fee_per_gas_wei)),
            )
        signed = await self._rpc.sign(
            self._key,
            to=self._escrow.address,
            data=self._call(bundle),
            nonce=nonce,
            fees=fees,
            errors=self._escrow.artifact.errors,
        )
        return SettlementTransaction(
            hash=signed.hash,
            nonce=signed.nonce,
            gas_limit=signed.gas_limit,
            max_fee_per_gas_wei=str(fees.max_fee),
            max_priority_fee_per_gas_wei=str(fees.max_priority_fee),
            raw=signed.raw,
        )

    async def broadcast(self, transaction: SettlementTransaction) -> None:
        """Send the recorded bytes."""
        await self._rpc.broadcast(transaction.raw)

    async def settled(
        self, bundle: Bundle, transactions: Sequence[SettlementTransaction], *, position: Position
    ) -> Settled:
        """Return the recorded transaction that was included, or (one of a lost record) only a block
        that has it.
        """
        found = await self._included(transactions)
        if found is None:
            return Settled(block=position.block, transaction=None, gas_used=None)
        return Settled(block=found.block, transaction=found.hash, gas_used=found.gas_used)

    async def is_stuck(self, transactions: Sequence[SettlementTransaction]) -> bool:
        """Say whether none of these can be included: the nonce was spent on one that reverted, or
        fees rose above the last one's.
        """
        last = transactions[-1]
        if await self._rpc.nonce(self._key.address) > last.nonce:
            found = await self._included(transactions)
            if found is None:
                raise ForeignTransaction(
                    f"nonce {last.nonce} of {self._key.address} was used by a transaction that this settler "
                    "did not sign: find out who holds the key"
                )
            return not found.succeeded
        fees = await self._rpc.fees(ceiling=self._fee_ceiling)
        return fees.max_fee - fees.max_priority_fee > 2 * int(last.max_fee_per_gas_wei)

    def settlement_name(self, bundle: Bundle) -> str:
        """Return epoch and commitment as a name."""
        return f"epoch-{bundle.settlement.epoch:06d}-{bundle.commitment.hex()[:16]}"

    def signature(self, bundle: Bundle) -> str | None:
        """Return None: the transaction is what is signed."""
        return None

    def _call(self, bundle: Bundle) -> bytes:
        settlement = bundle.settlement
        return self._escrow.artifact.call(
            "settle",
            settlement.epoch,
            settlement.previous_commitment,
            pack_lines(bundle.lines),
            settlement.claims_root,
            settlement.allocations_root,
            settlement.bundle_hash,
        )

    async def _head_at(self, block: int) -> Head:
        """Return the head at an old block: before the escrow's deployment, its genesis."""
        if await self._rpc.has_code(self._escrow.address, block=block):
            return await self._escrow.head(block=block)
        return Head(
            last_epoch=0, commitment=genesis_commitment(self.domain), operator=to_hex(bytes(20)), paused=False
        )

    async def _included(self, transactions: Sequence[SettlementTransaction]) -> Inclusion | None:
        for transaction in transactions:
            found = await self._rpc.inclusion(transaction.hash)
            if found is not None:
                return found
        return None


def _bumped(wei: str) -> int:
    return int(wei) * _BUMP_PERCENT // 100 + 1
