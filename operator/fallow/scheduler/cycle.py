"""One scheduling cycle, readable from top to bottom.

Order is priority, then age (fair share between accounts comes with the fleet). Jobs that are over go through
the same steps as jobs that fit: what they did not get is explained, not dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

from fallow.scheduler.explain import Wait, explain
from fallow.scheduler.placing import Answer, Capacity, Place, place
from fallow.scheduler.snapshot import Job, Snapshot


@dataclass(frozen=True, slots=True)
class Decisions:
    """What to do: placements to create, and for each job that still waits, why."""

    places: tuple[Place, ...]
    waits: dict[str, Wait]
    """By job UID."""


def schedule(snapshot: Snapshot) -> Decisions:
    """Decide which waiting tasks run where. Pure: equal snapshots give equal decisions."""
    # 1. Work on a copy of what is free; it only shrinks from here.
    capacity = Capacity(snapshot.providers, snapshot.purses)
    problems = {purse.key: purse.problem for purse in snapshot.purses if purse.problem}
    places: list[Place] = []
    waits: dict[str, Wait] = {}

    # 2. Jobs in order: priority, then age; the UID only makes the order total.
    for job in sorted(snapshot.jobs, key=_order):
        if not job.pending:
            continue
        # 3. No money may be drawn at all: say so and look no further.
        problem = next((problems[purse] for purse in job.purses if purse in problems), None)
        if problem is not None:
            waits[job.uid] = Wait(problem, "Account")
            continue
        # 4. Place what fits now; this takes capacity and money away from the jobs behind.
        answer: Answer = place(job, capacity, snapshot.limits)
        places.extend(answer.places)
        # 5. What is left waits; say why, in one sentence.
        if answer.left:
            waits[job.uid] = explain(job, answer, snapshot)
    return Decisions(tuple(places), waits)


def _order(job: Job) -> tuple[int, int, str]:
    return (-job.priority, job.created, job.uid)
