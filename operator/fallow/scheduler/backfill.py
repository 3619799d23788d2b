"""What keeps a large job from waiting for ever: nodes that it keeps for itself, around which others backfill.

The first waiting gangs and large tasks, in order, each choose the pool where they could start earliest if
everything that runs used its whole time-out, and keep the nodes that they would start on. Until then these
nodes take only what is over in time (EASY backfilling, Lifka '95, with time-outs for run times, so the start
can come earlier than said but never later, unless an owner takes capacity back).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fallow.scheduler.capacity import Capacity
from fallow.scheduler.cells import Standing
from fallow.scheduler.fitting import Demand, Free, copies, less
from fallow.scheduler.placing import Hunt, admits
from fallow.scheduler.snapshot import Job, Limits, Running
from fallow.scheduler.tiers import Candidate

LARGE_TASK_ACCELERATORS = 2
"""Single tasks that want this many accelerators of one node wait like gangs do."""
MAX_ESTIMATES = 8
"""Of so many shapes a cycle estimates when they find room."""
MOMENT_SECONDS = 60
"""What is over its usual time is about to end."""
MAX_POOLS = 32
"""Most pools that one waiting job weighs, the cheapest ones."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Where and when a waiting job could start."""

    starts_at: int
    candidate: Candidate
    nodes: frozenset[int]


class Backfill:
    """Reservations of one cycle."""

    def __init__(self, capacity: Capacity, running: Iterable[Running], limits: Limits, *, now: int) -> None:
        self._capacity = capacity
        self._limits = limits
        self._now = now
        self._left = limits.reservations
        self._estimates = MAX_ESTIMATES
        self._running: dict[tuple[str, str], list[Running]] = {}
        for one in running:
            self._running.setdefault((one.provider, one.node), []).append(one)

    def may_reserve(self) -> bool:
        """Return whether a large job could still get nodes of its own to wait for."""
        return self._left > 0

    def reserve(self, hunt: Hunt) -> None:
        """Keep nodes for a job that found no room, if it is one that others could starve."""
        if self._left <= 0 or hunt.drafts or hunt.short_of_quota or hunt.short_of_money is not None:
            return
        if not hunt.outlook.request or not hunt.slots_left or not is_large(hunt.job):
            return
        plan = self._plan(hunt)
        if plan is None:
            return
        self._left -= 1
        hunt.starts_by = plan.starts_at
        self._capacity.keep(plan.candidate.place, plan.nodes, plan.starts_at)

    def soonest(self, hunt: Hunt) -> int | None:
        """Return when a job will find room if tasks take as long as usual; None when nobody can say.

        Told of a few shapes a cycle only, the first ones in order.
        """
        if self._estimates <= 0 or not self._running or not hunt.outlook.request:
            return None
        self._estimates -= 1
        plan = self._plan(hunt, usual=True)
        return None if plan is None else plan.starts_at

    def _plan(self, hunt: Hunt, *, usual: bool = False) -> Plan | None:
        best: Plan | None = None
        for seen, candidate in enumerate(hunt.outlook.candidates()):
            if seen >= MAX_POOLS:
                break
            name = candidate.place.provider.name
            if hunt.barred(candidate) is not None or not hunt.may_use(name):
                continue
            if hunt.job.gang and not admits(hunt, candidate, self._capacity, self._limits):
                continue
            before = best.starts_at if best else None
            plan = self._earliest(hunt, candidate, before=before, usual=usual)
            best = plan or best
        return best

    def _earliest(self, hunt: Hunt, candidate: Candidate, *, before: int | None, usual: bool) -> Plan | None:
        """Return the earliest start in one pool; None when there is none, or none before `before`."""
        place, request = candidate.place, hunt.outlook.request
        wanted = hunt.waiting if hunt.job.gang else 1
        free: dict[int, Free] = {
            node: cell.free for cell in place.cells.values() if cell.until is None for node in cell.nodes
        }
        fit = {node: copies(amounts, request) for node, amounts in free.items()}
        total = sum(fit.values())
        for ends_at, node, released in sorted(self._releases(place, usual=usual)):
            if node not in free:
                continue  # kept for somebody before us
            if before is not None and ends_at >= before:
                return None
            free[node] = tuple(a + b for a, b in zip(free[node], released, strict=True))
            more = copies(free[node], request)
            total += more - fit[node]
            fit[node] = more
            if total >= wanted:
                return Plan(max(ends_at, self._now), candidate, _emptiest(fit, wanted))
        return None

    def _releases(self, place: Standing, *, usual: bool) -> Iterator[tuple[int, int, Free]]:
        """Yield (Unix time, node, what is free then) for all that holds capacity in a pool."""
        nothing = self._capacity.free_of({})
        for at, node in enumerate(place.pool.nodes):
            for one in self._running.get((place.provider.name, node.name), ()):
                ends_at = one.ends_at
                if usual and one.usual_end is not None:
                    ends_at = max(one.usual_end, self._now + MOMENT_SECONDS)
                yield (
                    ends_at,
                    at,
                    self._capacity.free_of({name: amount * one.slots for name, amount in one.request}),
                )
        queue = 1 + self._limits.queue_per_slot
        for request, at, slots, seconds in place.takes:
            yield self._now + seconds * queue, at, less(nothing, _negated(request), slots)


def _negated(request: Demand) -> Demand:
    return tuple((at, -amount) for at, amount in request)


def _emptiest(fit: dict[int, int], wanted: int) -> frozenset[int]:
    """Return the fewest nodes that take so many tasks."""
    nodes = []
    for node, takes in sorted(fit.items(), key=lambda one: (-one[1], one[0])):
        if wanted <= 0:
            break
        nodes.append(node)
        wanted -= takes
    return frozenset(nodes)


def is_large(job: Job) -> bool:
    """Return whether small jobs could starve it."""
    return job.gang or sum(amount for _, amount in job.shape.accelerators) >= LARGE_TASK_ACCELERATORS
