"""Where the tasks of one job go: the cheapest feasible pool first, packed tightly, split where needed.

`Capacity` is the cycle's working copy of what is free; it only shrinks, so a shape that found no room in a
pool finds none there for the rest of the cycle and is not asked again. A gang goes whole into one pool. All
other jobs take free slots wherever the next cheapest ones are; what then still waits is queued behind these
slots, in proportion and to a bounded depth (decision record 020).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from fallow.resources.ranges import EMPTY, IndexRanges
from fallow.scheduler.fitting import Room, copies, fewest, free_accelerators, less, tightest
from fallow.scheduler.requirements import Obstacle, first_obstacle, price_of
from fallow.scheduler.reservations import affordable, reserved, run_limit
from fallow.scheduler.snapshot import Job, Limits, Pool, Provider, Purse, Shape


@dataclass(frozen=True, slots=True)
class Assignment:
    """Tasks for one node, of which `slots` run at once."""

    node: str
    slots: int
    tasks: IndexRanges


@dataclass(frozen=True, slots=True)
class Place:
    """The decision to create one placement."""

    job_uid: str
    provider: str
    product: str
    price_per_task_hour: int
    run_seconds: int
    """Longest run of one task: the job's timeout or the Offer's limit, whichever is less."""
    assignments: tuple[Assignment, ...]

    @property
    def tasks(self) -> IndexRanges:
        """All tasks of the placement."""
        tasks = EMPTY
        for assignment in self.assignments:
            tasks |= assignment.tasks
        return tasks

    @property
    def reserved(self) -> int:
        """What it can cost at most."""
        return reserved(
            tasks=sum(len(assignment.tasks) for assignment in self.assignments),
            seconds=self.run_seconds,
            price_per_task_hour=self.price_per_task_hour,
        )


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pool that meets a shape's requirements, and its price."""

    price: int
    provider: Provider
    pool: Pool
    key: int
    """Position of the pool in the snapshot."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a shape finds in a snapshot: pools that may take it, and what stands against the other nodes."""

    candidates: tuple[Candidate, ...]
    obstacles: Counter[Obstacle]
    """Nodes per obstacle."""


@dataclass(slots=True)
class Answer:
    """What one job got, and what it met on the way."""

    places: list[Place] = field(default_factory=list)
    left: IndexRanges = EMPTY
    obstacles: Counter[Obstacle] = field(default_factory=Counter)
    short_of_money: int | None = None
    """Smallest reservation of one task (or the gang) that the money did not cover."""
    held_by_parallelism: bool = False


class Capacity:
    """What is free during one cycle: per node, per provider's guest limit and per purse."""

    def __init__(self, providers: Sequence[Provider], purses: Iterable[Purse]) -> None:
        self._pools: list[tuple[Provider, Pool]] = [(p, pool) for p in providers for pool in p.pools]
        self._free = [{node.name: node.free for node in pool.nodes} for _, pool in self._pools]
        self._guests = {provider.name: provider.guests_left for provider in providers}
        self._money = {purse.key: 0 if purse.problem else purse.available for purse in purses}
        self._outlooks: dict[Shape, Outlook] = {}
        self._exhausted: set[tuple[int, tuple[tuple[str, int], ...]]] = set()

    def outlook(self, shape: Shape) -> Outlook:
        """Return the pools that may take the shape, cheapest first; worked out once per shape."""
        known = self._outlooks.get(shape)
        if known is not None:
            return known
        candidates = []
        obstacles: Counter[Obstacle] = Counter()
        for key, (provider, pool) in enumerate(self._pools):
            obstacle = first_obstacle(shape, provider, pool)
            price = price_of(shape, pool)
            if obstacle is not None or price is None:
                obstacles[obstacle or Obstacle.UNPRICED] += len(pool.nodes)
            else:
                candidates.append(Candidate(price, provider, pool, key))
        candidates.sort(key=lambda one: (one.price, one.provider.name, one.pool.product, one.key))
        outlook = Outlook(tuple(candidates), obstacles)
        self._outlooks[shape] = outlook
        return outlook

    def rooms(self, candidate: Candidate, shape: Shape) -> list[Room]:
        """Return the pool's nodes with place for at least one task."""
        if (candidate.key, shape.request) in self._exhausted:
            return []
        free = self._free[candidate.key]
        rooms = [
            Room(node.name, fit, free_accelerators(free[node.name]))
            for node in candidate.pool.nodes
            if (fit := copies(free[node.name], shape.request))
        ]
        if not rooms:
            self._exhausted.add((candidate.key, shape.request))
        return rooms

    def guests_left(self, provider: str, most: int) -> int:
        """Return how many more guests the provider takes, at most `most`."""
        left = self._guests[provider]
        return most if left is None else max(0, min(most, left))

    def money(self, job: Job) -> int:
        """Return what the job may still reserve: the least of what its purses and its budget hold."""
        available = [self._money.get(purse, 0) for purse in job.purses]
        if job.budget_left is not None:
            available.append(job.budget_left)
        return min(available, default=0)

    def take(self, candidate: Candidate, shape: Shape, chosen: Iterable[tuple[str, int]]) -> None:
        """Take slots out of what is free."""
        free = self._free[candidate.key]
        total = 0
        for node, slots in chosen:
            free[node] = less(free[node], shape.request, slots)
            total += slots
        left = self._guests[candidate.provider.name]
        if left is not None:
            self._guests[candidate.provider.name] = left - total

    def reserve(self, purses: Iterable[str], amount: int) -> None:
        """Take money out of each of the purses."""
        for purse in purses:
            self._money[purse] = self._money.get(purse, 0) - amount


