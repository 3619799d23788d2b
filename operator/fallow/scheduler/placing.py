"""Where the tasks of one job go: the cheapest feasible place first, then where least worth is lost.

A job comes in turns (`fairness`): `Hunt` is what it has found so far. A gang goes whole into one pool. All
other jobs take free slots wherever the next cheapest ones are; when all turns are over, what still waits is
queued behind these slots, in proportion and to a bounded depth (decision record 020), and `finish` deals the
indexes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from fallow.resources.ranges import EMPTY, IndexRanges
from fallow.scheduler.capacity import Capacity
from fallow.scheduler.cells import Cell
from fallow.scheduler.fitting import copies, fewest
from fallow.scheduler.requirements import Obstacle
from fallow.scheduler.reservations import affordable, reserved, run_limit
from fallow.scheduler.snapshot import Job, Limits
from fallow.scheduler.tiers import Candidate, Outlook, Tier

MAX_WEIGHED_POOLS = 8
"""Pools of one price that a gang compares before it takes the best: all of them would cost pools × gangs."""


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


@dataclass(slots=True)
class Draft:
    """Slots found in one pool, and how many tasks queue behind them."""

    candidate: Candidate
    seconds: int
    """Longest run of one task there."""
    chosen: list[tuple[int, int]] = field(default_factory=list)
    """(position of the node, slots)."""
    slots: int = 0
    queued: int = 0
    may_queue: bool = True
    """False when it uses nodes that another job wants at a certain time."""

    def reserves(self, slots: int) -> int:
        """Return what so many slots reserve, rounded up: each part of a split draft is rounded by itself."""
        return -(-slots * self.seconds * self.candidate.price // 3600)


@dataclass(slots=True)
class Hunt:
    """What one job has found during a cycle, over all its turns."""

    job: Job
    outlook: Outlook
    waiting: int
    """Tasks without a slot."""
    slots_left: int
    """How many slots it may still take: tasks, and what parallelism lets run at once."""
    drafts: dict[int, Draft] = field(default_factory=dict)
    """By pool."""
    spent: int = 0
    """What the drafts reserve."""
    short_of_money: int | None = None
    """Smallest reservation of one task (or the gang) that the money did not cover."""
    short_of_quota: bool = False
    places: list[Place] = field(default_factory=list)
    left: IndexRanges = EMPTY
    starts_by: int | None = None
    """Unix time by which the nodes that it keeps for itself are free."""

    @classmethod
    def of(cls, job: Job, capacity: Capacity) -> Hunt:
        """Begin."""
        waiting = len(job.pending)
        slots = waiting if job.slots_left is None or job.gang else max(0, min(waiting, job.slots_left))
        return cls(job, capacity.outlook(job.shape), waiting, slots, left=job.pending)

    def money(self, capacity: Capacity) -> int:
        """Return what may still be reserved: the least of what its purses and its budget hold."""
        available = capacity.money(self.job)
        if self.job.budget_left is not None:
            available = min(available, self.job.budget_left - self.spent)
        # What further copies will cost is not reserved yet: so much has to be there for each of them too.
        return available if self.job.copies == 1 else available // self.job.copies

    def miss(self, amount: int) -> None:
        """Note a reservation that the money did not cover."""
        self.short_of_money = min(amount, self.short_of_money or amount)

    def may_use(self, provider: str) -> bool:
        """Return whether one more provider stays within `requirements.maxProviders`."""
        most = self.job.shape.requirements.max_providers
        if most is None:
            return True
        used = self.job.providers_used | {one.candidate.place.provider.name for one in self.drafts.values()}
        return provider in used or len(used) < most

    def barred(self, candidate: Candidate) -> Obstacle | None:
        """Return why this job, and not every job of its shape, keeps off a place; None when it does not."""
        provider = candidate.place.provider
        if provider.name in self.job.avoided_providers:
            return Obstacle.AVOIDED
        return Obstacle.OTHER_COPY if provider.owner in self.job.other_owners else None

    def run_seconds(self, candidate: Candidate) -> int:
        """Return how long one of its tasks may run at a place."""
        return run_limit(self.job.timeout_seconds, candidate.place.provider.max_run_seconds)


def hunt_gang(hunt: Hunt, capacity: Capacity, limits: Limits, *, now: int) -> int:
    """Find a place for a whole gang; returns the slots taken: all or 0."""
    size, job, request = hunt.waiting, hunt.job, hunt.outlook.request
    if capacity.slots_in_quotas(job, size) < size:
        hunt.short_of_quota = True
        return 0
    # Capacity only shrinks: where a gang found no room, neither does a larger one of the same kind.
    hopeless = hunt.outlook.hopeless
    if size >= hopeless.get(job.timeout_seconds, size + 1):
        return 0
    for tier in hunt.outlook.tiers:
        found: list[tuple[tuple[int, int, int], Candidate, list[tuple[Cell, int]]]] = []
        for candidate in tier.candidates.values():
            place = candidate.place
            if place.most.get(request, size) < size or not admits(hunt, candidate, capacity, limits):
                continue
            seconds = hunt.run_seconds(candidate)
            chosen = fewest(capacity.rooms(place, request, ends_at=now + seconds), size)
            if not chosen:
                continue
            cost = reserved(tasks=size, seconds=seconds, price_per_task_hour=candidate.price)
            if cost > hunt.money(capacity):
                hunt.miss(cost)
                continue
            loss = sum(tier.loss(cell) for cell, _ in chosen)
            found.append(((len(chosen), loss, place.key), candidate, chosen))
            if len(found) >= MAX_WEIGHED_POOLS:
                break
        if found:
            _, candidate, chosen = min(found, key=lambda one: one[0])
            for cell, slots in chosen:
                _take(hunt, candidate, cell, slots, capacity)
            return size
    if hunt.outlook.alike(job, limits_guests=capacity.limits_guests) and hunt.short_of_money is None:
        hopeless[job.timeout_seconds] = min(size, hopeless.get(job.timeout_seconds, size))
    return 0


def admits(hunt: Hunt, candidate: Candidate, capacity: Capacity, limits: Limits) -> bool:
    """Return whether a gang may use a place at all, room aside."""
    name = candidate.place.provider.name
    return (
        hunt.barred(candidate) is None
        and hunt.may_use(name)
        and hunt.waiting <= hunt.job.most_per_placement(limits)
        and capacity.guests_left(name, hunt.waiting) >= hunt.waiting
    )


def hunt_slots(hunt: Hunt, capacity: Capacity, *, most: int, now: int) -> int:
    """Find up to `most` free slots for single tasks, cheapest first; returns how many were taken."""
    wanted = min(most, hunt.slots_left)
    allowed = capacity.slots_in_quotas(hunt.job, wanted)
    hunt.short_of_quota = hunt.short_of_quota or allowed < wanted
    wanted = allowed
    taken = 0
    room = False
    for tier in hunt.outlook.tiers:
        if taken >= wanted:
            break
        aside = []
        while taken < wanted and (cell := tier.best()) is not None:
            slots = _slots_on(hunt, tier, cell, capacity, most=wanted - taken, now=now)
            if slots <= 0:
                aside.append(tier.set_aside())
                continue
            _take(hunt, tier.candidates[cell.place.key], cell, slots, capacity)
            taken += slots
        room = room or bool(aside)
        if aside:
            tier.restore(aside)
    if taken < wanted and not room:
        hunt.outlook.full = True
    return taken


def _slots_on(hunt: Hunt, tier: Tier, cell: Cell, capacity: Capacity, *, most: int, now: int) -> int:
    """Return how many slots the job may take on one node of a cell, at most `most`."""
    place, job = cell.place, hunt.job
    provider = place.provider
    if provider.name in job.avoided_providers or provider.owner in job.other_owners:
        return 0
    draft = hunt.drafts.get(place.key)
    if draft is None:
        if not hunt.may_use(provider.name):
            return 0
        candidate = tier.candidates[place.key]
        draft = Draft(candidate, hunt.run_seconds(candidate))
    if cell.until is not None and now + draft.seconds > cell.until:
        return 0
    slots = min(capacity.guests_left(provider.name, most), copies(cell.free, hunt.outlook.request))
    if slots <= 0:
        return 0
    money = hunt.money(capacity)
    if draft.reserves(draft.slots + slots) - draft.reserves(draft.slots) <= money:
        return slots
    # Rounded up as a whole, so one less than what rounding down would carry may be it.
    one = reserved(tasks=1, seconds=draft.seconds, price_per_task_hour=draft.candidate.price)
    hunt.miss(one)
    held = draft.reserves(draft.slots)
    paid = affordable(
        available=money + held,
        seconds=draft.seconds,
        price_per_task_hour=draft.candidate.price,
        most=draft.slots + slots,
    )
    while paid > draft.slots and draft.reserves(paid) > money + held:
        paid -= 1
    return max(0, paid - draft.slots)


def _take(hunt: Hunt, candidate: Candidate, cell: Cell, slots: int, capacity: Capacity) -> None:
    draft = hunt.drafts.get(candidate.place.key)
    if draft is None:
        draft = hunt.drafts[candidate.place.key] = Draft(candidate, hunt.run_seconds(candidate))
    cost = draft.reserves(draft.slots + slots) - draft.reserves(draft.slots)
    if cell.until is not None:
        draft.may_queue = False
    node = capacity.take(cell, hunt.job, hunt.outlook.request, slots, seconds=draft.seconds)
    if draft.chosen and draft.chosen[-1][0] == node:
        draft.chosen[-1] = (node, draft.chosen[-1][1] + slots)
    else:
        draft.chosen.append((node, slots))
    draft.slots += slots
    hunt.spent += cost
    hunt.waiting -= slots
    hunt.slots_left -= slots
    capacity.reserve(hunt.job.purses, cost)


def finish(hunt: Hunt, capacity: Capacity, limits: Limits) -> None:
    """Queue what waits behind the slots found, deal the indexes and give back what was reserved too much."""
    if not hunt.drafts:
        return
    drafts = list(hunt.drafts.values())
    if hunt.waiting and not hunt.job.gang and limits.queue_per_slot:
        _queue(drafts, hunt.waiting, hunt.money(capacity), limits)
    hunt.places, hunt.left = _assign(hunt.job, drafts, limits)
    capacity.reserve(hunt.job.purses, sum(place.reserved for place in hunt.places) - hunt.spent)


def _queue(drafts: list[Draft], waiting: int, money: int, limits: Limits) -> None:
    """Queue waiting tasks behind the slots just found, in proportion to them."""
    drafts = [draft for draft in drafts if draft.may_queue]
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
        money -= draft.reserves(share)


def _assign(job: Job, drafts: Iterable[Draft], limits: Limits) -> tuple[list[Place], IndexRanges]:
    """Deal indexes to nodes, lowest first, and cut the result into placements of bounded size."""
    places: list[Place] = []
    left = job.pending
    most = job.most_per_placement(limits)
    for draft in drafts:
        assignments: list[Assignment] = []
        size = 0
        slots_seen = queued_seen = 0
        nodes = draft.candidate.place.pool.nodes
        for node, slots in _merged(draft.chosen):
            slots_seen += slots
            extra = draft.queued * slots_seen // draft.slots - queued_seen
            queued_seen += extra
            while slots > 0:
                room = most - size
                if room <= 0:
                    places.append(_placement(job, draft, assignments))
                    assignments, size = [], 0
                    continue
                here = min(slots, room)
                queued = min(extra, room - here)
                tasks, left = left.take(here + queued)
                assignments.append(Assignment(nodes[node].name, here, tasks))
                size += here + queued
                slots -= here
                extra -= queued
        if assignments:
            places.append(_placement(job, draft, assignments))
    return places, left


def _merged(chosen: list[tuple[int, int]]) -> Iterable[tuple[int, int]]:
    """Return each node once, in the order of its first slots: later turns may have come back to it."""
    if len(chosen) == 1:
        return chosen
    slots: dict[int, int] = {}
    for node, count in chosen:
        slots[node] = slots.get(node, 0) + count
    return slots.items()


def obstacles(hunt: Hunt, capacity: Capacity, limits: Limits, *, now: int) -> dict[Obstacle, int]:
    """Count for each obstacle the nodes that it keeps from the job, as the cycle leaves them."""
    counts: dict[Obstacle, int] = dict(hunt.outlook.obstacles)

    def count(obstacle: Obstacle, nodes: int) -> None:
        if nodes > 0:
            counts[obstacle] = counts.get(obstacle, 0) + nodes

    for candidate in hunt.outlook.candidates():
        place, nodes = candidate.place, len(candidate.place.pool.nodes)
        name = place.provider.name
        if (barred := hunt.barred(candidate)) is not None:
            count(barred, nodes)
        elif not hunt.may_use(name):
            count(Obstacle.MAX_PROVIDERS, nodes)
        elif capacity.guests_left(name, 1) <= 0 or (
            hunt.job.gang and not admits(hunt, candidate, capacity, limits)
        ):
            count(Obstacle.GUEST_LIMIT, nodes)
        else:
            survey = capacity.survey(place, hunt.outlook.request)
            ends_at = now + hunt.run_seconds(candidate)
            in_time = sum(some for until, some in survey.kept if ends_at <= until)
            kept = sum(some for _, some in survey.kept) - in_time
            room = survey.open + in_time
            count(Obstacle.GANG if hunt.job.gang else Obstacle.TOO_FEW_FREE, room)
            count(Obstacle.RESERVED, kept)
            count(Obstacle.TOO_FEW_FREE, nodes - room - kept)
    return counts


def _placement(job: Job, draft: Draft, assignments: list[Assignment]) -> Place:
    return Place(
        job_uid=job.uid,
        provider=draft.candidate.place.provider.name,
        product=draft.candidate.place.pool.product,
        price_per_task_hour=draft.candidate.price,
        run_seconds=draft.seconds,
        assignments=tuple(assignments),
    )
