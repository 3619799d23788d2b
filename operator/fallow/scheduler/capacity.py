"""What is free during one cycle, indexed so that a task finds its place without asking every node.

Nodes of a pool with exactly the same free amounts are one `Cell`: what is worked out about one of them
holds for all. Pools of equal price (to a shape) form a tier; per shape and tier a heap keeps the cells that
take one more task, least loss of worth first (`fragmentation`). Capacity only shrinks within a cycle, so
cells only split: a new cell is logged once, heaps read the log when they are next asked, and an emptied
cell never returns. A cycle so costs in the order of cells met and tasks placed, not of nodes × jobs.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from operator import sub

from fallow.scheduler.fitting import Demand, Free, Room, copies, less, vector
from fallow.scheduler.fragmentation import MAX_SHAPES, Kind, Worth
from fallow.scheduler.requirements import Obstacle, Terms
from fallow.scheduler.snapshot import CPU, MEMORY, NATIVE, PODS, STORAGE, Job, Pool, Provider, Shape, Snapshot

NATIVES = (CPU, MEMORY, STORAGE, PODS)
_FIRST_ACCELERATOR = len(NATIVES)


class Cell:
    """Nodes of one pool with the same free amounts, and the same reservation on them."""

    __slots__ = ("accelerators", "free", "nodes", "place", "serial", "until", "worth")

    def __init__(self, place: Standing, free: Free, until: int | None, serial: int) -> None:
        self.place = place
        self.free = free
        self.until = until
        """Unix time at which a waiting job wants these nodes; None when nobody does."""
        self.serial = serial
        self.nodes: list[int] = []
        """Positions in the pool, a heap; empty means that the cell is gone for good."""
        self.accelerators = sum(amount for amount in free[_FIRST_ACCELERATOR:] if amount > 0)
        self.worth: int | None = None


@dataclass(frozen=True, slots=True)
class Survey:
    """What a pool has for one more task."""

    open: int
    """Nodes that take it now."""
    kept: tuple[tuple[int, int], ...]
    """(until, nodes) of those that would, but are reserved."""
    copies: int
    """How many such tasks all of them take together."""
    most_accelerators: int
    """Free on one node."""


@dataclass(slots=True, eq=False)
class Standing:
    """A pool during a cycle."""

    key: int
    """Position in the snapshot."""
    provider: Provider
    pool: Pool
    log: list[Cell]
    """Every cell ever made in the pools of this product."""
    cells: dict[tuple[Free, int | None], Cell] = field(default_factory=dict)
    takes: list[tuple[Demand, int, int, int]] = field(default_factory=list)
    """(request, node, slots, seconds) given away in this cycle."""
    worth: Worth | None = None
    surveys: dict[Demand, tuple[int, Survey]] = field(default_factory=dict)
    """With the number of cells ever made when it was taken."""
    most: dict[Demand, int] = field(default_factory=dict)
    """Most copies that were ever found here: an upper bound, since capacity only shrinks."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pool that meets a shape's requirements, and its price."""

    price: int
    place: Standing


Entry = tuple[int, int, int, int, int, Cell]
"""Worth lost, accelerators and CPU free, pool, serial number (unique), cell: smallest first."""


class Tier:
    """Candidates of one price, and their cells in the order in which one shape wants them."""

    def __init__(self, capacity: Capacity, request: Demand, candidates: list[Candidate]) -> None:
        self.candidates = {candidate.place.key: candidate for candidate in candidates}
        self._capacity = capacity
        self._request = request
        amounts = dict(request)
        self._cpu, self._memory = amounts.get(0, 0), amounts.get(1, 0)
        self._accelerators = tuple(amounts.get(at, 0) for at in range(_FIRST_ACCELERATOR, capacity.width))
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
        request, candidates = self._request, self.candidates
        for cell in cells:
            if not cell.nodes or cell.place.key not in candidates:
                continue
            free = cell.free
            for at, amount in request:
                if free[at] < amount:
                    break
            else:
                lost = self.loss(cell)
                heapq.heappush(heap, (lost, cell.accelerators, free[0], cell.place.key, cell.serial, cell))

    def loss(self, cell: Cell) -> int:
        """Return how much worth of a node one task takes away."""
        if not cell.accelerators:
            return 0
        free, worth = cell.free, cell.place.worth or self._capacity.worth(cell.place)
        if cell.worth is None:
            cell.worth = worth.of(free[0], free[1], free[_FIRST_ACCELERATOR:])
        rest = tuple(map(sub, free[_FIRST_ACCELERATOR:], self._accelerators))
        return cell.worth - worth.of(free[0] - self._cpu, free[1] - self._memory, rest)


