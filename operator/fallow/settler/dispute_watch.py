"""Disputes as the settler follows them: found on the chain, told on the hub, answered from the archive.

A payer freezes a line of an epoch; from then on its claims say Disputed. Where a revealer key is
set, the leaves of the line are revealed at once, and what the arbiter left undecided is released
when its time is over; without one, a person does both with `fallow chain reveal` and `resolve`.
How it ended goes back to the claims.

Nothing durable is kept: events say which lines to look at, the contract's state how they stand, so
a process that was killed anywhere looks again. What is revealed follows the last claim that the
contract knows; a transaction that is sent twice is one transaction, or reverts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog

from fallow.errors import ApiError, MoneyError, Retryable
from fallow.receipts.statements import unix_seconds
from fallow.receipts.words import from_hex, to_hex
from fallow.settler.dispute_statuses import Known, claim_disputed, says_open, settlement_disputed
from fallow.settler.disputes import Dispute, Disputes, Status
from fallow.settler.faults import DisputePoint
from fallow.settler.leaves import EpochLeaves
from fallow.settler.parts import Parts, state_of
from fallow.settler.protocol import Position
from fallow.settler.revealing import Revealer

log = structlog.get_logger(__name__)

JSON = dict[str, Any]
_SLACK_SECONDS = 86_400
Line = tuple[int, int]
"""Epoch, and line in it."""


class DisputeWatch:
    """Follows the disputes of one escrow.

    `revealer` sends what answers them; None where a person does. `monotonic` is a clock in seconds.
    """

    def __init__(
        self, parts: Parts, *, revealer: Revealer | None, poll_seconds: float, monotonic: Callable[[], float]
    ) -> None:
        self._parts = parts
        self._revealer = revealer
        self._poll_seconds = poll_seconds
        self._monotonic = monotonic
        self._looked_at: float | None = None
        self._searched: int | None = None
        self._open: set[Line] = set()
        self._longest: int | None = None

    async def look(self, position: Position) -> None:
        """Look at disputes when it is time to. Never keeps money from moving: failures are logged."""
        now = self._monotonic()
        if self._looked_at is not None and now - self._looked_at < self._poll_seconds:
            return
        self._looked_at = now
        try:
            await self._look(position)
            self._parts.metrics.disputes(len(self._open), failed=False)
        except (Retryable, ApiError, MoneyError) as error:
            self._parts.metrics.disputes(len(self._open), failed=True)
            log.warning("disputes could not be looked at", error=f"{type(error).__name__}: {error}")

    async def _look(self, position: Position) -> None:
        module = await self._parts.payments.disputes(position=position)
        if module is None:
            return
        first = self._from_block(position, horizon=await self._horizon(module))
        if first <= position.block:
            self._open |= await module.disputed(first=first, last=position.block)
        self._searched = position.block
        for line in sorted(self._open):
            if not await self._follow(module, line, position):
                self._open.discard(line)

    async def _horizon(self, module: Disputes) -> int:
        """Return how many seconds after an epoch everything about it is over."""
        if self._longest is None:
            (reveal,) = await module.read("revealPeriod")
            (arbitration,) = await module.read("arbitrationPeriod")
            window = await module.escrow_window()
            self._longest = 2 * window + reveal + arbitration + _SLACK_SECONDS
        return self._longest

    def _from_block(self, position: Position, *, horizon: int) -> int:
        """Return the first block whose events are not known yet.

        After a start that is the block of the first epoch that may be in dispute, or says that it
        is. (What is told again changes nothing.)
        """
        if self._searched is not None:
            return min(self._searched, position.block) + 1
        since = self._parts.unix_now() - horizon
        blocks = [
            int((obj.get("status") or {}).get("block") or 0)
            for obj in self._parts.hub.own_settlements()
            if says_open(obj) or unix_seconds(obj["metadata"]["creationTimestamp"]) >= since
        ]
        return min(blocks, default=position.block + 1)

    async def _follow(self, module: Disputes, line: Line, position: Position) -> bool:
        """Tell and answer one dispute; returns whether it goes on."""
        epoch, index = line
        dispute = await module.dispute(epoch, index, block=position.block)
        if dispute.status is Status.NONE:
            return False  # its block was undone
        settlement = self._settlement(epoch)
        if settlement is None:
            log.warning("a line of an epoch that this hub does not know is disputed", epoch=epoch, line=index)
            return dispute.open
        leaves = EpochLeaves(await self._parts.archive.load(from_hex(settlement["spec"]["bundleHash"])))
        if dispute.open and self._revealer is not None:
            await self._revealer.answer(module, leaves, dispute, now=position.time)
        await self._tell(await self._known(module, dispute, settlement, position), settlement, leaves)
        return dispute.open

    def _settlement(self, epoch: int) -> JSON | None:
        """Return the Settlement of an epoch that happened."""
        for obj in self._parts.hub.index.of_epoch(epoch):
            if state_of(obj) == "Confirmed":
                return obj
        return None

    async def _known(self, module: Disputes, dispute: Dispute, settlement: JSON, position: Position) -> Known:
        where = {"first": int(settlement["status"]["block"]), "last": position.block}
        at = dispute.epoch, dispute.line
        ended = None if dispute.open else await module.outcome(*at, **where)
        rejected = await module.rejected(*at, **where) if dispute.status is Status.RULED else set()
        return Known(
            dispute=dispute,
            outcome=ended,
            rejected=frozenset(rejected),
            decimals=self._parts.money.decimals,
        )

    async def _tell(self, known: Known, settlement: JSON, leaves: EpochLeaves) -> None:
        """Say on each claim of the line, then on the Settlement, how the dispute stands."""
        hub, faults = self._parts.hub, self._parts.faults
        claims = leaves.claims_of_line(known.dispute.line)
        told = 0
        for start, count in ((0, 1), (1, len(claims))):
            some = [leaves.bundle.named[at] for at in claims[start : start + count]]
            told += await hub.tell_settled(
                some, lambda obj: claim_disputed(obj, known, now=self._parts.now())
            )
            if told:
                faults.reach(DisputePoint.FIRST_CLAIM_TOLD if start == 0 else DisputePoint.CLAIMS_TOLD)
        wanted = settlement_disputed(settlement, known, now=self._parts.now())
        if wanted != (settlement.get("status") or {}):
            await hub.set_status(hub.settlements, settlement, wanted)
            dispute = known.dispute
            log.warning(
                "disputed line",
                epoch=dispute.epoch,
                line=dispute.line,
                status=dispute.status.name,
                frozen=known.shown(dispute.frozen),
                commitment=to_hex(leaves.bundle.commitment),
            )
            faults.reach(DisputePoint.SETTLEMENT_TOLD)
