"""Slow places in the hub: the last tasks of a job are taken away and run elsewhere (decision record 223).

Taking away is the ordinary release: `spec.released`, by compare-and-set, before anything is placed elsewhere.
With that write it is settled which attempt may be paid; what the slow place still reports does not count.
How long a task has run at least is what this process saw: since the placement last reported an end, or since
it first ran. A restart forgets that and waits anew.
"""

from __future__ import annotations

from dataclasses import replace

import structlog

from fallow.hub import snapshots
from fallow.hub.desk import Desk
from fallow.hub.folding import Standing, succeeded_in
from fallow.hub.jobs import JobRecord
from fallow.hub.placements import Placed
from fallow.hub.slices import at_once
from fallow.resources.ranges import EMPTY, IndexRanges
from fallow.scheduler.slowness import Patience, Progress, room_elsewhere

log = structlog.get_logger(__name__)


class Slowness:
    """Says which tasks to take away from a slow place."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._moved_on: dict[str, tuple[int, float]] = {}
        """By placement UID: attempts ended when last looked at, and since when (monotonic) it is so many."""
        self._taken: dict[str, IndexRanges] = {}
        """By job UID: tasks that were taken away once; never a second time."""
        self._supplies = snapshots.Supplies(desk.settings.trust)

    @property
    def enabled(self) -> bool:
        """Whether the hub's admin wants it."""
        return self._desk.settings.slowness.enabled

    def forget(self, placement_uid: str) -> None:
        """Drop what is remembered of a placement."""
        self._moved_on.pop(placement_uid, None)

    def tasks_of(self, placed: Placed, record: JobRecord) -> IndexRanges:
        """Return the tasks of a placement to run elsewhere now."""
        desk, standing = self._desk, record.standing
        apart = placed.gang or placed.replicas > 1 or placed.per_interval
        if apart or placed.stopped or not placed.running or standing is None:
            return EMPTY
        now = desk.clock.monotonic()
        ended, since = self._moved_on.get(placed.uid, (-1, now))
        if ended != len(placed.ended):
            since = now
            self._moved_on[placed.uid] = (len(placed.ended), since)
        slow_after = self._patience().slow_after(self._progress(placed.job_uid, record, standing))
        tasks = placed.held - placed.preempted - self._taken.get(placed.job_uid, EMPTY)
        if slow_after is None or not tasks:
            return EMPTY
        if now < since + slow_after:
            desk.memory.later_jobs.setdefault(placed.job_uid, since + slow_after)
            return EMPTY
        if self._room_elsewhere(placed, record, elapsed=now - since) < len(tasks):
            return EMPTY
        return tasks

    def took(self, placed: Placed, tasks: IndexRanges) -> None:
        """Take note that tasks are being taken away."""
        self._taken[placed.job_uid] = self._taken.get(placed.job_uid, EMPTY) | tasks
        log.info("slow tasks run elsewhere", placement=placed.name, tasks=str(tasks))

    def _patience(self) -> Patience:
        given = self._desk.settings.slowness
        return Patience(factor=given.factor, least_seconds=given.least_seconds)

    def _progress(self, uid: str, record: JobRecord, standing: Standing) -> Progress:
        assert record.wish.spec is not None
        shares = record.folded.shares.values()
        live = [one for one in self._desk.view.live(uid) if one.number not in record.folded.placements]
        return Progress(
            tasks=record.wish.spec.tasks,
            held=len(standing.held),
            waiting=len(standing.pending),
            succeeded=sum(share.succeeded for share in shares) + sum(len(succeeded_in(one)) for one in live),
            seconds=sum(share.seconds for share in shares) + sum(one.payable_seconds for one in live),
        )

    def _room_elsewhere(self, placed: Placed, record: JobRecord, *, elapsed: float) -> int:
        shape, desk = record.wish.shape, self._desk
        assert shape is not None
        assert record.standing is not None
        usual = self._progress(placed.job_uid, record, record.standing).usual_seconds
        labels = frozenset(name for name, _ in shape.requirements.node_labels)
        providers = at_once(
            self._supplies.of(desk.view, desk.memory.standings, label_keys=labels, decimals=desk.decimals)
        )
        return room_elsewhere(
            replace(shape, account=placed.payer),
            tuple(providers),
            but=record.avoided(desk.clock.monotonic()) | {placed.provider},
            # As long again here is what waiting costs; a usual run there is what moving costs.
            most_price=int(placed.price * 2 * elapsed / usual),
        )
