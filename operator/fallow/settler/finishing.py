"""Final epochs, brought to their end: accounts told, then claims, then the Settlement itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import structlog

from fallow.receipts.words import from_hex, to_hex
from fallow.settler import statuses
from fallow.settler.account_telling import AccountTeller
from fallow.settler.bundle import Bundle
from fallow.settler.faults import FaultPoint
from fallow.settler.parts import Parts, state_of, transactions_of
from fallow.settler.protocol import Position, Settled
from fallow.settler.shelf import HeldClaim

log = structlog.get_logger(__name__)

JSON = dict[str, Any]


class Finisher:
    """Tells everyone concerned about epochs that are final."""

    def __init__(self, parts: Parts, accounts: AccountTeller) -> None:
        self._parts = parts
        self._accounts = accounts
        self._complete = (-1, -1)
        self._looked_up = 0

    async def finish(self, position: Position) -> None:
        """Bring every Settlement up to a final epoch to its end."""
        await self._notice_undone()
        for obj in await self._restored():
            await self._parts.hub.create_settlement(obj)
        for obj in self._parts.hub.index.unfinished():
            epoch = obj["spec"]["epoch"]
            if epoch > position.epoch:
                continue
            if self._parts.history.commitment(epoch) == from_hex(obj["spec"]["commitment"]):
                # NB: also one that was abandoned: its transaction may have been included after all.
                await self._finish_one(obj, position)
            elif state_of(obj) != "Abandoned":
                await self._parts.abandon(obj, "Superseded", "Another epoch of this number was settled.")

    async def _notice_undone(self) -> None:
        """Take back that an epoch is final where blocks deeper than the confirmations were undone.

        The chain shows blocks at least as high as the epoch's (`position` waits for them), and not
        the epoch. It is then carried on like any that was begun.
        """
        while True:
            last = self._parts.hub.index.last_confirmed()
            undone = last is not None and self._parts.history.commitment(last["spec"]["epoch"]) != from_hex(
                last["spec"]["commitment"]
            )
            if last is None or not undone:
                break
            log.error("a final epoch was undone: it is sent again", name=last["metadata"]["name"])
            await self._parts.hub.set_status(
                self._parts.hub.settlements, last, statuses.settlement_undone(last, now=self._parts.now())
            )
        undone_left = any(statuses.is_undone(obj) for obj in self._parts.hub.index.unfinished())
        self._parts.metrics.undone(is_undone=undone_left)

    async def _restored(self) -> list[JSON]:
        """Return Settlements that this hub lacks: it was restored from before they were made."""
        index, history = self._parts.hub.index, self._parts.history
        seen = index.deletions, history.generation
        if seen != self._complete:  # else only the epochs since then have to be looked up
            self._complete, self._looked_up = seen, 0
        epochs = range(self._looked_up + 1, history.epochs + 1)
        found = [commitment for epoch in epochs if (commitment := history.commitment(epoch)) is not None]
        lacking = [each for each in found if not index.has(to_hex(each))]
        if lacking:
            log.warning("this hub is behind its settlements: replaying the archive", epochs=len(lacking))
        else:
            self._looked_up = history.epochs
        return [
            await self._parts.settlement(await self._parts.archive.find(each), forgotten=True)
            for each in lacking
        ]

    async def _finish_one(self, obj: JSON, position: Position) -> None:
        bundle = await self._parts.archive.load(from_hex(obj["spec"]["bundleHash"]))
        settled = await self._parts.payments.settled(bundle, transactions_of(obj), position=position)
        self._parts.faults.reach(FaultPoint.CONFIRMED)
        # NB: strictly before its claims. The hub counts a Settled claim until it sees a balance of
        # that block or later; the other way round it would for a moment count neither.
        await self._accounts.tell(position, payers={line.payer for line in bundle.lines})
        self._parts.faults.reach(FaultPoint.ACCOUNTS_TOLD)
        wanted = self._settled(bundle, settled)
        first = next(wanted, None)  # none: all were told before, or the hub was restored to before them
        if first is not None:
            await self._parts.hub.tell_claims([first])
            self._parts.faults.reach(FaultPoint.FIRST_CLAIM_SETTLED)
        await self._parts.hub.tell_claims(wanted)
        self._parts.faults.reach(FaultPoint.CLAIMS_SETTLED)
        done = statuses.settlement_confirmed(obj, settled, now=self._parts.now())
        await self._parts.hub.set_status(self._parts.hub.settlements, obj, done)
        self._parts.metrics.settled(bundle, settled)
        log.info(
            "epoch settled",
            epoch=bundle.settlement.epoch,
            claims=len(bundle.named),
            lines=len(bundle.lines),
            block=settled.block,
            transaction=settled.transaction,
        )
        self._parts.faults.reach(FaultPoint.FINISHED)

    def _settled(self, bundle: Bundle, settled: Settled) -> Iterator[tuple[HeldClaim, JSON]]:
        """Return the claims that are to be told, each with what."""
        for paid in bundle.named:
            claim = self._parts.hub.claims.get(paid.key, uid=paid.uid)
            if claim is not None:
                told = statuses.claim_settled(claim.as_read(), bundle, settled, now=self._parts.now())
                yield claim, told
