"""What is free during one cycle: of nodes, of providers' guest limits, of purses and of quotas.

It only shrinks. Nodes that look alike are looked at once (`cells`), and every shape asks only about what is
new since it last asked (`tiers`), so a cycle costs in the order of cells met and tasks placed, not of nodes
× jobs.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from fallow.scheduler.cells import NATIVES, Cell, Standing, Survey
from fallow.scheduler.fitting import Demand, Free, Room, copies, less, vector
from fallow.scheduler.fragmentation import Kind, Worth
from fallow.scheduler.requirements import Obstacle, Terms
from fallow.scheduler.snapshot import NATIVE, Job, Shape, Snapshot
from fallow.scheduler.tiers import Candidate, Outlook, Tier
from fallow.scheduler.workload import asked_for, weigh


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
        } | {name for shape in _shapes(snapshot.jobs) for name, _ in shape.accelerators}
        self._names = (*NATIVES, *sorted(names))
        self._dimensions = {name: at for at, name in enumerate(self._names)}
        self._width = len(self._names)
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
        self._workload = snapshot.workload or asked_for(snapshot.jobs)
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
        away: dict[Obstacle, set[str]] = {}
        for place, (obstacle, price) in zip(self.places, self._terms.judge(shape), strict=True):
            if obstacle is not None or price is None:
                obstacles[obstacle or Obstacle.UNPRICED] += len(place.pool.nodes)
                if obstacle in (Obstacle.PROVIDER_REFUSES, Obstacle.UNREACHABLE):
                    away.setdefault(obstacle, set()).add(place.provider.name)
            else:
                by_price.setdefault(price, []).append(Candidate(price, place))
        request = self.demand(shape.request)
        tiers = tuple(
            Tier(by_price[price], request, width=self._width, worth_of=self.worth)
            for price in sorted(by_price)
            if request
        )
        return Outlook(shape, request, tiers, obstacles, away)

    def impossible(self, shape: Shape) -> tuple[Obstacle, ...]:
        """Return the requirements that, each taken alone, no pool meets."""
        return self._terms.impossible(shape)

    def demand(self, request: tuple[tuple[str, int], ...]) -> Demand:
        """Return a request by dimension, without what it asks none of.

        Raises KeyError for a resource that neither a node nor a waiting job names.
        """
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
                self._kinds = weigh(self, self._workload)
            here = tuple(at for at, (keys, _) in enumerate(self._kinds) if place.key in keys)
            if here not in self._worths:
                self._worths[here] = Worth([self._kinds[at][1] for at in here])
            place.worth = self._worths[here]
        return place.worth

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


def _shapes(jobs: Iterable[Job]) -> Iterable[Shape]:
    """Return the shapes of jobs; many jobs share the very same one."""
    return {id(job.shape): job.shape for job in jobs}.values()