@dataclass(slots=True)
class _Draft:
    """Slots found in one pool, and the tasks that will go there."""

    candidate: Candidate
    chosen: list[tuple[str, int]]
    seconds: int
    queued: int = 0

    @property
    def slots(self) -> int:
        return sum(slots for _, slots in self.chosen)

    @property
    def cost_per_task(self) -> int:
        """Seconds times price, the numerator of a task's reservation."""
        return self.seconds * self.candidate.price


def place(job: Job, capacity: Capacity, limits: Limits) -> Answer:
    """Place what fits of a job now, and take it out of the capacity."""
    return _place_gang(job, capacity, limits) if job.gang else _place_tasks(job, capacity, limits)


def _place_gang(job: Job, capacity: Capacity, limits: Limits) -> Answer:
    outlook = capacity.outlook(job.shape)
    answer = Answer(left=job.pending, obstacles=Counter(outlook.obstacles))
    size = len(job.pending)
    for candidate in outlook.candidates:
        nodes = len(candidate.pool.nodes)
        if candidate.provider.name in job.avoided_providers:
            answer.obstacles[Obstacle.AVOIDED] += nodes
            continue
        if not _may_use(candidate.provider.name, job, ()):
            answer.obstacles[Obstacle.MAX_PROVIDERS] += nodes
            continue
        if (
            size > job.most_per_placement(limits)
            or capacity.guests_left(candidate.provider.name, size) < size
        ):
            answer.obstacles[Obstacle.GUEST_LIMIT] += nodes
            continue
        rooms = capacity.rooms(candidate, job.shape)
        chosen = fewest(rooms, size)
        if not chosen:
            answer.obstacles[Obstacle.GANG] += len(rooms)
            answer.obstacles[Obstacle.TOO_FEW_FREE] += nodes - len(rooms)
            continue
        seconds = run_limit(job.timeout_seconds, candidate.provider.max_run_seconds)
        cost = reserved(tasks=size, seconds=seconds, price_per_task_hour=candidate.price)
        if cost > capacity.money(job):
            answer.short_of_money = min(cost, answer.short_of_money or cost)
            continue
        capacity.take(candidate, job.shape, chosen)
        capacity.reserve(job.purses, cost)
        answer.places, answer.left = _assign(job, [_Draft(candidate, chosen, seconds)], limits)
        return answer
    return answer


