"""A begun epoch on its way: sign, record, send; send again; or give up.

Sending again is harmless: an epoch names the commitment of the one before, so it happens once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import structlog

from fallow.receipts.statements import unix_seconds
from fallow.resources.settlement import SettlementTransaction
from fallow.settler import statuses
from fallow.settler.bundle import Bundle
from fallow.settler.faults import FaultPoint
from fallow.settler.parts import Parts, state_of, transactions_of
from fallow.settler.protocol import Position
from fallow.settler.refusals import EpochTaken, EscrowRefused, FeesTooHigh, SettlingStopped, Undone
from fallow.settler.shelf import HeldClaim

log = structlog.get_logger(__name__)

JSON = dict[str, Any]


class Sender:
    """Brings begun epochs to the chain; the only one that sends with the operator's key."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._told = b""

    async def carry_on(self, obj: JSON, bundle: Bundle, *, position: Position) -> None:
        """Bring a begun epoch onto the chain: sign, record, send; or send again; or give up."""
        if self._parts.payments.mode == "ledger":
            return  # settled by its creation: the next cycle finishes it
        if position.settled >= bundle.settlement.epoch:
            self._parts.faults.reach(FaultPoint.INCLUDED)
            await self._tell_submitted(obj, bundle)
            return  # settled, not final yet: its cycle comes
        transactions = transactions_of(obj)
        waits: FeesTooHigh | None = None
        signed: SettlementTransaction | None = None
        try:
            if not transactions or await self._parts.payments.is_stuck(transactions):
                await self._parts.payments.simulate(bundle.settlement, bundle.lines)
                self._parts.faults.reach(FaultPoint.SIMULATED)
                signed = await self._parts.payments.sign(bundle, earlier=self._signed_before(bundle))
                self._parts.faults.reach(FaultPoint.SIGNED)
        except FeesTooHigh as error:
            waits = error
        except EpochTaken:
            return
        except SettlingStopped:
            raise
        except EscrowRefused as refusal:
            await self._give_up(obj, refusal)
            return
        if signed is not None:
            # NB: strictly before anyone sees it; a transaction of which there is no record
            # could not be told from a thief's.
            obj = await self._parts.hub.set_status(
                self._parts.hub.settlements, obj, statuses.settlement_recorded(obj, signed)
            )
            self._parts.faults.reach(FaultPoint.RECORDED)
            log.info(
                "epoch signed", epoch=bundle.settlement.epoch, transaction=signed.hash, nonce=signed.nonce
            )
            transactions = [*transactions, signed]
        if transactions:
            await self._parts.payments.broadcast(transactions[-1])
            self._parts.faults.reach(FaultPoint.BROADCAST)
        await self._tell(obj, bundle, sent=bool(transactions), waits=waits)

    async def _tell(self, obj: JSON, bundle: Bundle, *, sent: bool, waits: FeesTooHigh | None) -> None:
        settlements, now = self._parts.hub.settlements, self._parts.now()
        if sent and state_of(obj) != "Submitted":
            obj = await self._parts.hub.set_status(
                settlements, obj, statuses.settlement_submitted(obj, now=now)
            )
        if waits is not None:
            obj = await self._parts.hub.set_status(
                settlements, obj, statuses.settlement_waiting(obj, str(waits), now=now)
            )
            log.warning("epoch waits", epoch=bundle.settlement.epoch, why=str(waits))
        elif statuses.is_waiting(obj):
            await self._parts.hub.set_status(settlements, obj, statuses.settlement_submitted(obj, now=now))
        if sent:
            await self._tell_submitted(obj, bundle)

    async def _give_up(self, obj: JSON, refusal: EscrowRefused) -> None:
        """Abandon an epoch that would revert, unless its claims were told that it is final."""
        if statuses.is_undone(obj):
            raise Undone(
                f"epoch {obj['spec']['epoch']} was final, was undone by a reorganisation, and cannot be "
                f"settled again as it was: {refusal}. Its claims are marked Settled and wait for a person: "
                "remove the reason, and it is sent by itself"
            )
        await self._parts.abandon(obj, refusal.name or "Reverted", str(refusal))

    def _signed_before(self, bundle: Bundle) -> list[SettlementTransaction]:
        """Return every transaction signed for this epoch's number, abandoned Settlements included."""
        return [
            transaction
            for obj in self._parts.hub.index.of_epoch(bundle.settlement.epoch)
            for transaction in transactions_of(obj)
        ]

    async def _tell_submitted(self, obj: JSON, bundle: Bundle) -> None:
        """Say on the claims that they are on their way, once that takes longer than it should.

        Most epochs are final before anybody looks, and a write a claim is what a claim costs.
        """
        began = unix_seconds(obj["metadata"]["creationTimestamp"])
        if self._parts.unix_now() - began < self._parts.epochs.tell_submitted_seconds:
            return
        if self._told != bundle.commitment:
            await self._parts.hub.tell_claims(self._submitted(bundle))
            self._told = bundle.commitment
        self._parts.faults.reach(FaultPoint.CLAIMS_SUBMITTED)

    def _submitted(self, bundle: Bundle) -> Iterator[tuple[HeldClaim, JSON]]:
        for sent in bundle.named:
            claim = self._parts.hub.claims.get(sent.key, uid=sent.uid)
            if claim is not None:
                yield claim, statuses.claim_submitted(claim.as_read(), bundle, now=self._parts.now())
