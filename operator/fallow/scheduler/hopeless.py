"""Jobs that find no room in this cycle whatever their turn: most of those that wait for a full fleet.

Capacity only shrinks within a cycle. So where no node takes one more task of a shape, no job of that shape
needs a turn, and all of them wait for the same reason, which is worked out once. Ten thousand such jobs then
cost a look each, not a search each.
"""

from __future__ import annotations

from fallow.scheduler.backfill import Backfill, is_large
from fallow.scheduler.capacity import Capacity
from fallow.scheduler.explain import Wait, explain
from fallow.scheduler.placing import Hunt
from fallow.scheduler.snapshot import Job, Snapshot
from fallow.scheduler.tiers import Outlook


class Hopeless:
    """Takes jobs out of a cycle, and says at its end why they wait."""

    def __init__(self, capacity: Capacity, backfill: Backfill) -> None:
        self._capacity = capacity
        self._backfill = backfill
        self._outlooks: dict[int, tuple[Outlook, bool]] = {}
        """By shape, with whether its tasks are large: such jobs may yet get nodes to wait for."""
        self._taken: list[tuple[Job, Outlook]] = []

    def takes(self, job: Job) -> bool:
        """Return whether a job needs no turn: nothing that its turn could do would come of it."""
        # NB: many jobs share the very same shape, and hashing one takes longer than all the rest here.
        known = self._outlooks.get(id(job.shape))
        if known is None:
            known = self._capacity.outlook(job.shape), is_large(job)
            known[0].look_for_room()
            self._outlooks[id(job.shape)] = known
        outlook, large = known
        if job.gang or job.copies > 1 or not outlook.full:
            return False
        if large and self._backfill.may_reserve():
            return False
        if not outlook.alike(job, limits_guests=self._capacity.limits_guests):
            return False
        if job.slots_left is not None or job.quotas:
            wanted = len(job.pending) if job.slots_left is None else min(len(job.pending), job.slots_left)
            if wanted <= 0 or self._capacity.slots_in_quotas(job, wanted) < wanted:
                return False
        self._taken.append((job, outlook))
        return True

    def explain(self, snapshot: Snapshot) -> dict[str, Wait]:
        """Return by UID why the jobs taken wait."""
        waits: dict[str, Wait] = {}
        said: dict[tuple[int, int, int, int | None], Wait] = {}
        for job, outlook in self._taken:
            key = (id(outlook), len(job.pending), job.timeout_seconds, job.placement_tasks)
            wait = said.get(key)
            if wait is None:
                wait = said[key] = explain(
                    Hunt.of(job, self._capacity), self._capacity, snapshot, self._backfill.soonest
                )
            waits[job.uid] = wait
        return waits
