"""One scheduling cycle, readable from top to bottom.

Order is priority, then fair share between accounts, then age. Jobs that are over go through the same steps as
jobs that fit: what they did not get is explained, not dropped.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from fallow.scheduler.backfill import Backfill
from fallow.scheduler.capacity import Capacity
from fallow.scheduler.explain import Wait, explain, too_few_owners
from fallow.scheduler.fairness import Shares, take_turns
from fallow.scheduler.hopeless import Hopeless
from fallow.scheduler.placing import Hunt, Place, finish, hunt_gang, hunt_slots
from fallow.scheduler.preemption import Eviction, preempt
from fallow.scheduler.snapshot import Job, Snapshot


@dataclass(frozen=True, slots=True)
class Decisions:
    """What to do: placements to create, and for each job that still waits, why."""

    places: tuple[Place, ...]
    waits: dict[str, Wait]
    """By job UID."""
    evictions: tuple[Eviction, ...] = ()
    """Who gives way to a job of higher priority."""


def schedule(snapshot: Snapshot) -> Decisions:
    """Decide which waiting tasks run where. Pure: equal snapshots give equal decisions."""
    with _collector_resting():
        return _decide(snapshot)


@contextmanager
def _collector_resting() -> Iterator[None]:
    """Keep the cyclic collector from walking the whole snapshot again and again: a third of a cycle's time.

    What a cycle allocates is bounded by its decisions; the collector gets to it right after.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _decide(snapshot: Snapshot) -> Decisions:
    # 1. Work on a copy of what is free, of money and of quotas; they only shrink from here.
    capacity = Capacity(snapshot)
    half_life = snapshot.limits.half_life_seconds
    shares = Shares(snapshot.accounts, capacity.total(), half_life_seconds=half_life)
    backfill = Backfill(capacity, snapshot.running, snapshot.limits, now=snapshot.now)
    problems = {purse.key: purse.problem for purse in snapshot.purses if purse.problem}
    hopeless = Hopeless(capacity, backfill)
    lowest = min((victim.priority for victim in snapshot.victims), default=None)
    hunts: dict[str, Hunt] = {}
    waits: dict[str, Wait] = {}

    def finds_no_room(job: Job) -> bool:
        may_preempt = lowest is not None and job.priority > lowest
        return not may_preempt and job.copies == 1 and hopeless.takes(job)

    def turn(job: Job, bound: int | None) -> bool:
        # 3. No money may be drawn at all: say so and look no further.
        if problems:
            problem = next((problems[purse] for purse in job.purses if purse in problems), None)
            if problem is not None:
                waits[job.uid] = Wait(problem, "Account")
                return False
        # 4. Take what fits now: it is gone for the jobs behind.
        hunt = hunts.get(job.uid)
        if hunt is None:
            if finds_no_room(job):
                return False
            hunt = hunts[job.uid] = Hunt.of(job, capacity)
        # 4a. No copy without its fellows: too few owners to compare results with would be money for nothing.
        if job.copies > 1 and (alone := too_few_owners(hunt)) is not None:
            waits[job.uid] = alone
            return False
        most = hunt.slots_left if bound is None else bound
        if job.gang:
            taken = hunt_gang(hunt, capacity, snapshot.limits, now=snapshot.now)
        else:
            taken = hunt_slots(hunt, capacity, most=most, now=snapshot.now)
        shares.give(job.account, job.shape.request, taken)
        # 5. Who waits for many nodes keeps some, so that small jobs cannot starve it.
        backfill.reserve(hunt)
        return not job.gang and taken >= most and hunt.slots_left > 0

    # 2. Give the jobs their turns: priority, fair share, age. Who finds no room anyway needs none.
    hopeful = [job for job in snapshot.jobs if job.pending and (problems or not finds_no_room(job))]
    take_turns(hopeful, shares, turn)

    # 6. Queue the next tasks behind the slots found, and deal the indexes.
    for hunt in hunts.values():
        finish(hunt, capacity, snapshot.limits)
    # 7. What is left waits; say why, in one sentence.
    for uid, hunt in hunts.items():
        if hunt.left and uid not in waits:
            waits[uid] = explain(hunt, capacity, snapshot, backfill.soonest)
    waits |= hopeless.explain(snapshot)
    # 8. Where the hub's admin allows it, guests of lower priority give way to what still waits.
    evictions = preempt(hunts.values(), capacity, snapshot)
    return Decisions(tuple(place for hunt in hunts.values() for place in hunt.places), waits, evictions)


class Scheduler:
    """`schedule` with a memory of its last answer, for cycles in which nothing changed."""

    def __init__(self) -> None:
        self._last: tuple[Snapshot, Decisions] | None = None

    def schedule(self, snapshot: Snapshot) -> Decisions:
        """Return what `schedule` would; at once when only time has passed and nothing was placed before.

        Time alone lets nobody start: it only brings reservations nearer.
        """
        if self._last is not None:
            before, decisions = self._last
            if (
                not decisions.places
                and not decisions.evictions
                and before == replace(snapshot, now=before.now)
            ):
                return decisions
        decisions = schedule(snapshot)
        self._last = (snapshot, decisions)
        return decisions