def _place_tasks(job: Job, capacity: Capacity, limits: Limits) -> Answer:
    outlook = capacity.outlook(job.shape)
    answer = Answer(left=job.pending, obstacles=Counter(outlook.obstacles))
    waiting = len(job.pending)
    slots_wanted = waiting if job.slots_left is None else max(0, min(waiting, job.slots_left))
    answer.held_by_parallelism = slots_wanted == 0 and waiting > 0
    money = capacity.money(job)
    drafts: list[_Draft] = []
    for candidate in outlook.candidates:
        if slots_wanted <= 0:
            break
        nodes = len(candidate.pool.nodes)
        if candidate.provider.name in job.avoided_providers:
            answer.obstacles[Obstacle.AVOIDED] += nodes
            continue
        if not _may_use(candidate.provider.name, job, drafts):
            answer.obstacles[Obstacle.MAX_PROVIDERS] += nodes
            continue
        guests = capacity.guests_left(candidate.provider.name, slots_wanted)
        if guests <= 0:
            answer.obstacles[Obstacle.GUEST_LIMIT] += nodes
            continue
        rooms = capacity.rooms(candidate, job.shape)
        if not rooms:
            answer.obstacles[Obstacle.TOO_FEW_FREE] += nodes
            continue
        seconds = run_limit(job.timeout_seconds, candidate.provider.max_run_seconds)
        paid = affordable(available=money, seconds=seconds, price_per_task_hour=candidate.price, most=guests)
        if paid <= 0:
            one = reserved(tasks=1, seconds=seconds, price_per_task_hour=candidate.price)
            answer.short_of_money = min(one, answer.short_of_money or one)
            continue
        draft = _Draft(candidate, tightest(rooms, paid), seconds)
        capacity.take(candidate, job.shape, draft.chosen)
        drafts.append(draft)
        slots_wanted -= draft.slots
        waiting -= draft.slots
        # Rounded up: queueing splits a draft into several placements, each rounded by itself.
        money -= -(-draft.slots * draft.cost_per_task // 3600)
        if draft.slots == paid < guests:
            one = reserved(tasks=1, seconds=seconds, price_per_task_hour=candidate.price)
            answer.short_of_money = min(one, answer.short_of_money or one)
        elif slots_wanted > 0:
            full = Obstacle.GUEST_LIMIT if draft.slots == guests else Obstacle.TOO_FEW_FREE
            answer.obstacles[full] += nodes
    money = _queue(drafts, waiting, money, limits)
    answer.places, answer.left = _assign(job, drafts, limits)
    capacity.reserve(job.purses, sum(place.reserved for place in answer.places))
    return answer


def _may_use(provider: str, job: Job, drafts: Iterable[_Draft]) -> bool:
    """Return whether one more provider stays within `requirements.maxProviders`."""
    most = job.shape.requirements.max_providers
    used = job.providers_used | {draft.candidate.provider.name for draft in drafts}
    return most is None or provider in used or len(used) < most


def _queue(drafts: list[_Draft], waiting: int, money: int, limits: Limits) -> int:
    """Queue waiting tasks behind the slots just found, in proportion to them; returns the money left."""
    slots = sum(draft.slots for draft in drafts)
    depth = min(waiting, slots * limits.queue_per_slot)
    seen = given = 0
    for draft in drafts:
        seen += draft.slots
        share = depth * seen // slots - given
        share = affordable(
            available=money, seconds=draft.seconds, price_per_task_hour=draft.candidate.price, most=share
        )
        draft.queued = share
        given += share
        money -= -(-share * draft.cost_per_task // 3600)
    return money


def _assign(job: Job, drafts: Iterable[_Draft], limits: Limits) -> tuple[list[Place], IndexRanges]:
    """Deal indexes to nodes, lowest first, and cut the result into placements of bounded size."""
    places: list[Place] = []
    left = job.pending
    for draft in drafts:
        assignments: list[Assignment] = []
        size = 0
        slots_seen = queued_seen = 0
        for node, slots in draft.chosen:
            slots_seen += slots
            extra = draft.queued * slots_seen // draft.slots - queued_seen
            queued_seen += extra
            while slots > 0:
                room = job.most_per_placement(limits) - size
                if room <= 0:
                    places.append(_placement(job, draft, assignments))
                    assignments, size = [], 0
                    continue
                here = min(slots, room)
                queued = min(extra, room - here)
                tasks, left = left.take(here + queued)
                assignments.append(Assignment(node, here, tasks))
                size += here + queued
                slots -= here
                extra -= queued
        if assignments:
            places.append(_placement(job, draft, assignments))
    return places, left


def _placement(job: Job, draft: _Draft, assignments: list[Assignment]) -> Place:
    return Place(
        job_uid=job.uid,
        provider=draft.candidate.provider.name,
        product=draft.candidate.pool.product,
        price_per_task_hour=draft.candidate.price,
        run_seconds=draft.seconds,
        assignments=tuple(assignments),
    )
