"""Replicated tasks: which copies are missing, when their results are opened, and what they prove.

A task with n copies has lanes 0 … n−1; a lane is a copy that is placed, tried again and finished by itself,
and no two lanes of a task are ever with the same owner. Copies commit to a result first. When n of them have,
all are opened and vote: a result that more than half of the votes name has won. Without one, further lanes
are opened, one at a time, as far as the rules and the number of owners go; then the task has no majority.

Pure, and in ranges: a thousand tasks that went the same way cost as much as one, but for counting votes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fallow.resources.ranges import EMPTY, IndexRanges


@dataclass(frozen=True, slots=True)
class Rules:
    """How a job's tasks are verified."""

    copies: int
    """Copies of each task; at least 2."""
    extra: int = 2
    """Most further copies of a task whose copies disagree."""
    owners: int = 1_000_000
    """How many owners there are that take part: more copies than owners cannot be."""

    @property
    def most(self) -> int:
        """Most copies that a task can come to."""
        return self.copies + min(self.extra, max(0, self.owners - self.copies))


@dataclass(frozen=True, slots=True)
class Copy:
    """What one placement says of its copies."""

    number: int
    """The placement's."""
    lane: int
    owner: str
    held: IndexRanges = EMPTY
    """Tasks that are not over, or whose result is still sealed."""
    sealed: IndexRanges = EMPTY
    """Tasks that have committed to a result which is not opened; part of `held`."""
    votes: Mapping[int, bytes] = field(default_factory=dict)
    """Digest of the opened result by task; empty where there is none, or the opening did not fit."""

    @property
    def taken(self) -> IndexRanges:
        """Tasks whose lane needs nothing more."""
        return self.held | IndexRanges.of(self.votes)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What became clear. The sets are disjoint."""

    agreed: IndexRanges = EMPTY
    split: IndexRanges = EMPTY
    """Tasks without a majority, for good."""
    dissent: Mapping[int, IndexRanges] = field(default_factory=dict)
    """By placement number: agreed tasks of which its copy says otherwise."""


@dataclass(frozen=True, slots=True)
class Want:
    """Copies to place: the same lane of tasks that the same owners may not run."""

    lane: int
    tasks: IndexRanges
    owners: frozenset[str] = frozenset()
    """Owners that have, or had, another copy."""
    copies: int = 1
    """How many copies of these tasks are missing, this one included: what money has to last for."""


def judge(copies: Sequence[Copy], undecided: IndexRanges, rules: Rules) -> Verdicts:
    """Return the verdicts on undecided tasks whose copies have all voted."""
    agreed: list[int] = []
    split: list[int] = []
    dissent: dict[int, list[int]] = {}
    for index, votes in _complete(copies, undecided, rules):
        winner = majority(votes.values())
        if winner:
            agreed.append(index)
            for number, vote in votes.items():
                if vote != winner:
                    dissent.setdefault(number, []).append(index)
        elif len(votes) >= rules.most or not any(votes.values()):
            split.append(index)
    return Verdicts(
        IndexRanges.of(agreed),
        IndexRanges.of(split),
        {number: IndexRanges.of(indexes) for number, indexes in sorted(dissent.items())},
    )


def majority(votes: Iterable[bytes]) -> bytes:
    """Return the result that more than half of the votes name, and at least two; empty when none is."""
    counts = Counter(votes)
    if not counts:
        return b""
    best, times = counts.most_common(1)[0]
    return best if best and times >= 2 and 2 * times > counts.total() else b""


def to_open(copies: Sequence[Copy], undecided: IndexRanges, rules: Rules) -> dict[int, IndexRanges]:
    """Return by placement number the tasks whose results may be opened: enough copies have committed."""
    committed = [one.sealed | IndexRanges.of(one.votes) for one in copies]
    ready = _in_at_least(committed, rules.copies) & undecided
    found = {one.number: one.sealed & ready for one in copies}
    return {number: tasks for number, tasks in found.items() if tasks}


def wants(copies: Sequence[Copy], undecided: IndexRanges, rules: Rules) -> tuple[Want, ...]:
    """Return what is to be placed for tasks that `judge` left undecided: the lowest lane first."""
    taken: dict[int, IndexRanges] = {}
    by_owner: dict[str, IndexRanges] = {}
    for one in copies:
        mine = one.taken & undecided
        taken[one.lane] = taken.get(one.lane, EMPTY) | mine
        by_owner[one.owner] = by_owner.get(one.owner, EMPTY) | mine
    found: list[Want] = []
    for lane in range(rules.copies):
        missing = undecided - taken.get(lane, EMPTY)
        for tasks, owners in _alike(missing, by_owner):
            # Each copy that is there is another owner's; lanes are filled in no certain order.
            found.append(Want(lane, tasks, owners, rules.copies - len(owners)))
    disputed = [(index, len(votes)) for index, votes in _complete(copies, undecided, rules)]
    for lane in range(rules.copies, rules.most):
        missing = IndexRanges.of(index for index, votes in disputed if votes == lane)
        for tasks, owners in _alike(missing - taken.get(lane, EMPTY), by_owner):
            found.append(Want(lane, tasks, owners))
    return tuple(found)


def _complete(
    copies: Sequence[Copy], undecided: IndexRanges, rules: Rules
) -> Iterator[tuple[int, dict[int, bytes]]]:
    """Yield tasks of which every lane has voted, with the votes by placement number."""
    open_ = undecided
    for one in copies:
        open_ -= one.held
    votes: dict[int, dict[int, bytes]] = {}
    for one in copies:
        for index, vote in one.votes.items():
            if index in open_:
                votes.setdefault(index, {})[one.number] = vote
    for index, said in sorted(votes.items()):
        if len(said) >= rules.copies:
            yield index, said


def _in_at_least(sets: Iterable[IndexRanges], times: int) -> IndexRanges:
    """Return what is in at least so many of the sets."""
    layers = [EMPTY] * times
    for one in sets:
        rest = one
        for depth in range(times):
            layers[depth], rest = layers[depth] | rest, layers[depth] & rest
    return layers[-1]


def _alike(
    tasks: IndexRanges, by_owner: Mapping[str, IndexRanges]
) -> Iterator[tuple[IndexRanges, frozenset[str]]]:
    """Split tasks by the owners that have copies of them."""
    groups = [(tasks, frozenset[str]())] if tasks else []
    for owner, theirs in sorted(by_owner.items()):
        split = []
        for some, owners in groups:
            split += [(some & theirs, owners | {owner}), (some - theirs, owners)]
        groups = [(some, owners) for some, owners in split if some]
    yield from groups
