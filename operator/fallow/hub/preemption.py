"""Preemption in the hub: whose guests could give way, how many of them lately did, and asking them to.

Asking is one compare-and-set write to the placement (`spec.preempted`). The tasks stay its own until the
agent has reported them ended, so none of them runs twice; what they ran is paid (decision record 221), and
none of it counts against `backoffLimitPerTask`. How much an account lost in the last hour is this process's
own count: after a restart, what live placements show counts as lost just now.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import structlog

from fallow.hub.carrying import placement_key
from fallow.hub.desk import Desk
from fallow.hub.placements import Placed
from fallow.hub.view import ASSUMED
from fallow.receipts.pricing import cumulative_amount
from fallow.resources.ranges import EMPTY, IndexRanges
from fallow.scheduler.preemption import Eviction
from fallow.scheduler.snapshot import Victim

log = structlog.get_logger(__name__)

HOUR_SECONDS = 3600
STEP_SECONDS = 60
"""Work grows more expensive to lose in these steps, so that a cycle in which nothing happened is the same."""


class Preemption:
    """What the scheduler may take away, and carrying out what it takes."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._lost: dict[str, deque[tuple[float, int]]] | None = None
        """By account: when (monotonic) how many tasks were asked to go."""
        self._asking: dict[str, IndexRanges] = {}
        """By placement: what writes under way ask to go."""

    @property
    def enabled(self) -> bool:
        """Whether the hub's admin allows it."""
        return self._desk.settings.preemption.enabled

    def victims(self) -> tuple[Victim, ...]:
        """Return everything that holds slots, with what losing it costs."""
        if not self.enabled:
            return ()
        now = self._desk.clock.unix()
        found: list[Victim] = []
        placed_now = {placed.name: placed for placed in self._placements()}
        self._asking = {
            name: tasks
            for name, tasks in self._asking.items()
            if name in placed_now and self._desk.carrier.busy(placement_key(placed_now[name]))
        }
        for placed in placed_now.values():
            job = self._desk.view.jobs_by_uid.get(placed.job_uid)
            if job is None or placed.stopped or placed.uid.startswith(ASSUMED):
                continue
            seconds = max(0, now - placed.created) // STEP_SECONDS * STEP_SECONDS
            cost = cumulative_amount(total_seconds=seconds, price_per_task_hour=placed.price)
            held = placed.slots_held()
            going = placed.preempted | self._asking.get(placed.name, EMPTY)
            for assigned in placed.assigned:
                slots = held.get(assigned.node, 0)
                leaving = min(slots, len((assigned.tasks & going) - placed.gone))
                if slots:
                    found.append(
                        Victim(
                            placement=placed.name,
                            provider=placed.provider,
                            node=assigned.node,
                            request=placed.request,
                            slots=slots - leaving,
                            priority=job["spec"].get("priority") or 0,
                            account=placed.account,
                            cost=cost,
                            whole=placed.gang,
                            leaving=leaving,
                        )
                    )
        return tuple(found)

    def may_lose(self) -> tuple[tuple[str, int], ...]:
        """Return how many tasks each account may still lose in this hour."""
        if not self.enabled:
            return ()
        most = self._desk.settings.preemption.tasks_per_account_per_hour
        accounts = sorted({placed.account for placed in self._placements()})
        return tuple((account, max(0, most - self._lately(account))) for account in accounts)

    def carry_out(self, evictions: Iterable[Eviction]) -> None:
        """Ask the tasks to go."""
        placements = {placed.name: placed for placed in self._placements()}
        asked: dict[str, IndexRanges] = {}
        lost: dict[str, int] = {}
        for one in evictions:
            placed = placements.get(one.placement)
            if placed is not None:
                asked[one.placement] = asked.get(one.placement, EMPTY) | leaving(placed, one.node, one.slots)
                lost[one.placement] = lost.get(one.placement, 0) + one.slots
        for name, tasks in asked.items():
            placed = placements[name]
            log.info("tasks give way", placement=name, tasks=str(tasks), account=placed.account)
            self._note(placed.account, lost[name])
            self._asking[name] = tasks
            self._desk.carrier.preempt(placed, tasks)

    def _placements(self) -> list[Placed]:
        return [placed for of_job in self._desk.view.placed.values() for placed in of_job.values()]

    def _lately(self, account: str) -> int:
        now = self._desk.clock.monotonic()
        if self._lost is None:
            self._lost = {}
            for placed in self._placements():
                if placed.preempted:
                    self._note(placed.account, len(placed.preempted))
        entries = self._lost.get(account)
        while entries and now - entries[0][0] >= HOUR_SECONDS:
            entries.popleft()
        return sum(tasks for _, tasks in entries or ())

    def _note(self, account: str, tasks: int) -> None:
        if self._lost is None:
            self._lost = {}
        self._lost.setdefault(account, deque()).append((self._desk.clock.monotonic(), tasks))


def leaving(placed: Placed, node: str, slots: int) -> IndexRanges:
    """Return the tasks that go when `slots` slots on a node do: those, and all that wait behind them.

    Tasks start in index order, so the first ones still there are the ones that run; the last of these go.
    """
    for assigned in placed.assigned:
        if assigned.node == node:
            there = assigned.tasks - placed.gone - placed.preempted - placed.released
            stays = max(0, min(assigned.slots, len(there)) - slots)
            return there.take(stays)[1]
    return EMPTY
