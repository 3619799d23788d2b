"""In which order one shape wants the places that it may go to.

Pools of equal price form a tier; per shape and tier a heap keeps the cells that take one more task, least
loss of worth first (`fragmentation`). A heap reads the log of new cells when it is next asked, so a cell that
nobody asks about costs nothing.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from operator import sub

from fallow.scheduler.cells import FIRST_ACCELERATOR, Cell, Standing
from fallow.scheduler.fitting import Demand, Free
from fallow.scheduler.fragmentation import Worth
from fallow.scheduler.requirements import Obstacle
from fallow.scheduler.snapshot import Job, Shape


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pool that meets a shape's requirements, and its price."""

    price: int
    place: Standing


Entry = tuple[int, int, int, int, int, Cell]
"""Worth lost, accelerators and CPU free, pool, serial number (unique), cell: smallest first."""


class Tier:
    """Candidates of one price, and their cells in the order in which one shape wants them."""

    def __init__(
        self,
        candidates: Iterable[Candidate],
        request: Demand,
        *,
        width: int,
        worth_of: Callable[[Standing], Worth],
    ) -> None:
        self.candidates = {candidate.place.key: candidate for candidate in candidates}
        self._worth_of = worth_of
        self._request = request
        amounts = dict(request)
        self._cpu, self._memory = amounts.get(0, 0), amounts.get(1, 0)
        self._accelerators = tuple(amounts.get(at, 0) for at in range(FIRST_ACCELERATOR, width))
        self._heap: list[Entry] | None = None
        self._feeds: list[tuple[list[Cell], int]] = []

    def best(self) -> Cell | None:
        """Return the cell that the next task should go to; None when no node takes one."""
        heap = self._heap
        if heap is None:
            heap = self._heap = []
            for candidate in self.candidates.values():
                self._offer(heap, candidate.place.cells.values())
            logs = {id(one.place.log): one.place.log for one in self.candidates.values()}
            self._feeds = [(log, len(log)) for log in logs.values()]
        for at, (log, seen) in enumerate(self._feeds):
            if len(log) > seen:
                self._offer(heap, log[seen:])
                self._feeds[at] = (log, len(log))
        while heap and not heap[0][-1].nodes:
            heapq.heappop(heap)
        return heap[0][-1] if heap else None

    def set_aside(self) -> Entry:
        """Take the best cell out of the order: this job may not use it. Give it back with `restore`."""
        assert self._heap
        return heapq.heappop(self._heap)

    def restore(self, entries: Iterable[Entry]) -> None:
        """Put cells back that were set aside."""
        assert self._heap is not None
        for entry in entries:
            heapq.heappush(self._heap, entry)

    def _offer(self, heap: list[Entry], cells: Iterable[Cell]) -> None:
        request, candidates, loss = self._request, self.candidates, self.loss
        for cell in cells:
            place = cell.place
            if not cell.nodes or place.key not in candidates:
                continue
            free = cell.free
            for at, amount in request:
                if free[at] < amount:
                    break
            else:
                lost = loss(cell) if cell.accelerators else 0
                heapq.heappush(heap, (lost, cell.accelerators, free[0], place.key, cell.serial, cell))

    def loss(self, cell: Cell) -> int:
        """Return how much worth of a node one task takes away."""
        if not cell.accelerators:
            return 0
        free, worth = cell.free, cell.place.worth or self._worth_of(cell.place)
        if cell.worth is None:
            cell.worth = worth.of(free[0], free[1], free[FIRST_ACCELERATOR:])
        # One kind of accelerator is the usual case, and this is the hottest line of a cycle.
        asked = self._accelerators
        rest = (free[FIRST_ACCELERATOR] - asked[0],) if len(asked) == 1 else self._rest(free)
        return cell.worth - worth.of(free[0] - self._cpu, free[1] - self._memory, rest)

    def _rest(self, free: Free) -> tuple[int, ...]:
        return tuple(map(sub, free[FIRST_ACCELERATOR:], self._accelerators))


@dataclass(slots=True, eq=False)
class Outlook:
    """What a shape finds in a snapshot: pools that may take it by price, and what stands against the rest."""

    shape: Shape
    request: Demand
    tiers: tuple[Tier, ...]
    obstacles: Counter[Obstacle]
    """Nodes per obstacle."""
    away: dict[Obstacle, set[str]] = field(default_factory=dict)
    """Providers that would do, but take no new work or are not heard."""
    hopeless: dict[int, int] = field(default_factory=dict)
    """By time-out: size of the smallest gang that found no room anywhere."""
    notes: dict[tuple[bool, int], tuple[str, str, int, str, int | None]] = field(default_factory=dict)
    """What `explain` worked out for all such jobs of this shape."""
    full: bool = False
    """Whether no node took one more task when last asked: true for the rest of the cycle once it is."""

    def alike(self, job: Job, *, limits_guests: bool) -> bool:
        """Return whether what keeps the job from places is the same for every job of this shape."""
        return (
            not job.avoided_providers
            and not job.other_owners
            and job.shape.requirements.max_providers is None
            and not (job.gang and limits_guests)
        )

    def look_for_room(self) -> None:
        """Find out whether any node takes one more task: `full` from now on if none does."""
        self.full = all(tier.best() is None for tier in self.tiers)

    def candidates(self) -> Iterator[Candidate]:
        """Return the pools that may take the shape, cheapest first."""
        for tier in self.tiers:
            yield from tier.candidates.values()
