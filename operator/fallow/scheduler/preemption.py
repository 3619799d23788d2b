"""Which guests of lower priority give way to a job that found no room: the cheapest ones that make it fit.

Only strictly lower priorities, only as many tasks of an account as its limit leaves, and a gang as a whole or
not at all. What was asked to leave and has not left yet counts as free already, so that nobody is asked
twice for the same room. The order of costs: the highest priority touched, then the work that is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product

from fallow.scheduler.capacity import Capacity
from fallow.scheduler.fitting import Demand, Free, copies
from fallow.scheduler.placing import Hunt, admits
from fallow.scheduler.snapshot import Snapshot, Victim
from fallow.scheduler.tiers import Candidate

MAX_POOLS = 32
"""Most pools that one waiting job weighs, the cheapest ones."""
MAX_SLOTS = 64
"""Most slots that one cycle takes away for one job."""
MAX_TRIED = 512
"""Most combinations of victims on a node that are compared; beyond, the cheapest are taken one by one."""

Place = tuple[str, str]
"""(provider, node)."""
Cost = tuple[int, int, int]
"""Highest priority touched, work lost, slots: less is better."""
NOTHING: Cost = (-(2**31), 0, 0)


@dataclass(frozen=True, slots=True)
class Eviction:
    """The decision to take slots of a placement away on one node."""

    placement: str
    node: str
    slots: int
    for_job: str
    """UID of the job that gets the room."""


@dataclass(slots=True)
class Board:
    """What is free and who could go, as decisions change it."""

    free: dict[Place, Free]
    victims: dict[Place, dict[str, Victim]]
    """By place and placement; `slots` is what is left of them."""
    allowed: dict[str, int]
    """Tasks that each account may still lose."""
    taken: dict[tuple[str, str], int] = field(default_factory=dict)
    """Slots taken away, by placement and node."""

    def copy(self) -> Board:
        """Return an independent copy, to try something out."""
        return Board(
            dict(self.free),
            {place: dict(some) for place, some in self.victims.items()},
            dict(self.allowed),
            dict(self.taken),
        )


def preempt(hunts: Iterable[Hunt], capacity: Capacity, snapshot: Snapshot) -> tuple[Eviction, ...]:
    """Return who gives way to the jobs that wait, those that had their turn first served first."""
    if not snapshot.victims:
        return ()
    board = _board(capacity, snapshot)
    found: list[Eviction] = []
    for hunt in hunts:
        if not _waits_for_room(hunt):
            continue
        after = (
            _for_gang(hunt, board, capacity, snapshot) if hunt.job.gang else _for_tasks(hunt, board, capacity)
        )
        if after is None:
            continue
        for (placement, node), slots in sorted(after.taken.items()):
            more = slots - board.taken.get((placement, node), 0)
            if more:
                found.append(Eviction(placement, node, more, hunt.job.uid))
        board = after
    return tuple(found)


def _board(capacity: Capacity, snapshot: Snapshot) -> Board:
    free: dict[Place, Free] = {}
    for place in capacity.places:
        for cell in place.cells.values():
            for at in cell.nodes:
                free[place.provider.name, place.pool.nodes[at].name] = cell.free
    victims: dict[Place, dict[str, Victim]] = {}
    for victim in snapshot.victims:
        where = (victim.provider, victim.node)
        if where not in free:
            continue
        if victim.leaving:
            free[where] = _plus(free[where], capacity, victim, victim.leaving)
        elif victim.slots:
            victims.setdefault(where, {})[victim.placement] = victim
    return Board(free, victims, dict(snapshot.may_lose))


def _waits_for_room(hunt: Hunt) -> bool:
    short = hunt.short_of_quota or hunt.short_of_money is not None
    return bool(hunt.left) and bool(hunt.slots_left) and bool(hunt.outlook.request) and not short


def _for_tasks(hunt: Hunt, board: Board, capacity: Capacity) -> Board | None:
    """Make room for as many tasks as can be had, each where it costs least."""
    board, asked = board.copy(), dict(board.taken)
    budget = MAX_SLOTS
    for _ in range(min(hunt.slots_left, MAX_SLOTS)):
        best: tuple[Cost, Place, Mapping[str, int]] | None = None
        for candidate in _candidates(hunt):
            option = _cheapest_node(hunt, candidate, board, capacity)
            if option is not None and (best is None or option[0] < best[0]):
                best = option
        if best is None or (budget := budget - sum(best[2].values())) < 0:
            break
        _apply(board, best[1], best[2], hunt.outlook.request, capacity)
    return board if board.taken != asked else None


def _for_gang(hunt: Hunt, board: Board, capacity: Capacity, snapshot: Snapshot) -> Board | None:
    """Make room for all of a gang in one pool, where that costs least; None when it cannot be."""
    best: tuple[Cost, Board] | None = None
    for candidate in _candidates(hunt):
        if not admits(hunt, candidate, capacity, snapshot.limits):
            continue
        tried, total = board.copy(), NOTHING
        for _ in range(hunt.waiting):
            option = _cheapest_node(hunt, candidate, tried, capacity)
            if option is None:
                break
            total = _sum(total, option[0])
            _apply(tried, option[1], option[2], hunt.outlook.request, capacity)
        else:
            if best is None or total < best[0]:
                best = (total, tried)
    return None if best is None or best[1].taken == board.taken else best[1]


def _candidates(hunt: Hunt) -> Iterator[Candidate]:
    seen = 0
    for candidate in hunt.outlook.candidates():
        if hunt.barred(candidate) is None and hunt.may_use(candidate.place.provider.name):
            yield candidate
            seen += 1
            if seen >= MAX_POOLS:
                return


def _cheapest_node(
    hunt: Hunt, candidate: Candidate, board: Board, capacity: Capacity
) -> tuple[Cost, Place, Mapping[str, int]] | None:
    """Return the node of a pool where one more task costs least, and the slots to take from whom."""
    provider = candidate.place.provider.name
    best: tuple[Cost, Place, Mapping[str, int]] | None = None
    for node in candidate.place.pool.nodes:
        where = (provider, node.name)
        option = _cheapest_set(hunt, board, where, capacity)
        if option is not None and (best is None or option[0] < best[0]):
            best = (option[0], where, option[1])
    return best


def _cheapest_set(
    hunt: Hunt, board: Board, where: Place, capacity: Capacity
) -> tuple[Cost, Mapping[str, int]] | None:
    free, request = board.free.get(where), hunt.outlook.request
    if free is None:
        return None
    if copies(free, request) >= 1:
        return NOTHING, {}
    victims = sorted(
        (one for one in board.victims.get(where, {}).values() if one.priority < hunt.job.priority),
        key=lambda one: (one.priority, one.cost, one.placement),
    )
    ways = 1
    for one in victims:
        ways *= 2 if one.whole else one.slots + 1
    best: tuple[Cost, Mapping[str, int]] | None = None
    for chosen in _all_sets(victims) if ways <= MAX_TRIED else _growing_sets(victims):
        cost = _price(board, victims, chosen)
        if cost is None or (best is not None and cost >= best[0]):
            continue
        room = free
        for one, slots in zip(victims, chosen, strict=True):
            if slots:
                room = _plus(room, capacity, one, slots)
        if copies(room, request) >= 1:
            best = (cost, {one.placement: n for one, n in zip(victims, chosen, strict=True) if n})
    return best


def _all_sets(victims: list[Victim]) -> Iterator[tuple[int, ...]]:
    yield from product(*((0, one.slots) if one.whole else range(one.slots + 1) for one in victims))


def _growing_sets(victims: list[Victim]) -> Iterator[tuple[int, ...]]:
    """Yield sets that grow by the cheapest victim's next slot."""
    chosen = [0] * len(victims)
    for at, one in enumerate(victims):
        for _ in range(1 if one.whole else one.slots):
            chosen[at] = one.slots if one.whole else chosen[at] + 1
            yield tuple(chosen)