@dataclass(slots=True, eq=False)
class Outlook:
    """What a shape finds in a snapshot: pools that may take it by price, and what stands against the rest."""

    shape: Shape
    request: Demand
    tiers: tuple[Tier, ...]
    obstacles: Counter[Obstacle]
    """Nodes per obstacle."""
    hopeless: dict[int, int] = field(default_factory=dict)
    """By time-out: size of the smallest gang that found no room anywhere."""
    notes: dict[tuple[bool, int], tuple[str, str, int, str]] = field(default_factory=dict)
    """What `explain` worked out for all such jobs of this shape."""

    def alike(self, job: Job, capacity: Capacity) -> bool:
        """Return whether what keeps the job from places is the same for every job of this shape."""
        return (
            not job.avoided_providers
            and job.shape.requirements.max_providers is None
            and not (job.gang and capacity.limits_guests)
        )

    def candidates(self) -> Iterator[Candidate]:
        """Return the pools that may take the shape, cheapest first."""
        for tier in self.tiers:
            yield from tier.candidates.values()


class Capacity:
    """What is free during one cycle: per node, per provider's guest limit, per purse and per quota."""

    def __init__(self, snapshot: Snapshot) -> None:
        providers = snapshot.providers
        names = {
            name
            for provider in providers
            for pool in provider.pools
            for node in pool.nodes
            for name in node.free
            if name not in NATIVE
        } | {name for job in snapshot.jobs for name, _ in job.shape.accelerators}
        self._names = (*NATIVES, *sorted(names))
        self._dimensions = {name: at for at, name in enumerate(self._names)}
        self.width = len(self._names)
        self._serial = 0
        logs: dict[str, list[Cell]] = {}
        self.places = [
            Standing(key, provider, pool, logs.setdefault(pool.product, []))
            for key, (provider, pool) in enumerate((p, pool) for p in providers for pool in p.pools)
        ]
        for place in self.places:
            for at, node in enumerate(place.pool.nodes):
                self._cell(place, vector(node.free, self._names), None).nodes.append(at)
        self.nodes = sum(len(place.pool.nodes) for place in self.places)
        self.limits_guests = any(provider.guests_left is not None for provider in providers)
        self._guests = {provider.name: provider.guests_left for provider in providers}
        self._money = {purse.key: 0 if purse.problem else purse.available for purse in snapshot.purses}
        self._quotas = {quota.key: quota.accelerators_left for quota in snapshot.quotas}
        self._outlooks: dict[Shape, Outlook] = {}
        self._requests: dict[tuple[tuple[str, int], ...], Demand] = {}
        # Then jobs that differ in nothing but who pays are one shape.
        self._open_to_all = all(p.accounts_allowed == ("*",) and not p.accounts_refused for p in providers)
        self._terms = Terms([(place.provider, place.pool) for place in self.places])
        self._workload = snapshot.workload or _asked_for(snapshot.jobs)
        self._kinds: list[tuple[frozenset[int], Kind]] | None = None
        self._worths: dict[tuple[int, ...], Worth] = {}

    def total(self) -> Mapping[str, int]:
        """Return what all nodes offer together, by resource name."""
        total: Counter[str] = Counter()
        for place in self.places:
            for node in place.pool.nodes:
                total.update(node.offerable)
        return total

    def outlook(self, shape: Shape) -> Outlook:
        """Return the pools that may take the shape, cheapest first; worked out once per shape."""
        known = self._outlooks.get(shape)
        if known is None:
            anyone = replace(shape, account="") if self._open_to_all and shape.account else shape
            known = self._outlooks.get(anyone) or self._look(anyone)
            self._outlooks[shape] = self._outlooks[anyone] = known
        return known

    def _look(self, shape: Shape) -> Outlook:
        by_price: dict[int, list[Candidate]] = {}
        obstacles: Counter[Obstacle] = Counter()
        for place, (obstacle, price) in zip(self.places, self._terms.judge(shape), strict=True):
            if obstacle is not None or price is None:
                obstacles[obstacle or Obstacle.UNPRICED] += len(place.pool.nodes)
            else:
                by_price.setdefault(price, []).append(Candidate(price, place))
        request = self.demand(shape)
        tiers = tuple(Tier(self, request, by_price[price]) for price in sorted(by_price)) if request else ()
        return Outlook(shape, request, tiers, obstacles)

    def impossible(self, shape: Shape) -> tuple[Obstacle, ...]:
        """Return the requirements that, each taken alone, no pool meets."""
        return self._terms.impossible(shape)

    def demand(self, shape: Shape) -> Demand:
        """Return a shape's request by dimension, without what it asks none of."""
        return self.dimensioned(shape.request)

    def dimensioned(self, request: tuple[tuple[str, int], ...]) -> Demand:
        """Return a request by dimension; a resource that nobody knows cannot be asked for here."""
        known = self._requests.get(request)
        if known is None:
            known = tuple(sorted((self._dimensions[name], amount) for name, amount in request if amount > 0))
            self._requests[request] = known
        return known

    def free_of(self, amounts: Mapping[str, int]) -> Free:
        """Return amounts by name as a vector of this cycle."""
        return vector(amounts, self._names)

    def rooms(self, place: Standing, request: Demand, *, ends_at: int) -> list[Room[Cell]]:
        """Return the pool's cells with nodes for at least one task that is over at `ends_at`."""
        rooms = [
            Room(cell, fit, cell.accelerators, len(cell.nodes))
            for cell in place.cells.values()
            if (cell.until is None or ends_at <= cell.until) and (fit := copies(cell.free, request))
        ]
        place.most[request] = sum(room.copies * room.nodes for room in rooms)
        return rooms

    def survey(self, place: Standing, request: Demand) -> Survey:
        """Return what a pool has for a request now."""
        known = place.surveys.get(request)
        if known is None or known[0] != self._serial:
            open_ = total = accelerators = 0
            kept: dict[int, int] = {}
            for cell in place.cells.values():
                accelerators = max(accelerators, cell.accelerators)
                if fit := copies(cell.free, request):
                    total += fit * len(cell.nodes)
                    if cell.until is None:
                        open_ += len(cell.nodes)
                    else:
                        kept[cell.until] = kept.get(cell.until, 0) + len(cell.nodes)
            survey = Survey(open_, tuple(sorted(kept.items())), total, accelerators)
            known = place.surveys[request] = (self._serial, survey)
        return known[1]

    def worth(self, place: Standing) -> Worth:
        """Return what free capacity of a pool is worth to the workload."""
        if place.worth is None:
            if self._kinds is None:
                self._kinds = self._weigh()
            here = tuple(at for at, (keys, _) in enumerate(self._kinds) if place.key in keys)
            if here not in self._worths:
                self._worths[here] = Worth([self._kinds[at][1] for at in here])
            place.worth = self._worths[here]
        return place.worth

    def _weigh(self) -> list[tuple[frozenset[int], Kind]]:
        """Return the workload's shapes with the pools that take them, dearer where few do."""
        sizes: dict[int, Counter[Free]] = {
            place.key: Counter(vector(node.offerable, self._names) for node in place.pool.nodes)
            for place in self.places
        }
        fleet = sum(
            sum(size[_FIRST_ACCELERATOR:]) * count for some in sizes.values() for size, count in some.items()
        )
        common = sorted(
            ((shape, count) for shape, count in self._workload if shape.accelerators and count > 0),
            key=lambda one: (-one[1], one[0].request, repr(one[0].requirements)),
        )[:MAX_SHAPES]
        total = sum(count for _, count in common)
        kinds = []
        for shape, count in common:
            try:
                request = self.demand(shape)
            except KeyError:
                continue  # asks for a kind of accelerator that nobody offers any more
            amounts = dict(request)
            at, number = max(
                ((d, amount) for d, amount in request if d >= _FIRST_ACCELERATOR), key=lambda one: one[1]
            )
            keys = frozenset(candidate.place.key for candidate in self.outlook(shape).candidates())
            supply = number * sum(
                copies(size, request) * nodes for key in keys for size, nodes in sizes[key].items()
            )
            kinds.append(
                (
                    keys,
                    Kind(
                        accelerator=at - _FIRST_ACCELERATOR,
                        count=number,
                        cpu=amounts.get(0, 1),
                        memory=amounts.get(1, 1),
                        weight=count / total * fleet / max(1, supply),
                    ),
                )
            )
        return kinds

    def guests_left(self, provider: str, most: int) -> int:
        """Return how many more guests the provider takes, at most `most`."""
        left = self._guests[provider]
        return most if left is None else max(0, min(most, left))

    def money(self, job: Job) -> int:
        """Return what the least of a job's purses holds; its own budget is not looked at."""
        purses = job.purses
        if len(purses) == 1:
            return self._money.get(purses[0], 0)
        return min((self._money.get(purse, 0) for purse in purses), default=0)

    def slots_in_quotas(self, job: Job, most: int) -> int:
        """Return how many more slots the job's quotas allow, at most `most`."""
        if not job.quotas:
            return most
        each = sum(amount for _, amount in job.shape.accelerators)
        if not each:
            return most
        left = min(self._quotas.get(key, 0) for key in job.quotas)
        return max(0, min(most, left // each))

    def take(self, cell: Cell, job: Job, request: Demand, slots: int, *, seconds: int) -> int:
        """Take slots on one node of a cell, for at most `seconds`; returns the node's position."""
        place = cell.place
        node = heapq.heappop(cell.nodes)
        if not cell.nodes:
            del place.cells[(cell.free, cell.until)]
        heapq.heappush(self._cell(place, less(cell.free, request, slots), cell.until).nodes, node)
        place.takes.append((request, node, slots, seconds))
        left = self._guests[place.provider.name]
        if left is not None:
            self._guests[place.provider.name] = left - slots
        if job.quotas:
            each = sum(amount for _, amount in job.shape.accelerators)
            for key in job.quotas:
                self._quotas[key] = self._quotas.get(key, 0) - each * slots
        return node

    def keep(self, place: Standing, nodes: frozenset[int], until: int) -> None:
        """Reserve nodes from `until` on: before, only what is over by then may still start there."""
        for cell in list(place.cells.values()):
            kept = [node for node in cell.nodes if node in nodes]
            if not kept or cell.until is not None:
                continue
            rest = [node for node in cell.nodes if node not in nodes]
            cell.nodes = []
            del place.cells[(cell.free, None)]
            if rest:
                # A new cell: heaps that hold the old one find it gone and this one in the log.
                self._cell(place, cell.free, None).nodes.extend(rest)
            new = self._cell(place, cell.free, until).nodes
            new.extend(kept)
            new.sort()

    def reserve(self, purses: Iterable[str], amount: int) -> None:
        """Take money out of each of the purses."""
        for purse in purses:
            self._money[purse] = self._money.get(purse, 0) - amount

    def _cell(self, place: Standing, free: Free, until: int | None) -> Cell:
        cell = place.cells.get((free, until))
        if cell is None:
            self._serial += 1
            cell = place.cells[(free, until)] = Cell(place, free, until, self._serial)
            place.log.append(cell)
        return cell


def _asked_for(jobs: Iterable[Job]) -> tuple[tuple[Shape, int], ...]:
    counts: Counter[Shape] = Counter()
    for job in jobs:
        counts[job.shape] += len(job.pending)
    return tuple(counts.items())
