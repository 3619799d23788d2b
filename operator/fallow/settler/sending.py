"""A begun epoch on its way: sign, record, send; send again; or give up.

Sending again is harmless: an epoch names the commitment of the one before, so it happens once.
"""

from __future__ import annotations

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

log = structlog.get_logger(__name__)

JSON = dict[str, Any]

TELL_SUBMITTED_SECONDS = 10.0
"""How long an epoch may take before its claims say that they are in one. What is final sooner is told once:
the Settlement names its claims from the start, so nothing is derived from what they say."""


class Sender:
    """Brings begun epochs to the chain; the only one that sends with the operator's key."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

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
                await self._parts.payments.simulate(bundle)
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
            self._parts.faults.reach(FaultPoint.CLAIMS_SUBMITTED)

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
        made = unix_seconds(obj["metadata"]["creationTimestamp"])
        if self._parts.unix_now() - made < TELL_SUBMITTED_SECONDS:
            return
        wanted = []
        for sent in bundle.claims:
            claim = self._parts.hub.claims.get(sent.name, namespace=sent.namespace)
            if claim is not None and claim["metadata"]["uid"] == sent.uid:
                wanted.append((claim, statuses.claim_submitted(claim, bundle, now=self._parts.now())))
        await self._parts.hub.set_statuses(self._parts.hub.claims, wanted)