def _price(board: Board, victims: list[Victim], chosen: tuple[int, ...]) -> Cost | None:
    """Return what a set costs; None when it takes more from an account than that may lose."""
    cost, lost = NOTHING, dict[str, int]()
    for one, slots in zip(victims, chosen, strict=True):
        if not slots:
            continue
        gone = _everywhere(board, one.placement) if one.whole else slots
        lost[one.account] = lost.get(one.account, 0) + gone
        cost = _sum(cost, (one.priority, one.cost * gone, gone))
    return cost if all(tasks <= board.allowed.get(account, 0) for account, tasks in lost.items()) else None


def _everywhere(board: Board, placement: str) -> int:
    return sum(some[placement].slots for some in board.victims.values() if placement in some)


def _apply(
    board: Board, where: Place, chosen: Mapping[str, int], request: Demand, capacity: Capacity
) -> None:
    """Take the slots away, and give the room of one task to the job."""
    for placement, slots in chosen.items():
        one = board.victims[where][placement]
        places = [where]
        if one.whole:
            places = [place for place, some in board.victims.items() if placement in some]
        for place in places:
            victim = board.victims[place][placement]
            gone = victim.slots if one.whole else slots
            board.free[place] = _plus(board.free[place], capacity, victim, gone)
            board.allowed[victim.account] = board.allowed.get(victim.account, 0) - gone
            key = (placement, place[1])
            board.taken[key] = board.taken.get(key, 0) + gone
            if gone == victim.slots:
                del board.victims[place][placement]
            else:
                board.victims[place][placement] = victim.less(gone)
    amounts = dict(request)
    board.free[where] = tuple(have - amounts.get(at, 0) for at, have in enumerate(board.free[where]))


def _plus(free: Free, capacity: Capacity, victim: Victim, slots: int) -> Free:
    back = capacity.free_of({name: amount * slots for name, amount in victim.request})
    return tuple(a + b for a, b in zip(free, back, strict=True))


def _sum(one: Cost, other: Cost) -> Cost:
    return (max(one[0], other[0]), one[1] + other[1], one[2] + other[2])
