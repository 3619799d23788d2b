"""Final epochs, brought to their end: accounts told, then claims, then the Settlement itself."""

from __future__ import annotations

from typing import Any

import structlog

from fallow.receipts.words import from_hex, to_hex
from fallow.settler import statuses
from fallow.settler.account_telling import AccountTeller
from fallow.settler.faults import FaultPoint
from fallow.settler.parts import Parts, state_of, transactions_of
from fallow.settler.protocol import Position

log = structlog.get_logger(__name__)

JSON = dict[str, Any]


class Finisher:
    """Tells everyone concerned about epochs that are final."""

    def __init__(self, parts: Parts, accounts: AccountTeller) -> None:
        self._parts = parts
        self._accounts = accounts

    async def finish(self, position: Position) -> None:
        """Bring every Settlement up to a final epoch to its end."""
        for obj in self._restored():
            await self._parts.hub.create_settlement(obj)
        for obj in self._parts.hub.own_settlements():
            epoch = obj["spec"]["epoch"]
            if state_of(obj) == "Confirmed" or epoch > position.epoch:
                continue
            if self._parts.history.commitment(epoch) == from_hex(obj["spec"]["commitment"]):
                # NB: also one that was abandoned: its transaction may have been included after all.
                await self._finish_one(obj, position)
            elif state_of(obj) != "Abandoned":
                await self._parts.abandon(obj, "Superseded", "Another epoch of this number was settled.")

    def _restored(self) -> list[JSON]:
        """Return Settlements that this hub lacks: it was restored from before they were made."""
        known = {obj["spec"]["commitment"] for obj in self._parts.hub.own_settlements()}
        lacking = [each for each in self._parts.history.commitments() if to_hex(each) not in known]
        if lacking:
            log.warning("this hub is behind its settlements: replaying the archive", epochs=len(lacking))
        return [self._parts.settlement(self._parts.archive.find(each)) for each in lacking]

    async def _finish_one(self, obj: JSON, position: Position) -> None:
        bundle = self._parts.archive.load(from_hex(obj["spec"]["bundleHash"]))
        settled = await self._parts.payments.settled(bundle, transactions_of(obj), position=position)
        self._parts.faults.reach(FaultPoint.CONFIRMED)
        # NB: strictly before its claims. The hub counts a Settled claim until it sees a balance of
        # that block or later; the other way round it would for a moment count neither.
        await self._accounts.tell(position, payers={line.payer for line in bundle.lines})
        self._parts.faults.reach(FaultPoint.ACCOUNTS_TOLD)
        wanted = []
        for paid in bundle.claims:
            claim = self._parts.hub.claims.get(paid.name, namespace=paid.namespace)
            if claim is None or claim["metadata"]["uid"] != paid.uid:
                continue  # told before, or the hub was restored to before it was written
            wanted.append((claim, statuses.claim_settled(claim, bundle, settled, now=self._parts.now())))
        await self._parts.hub.set_statuses(self._parts.hub.claims, wanted[:1])
        if wanted:
            self._parts.faults.reach(FaultPoint.FIRST_CLAIM_SETTLED)
        await self._parts.hub.set_statuses(self._parts.hub.claims, wanted[1:])
        self._parts.faults.reach(FaultPoint.CLAIMS_SETTLED)
        done = statuses.settlement_confirmed(obj, settled, now=self._parts.now())
        await self._parts.hub.set_status(self._parts.hub.settlements, obj, done)
        self._parts.metrics.settled(bundle, settled)
        log.info(
            "epoch settled",
            epoch=bundle.settlement.epoch,
            claims=len(bundle.claims),
            lines=len(bundle.lines),
            block=settled.block,
            transaction=settled.transaction,
        )
        self._parts.faults.reach(FaultPoint.FINISHED)
