"""Replication as a game: owners are honest, lie, collude or go away; the rules hold for all of them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.resources.ranges import EMPTY, IndexRanges
from fallow.scheduler.replication import Copy, Rules, Want, judge, majority, to_open, wants

TRUTH = b"t" * 32
RULES = Rules(copies=3, extra=2)


def ranges(text: str) -> IndexRanges:
    return IndexRanges.parse(text)


def a_copy(number: int, lane: int, owner: str, **said: object) -> Copy:
    votes = {int(str(k)): v for k, v in dict(said.get("votes", {})).items()}  # type: ignore[call-overload]
    sealed = ranges(str(said.get("sealed", "")))
    return Copy(
        number, lane, owner, held=sealed | ranges(str(said.get("running", ""))), sealed=sealed, votes=votes
    )


def test_wants__when_nothing_is_placed__then_the_first_lane_comes_first_and_counts_all_copies() -> None:
    found = wants([], ranges("0-9"), RULES)
    assert found[0] == Want(0, ranges("0-9"), frozenset(), 3)
    assert [want.lane for want in found] == [0, 1, 2]


def test_wants__when_a_copy_runs__then_the_other_lanes_keep_off_its_owner() -> None:
    found = wants([a_copy(0, 0, "a", running="0-4")], ranges("0-9"), RULES)
    assert Want(0, ranges("5-9"), frozenset(), 3) in found
    assert Want(1, ranges("0-4"), frozenset({"a"}), 2) in found
    assert Want(1, ranges("5-9"), frozenset(), 3) in found


def test_to_open__when_one_copy_still_runs__then_nothing_is_opened() -> None:
    copies = [
        a_copy(0, 0, "a", sealed="0-1"),
        a_copy(1, 1, "b", sealed="0-1"),
        a_copy(2, 2, "c", running="0"),
    ]
    assert to_open(copies, ranges("0-1"), RULES) == {}
    copies[2] = a_copy(2, 2, "c", sealed="0")
    assert to_open(copies, ranges("0-1"), RULES) == {0: ranges("0"), 1: ranges("0"), 2: ranges("0")}


def test_judge__when_two_of_three_agree__then_the_third_dissents() -> None:
    votes = [TRUTH, TRUTH, b"l" * 32]
    copies = [a_copy(n, n, o, votes={0: votes[n]}) for n, o in enumerate("abc")]
    found = judge(copies, ranges("0"), RULES)
    assert found.agreed == ranges("0")
    assert found.dissent == {2: ranges("0")}
    assert wants(copies, EMPTY, RULES) == ()


def test_judge__when_all_differ__then_one_more_copy_at_a_time_until_the_limit() -> None:
    copies = [a_copy(n, n, o, votes={0: bytes([n]) * 32}) for n, o in enumerate("abc")]
    assert judge(copies, ranges("0"), RULES) == judge([], EMPTY, RULES)
    assert wants(copies, ranges("0"), RULES) == (Want(3, ranges("0"), frozenset("abc")),)
    copies.append(a_copy(3, 3, "d", running="0"))
    assert wants(copies, ranges("0"), RULES) == ()
    copies[3] = a_copy(3, 3, "d", votes={0: b"d" * 32})
    assert wants(copies, ranges("0"), RULES) == (Want(4, ranges("0"), frozenset("abcd")),)
    copies.append(a_copy(4, 4, "e", votes={0: b"e" * 32}))
    assert judge(copies, ranges("0"), RULES).split == ranges("0")


def test_judge__when_there_are_no_further_owners__then_is_split_at_once() -> None:
    copies = [a_copy(n, n, o, votes={0: bytes([n]) * 32}) for n, o in enumerate("abc")]
    assert judge(copies, ranges("0"), Rules(copies=3, extra=2, owners=3)).split == ranges("0")


def test_judge__when_no_copy_left_a_result__then_no_money_goes_into_more_of_them() -> None:
    copies = [a_copy(n, n, o, votes={0: b""}) for n, o in enumerate("abc")]
    assert judge(copies, ranges("0"), RULES).split == ranges("0")


@given(st.lists(st.sampled_from([b"", b"a" * 32, b"b" * 32, b"c" * 32]), max_size=8))
def test_majority__always__then_is_named_by_more_than_half_and_by_two(votes: list[bytes]) -> None:
    winner = majority(votes)
    if winner:
        assert 2 * votes.count(winner) > len(votes)
        assert votes.count(winner) >= 2
    else:
        assert not any(
            vote and votes.count(vote) >= 2 and 2 * votes.count(vote) > len(votes) for vote in votes
        )


@dataclass
class Game:
    """Plays the hub and the owners until nothing is left to do."""

    rules: Rules
    tasks: IndexRanges
    manners: dict[str, str]
    """Owner → honest | liar | noise | failing first."""
    agreed: IndexRanges = EMPTY
    split: IndexRanges = EMPTY
    dissent: dict[int, IndexRanges] = field(default_factory=dict)
    running: dict[int, tuple[Want, str]] = field(default_factory=dict)
    sealed: dict[int, tuple[Want, str]] = field(default_factory=dict)
    opened: dict[int, tuple[Want, str]] = field(default_factory=dict)
    lost: set[tuple[str, int]] = field(default_factory=set)
    numbers: int = 0

    @property
    def undecided(self) -> IndexRanges:
        return self.tasks - self.agreed - self.split

    def copies(self) -> list[Copy]:
        found = [Copy(n, w.lane, o, held=w.tasks) for n, (w, o) in self.running.items()]
        found += [Copy(n, w.lane, o, held=w.tasks, sealed=w.tasks) for n, (w, o) in self.sealed.items()]
        for n, (w, o) in self.opened.items():
            found.append(Copy(n, w.lane, o, votes={i: self.vote(o, i) for i in w.tasks}))
        return found

    def vote(self, owner: str, index: int) -> bytes:
        manner = self.manners[owner]
        if manner == "liar":
            return b"l" * 32
        if manner == "noise":
            return (owner.encode() + bytes([index])).ljust(32, b"n")
        return b"" if manner == "silent" else TRUTH

    def play(self, data: st.DataObject) -> None:
        for _ in range(500):
            moves: list[tuple[str, object, object]] = []
            for want in wants(self.copies(), self.undecided, self.rules):
                if want.lane < self.rules.copies:
                    assert want.copies == self.rules.copies - len(want.owners) >= 1
                free = sorted(self.manners.keys() - want.owners)
                moves += [("place", want, owner) for owner in free]
            moves += [("end", number, None) for number in self.running]
            opening = to_open(self.copies(), self.undecided, self.rules)
            moves += [
                ("open", number, None)
                for number in opening
                if opening[number] == self.sealed[number][0].tasks
            ]
            if not moves:
                return
            self.move(*data.draw(st.sampled_from(moves)), data)
            found = judge(self.copies(), self.undecided, self.rules)
            self.agreed |= found.agreed
            self.split |= found.split
            for number, said in found.dissent.items():
                self.dissent[number] = self.dissent.get(number, EMPTY) | said
        raise AssertionError("it never ends")

    def move(self, kind: str, what: object, owner: object, data: st.DataObject) -> None:
        if kind == "place":
            assert isinstance(what, Want)
            size = data.draw(st.integers(1, len(what.tasks)))
            some, _ = what.tasks.take(size)
            # One index each: what is sealed is then opened as a whole.
            for index in some:
                self.running[self.numbers] = (
                    Want(what.lane, IndexRanges.of([index]), what.owners),
                    str(owner),
                )
                self.numbers += 1
            return
        assert isinstance(what, int)
        if kind == "open":
            self.opened[what] = self.sealed.pop(what)
            return
        want, who = self.running.pop(what)
        index = next(iter(want.tasks))
        if self.manners[who] == "flaky" and (who, index) not in self.lost:
            self.lost.add((who, index))  # reclaimed: the lane is tried again
            return
        self.sealed[what] = (want, who)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from(["honest", "honest", "liar", "noise", "flaky", "silent"]), min_size=2, max_size=6
    ),
    st.integers(2, 3),
    st.data(),
)
def test_game__always__then_distinct_owners_majority_and_an_end(
    manners: list[str], copies: int, data: st.DataObject
) -> None:
    owners = {f"o{at}": manner for at, manner in enumerate(manners)}
    rules = Rules(copies=copies, extra=2, owners=len(owners))
    game = Game(rules, ranges("0-2"), owners)
    game.play(data)
    by_index: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for number, (want, owner) in {**game.opened, **game.sealed}.items():
        for index in want.tasks:
            by_index[index].append((number, owner))
    for had in by_index.values():
        assert len({owner for _, owner in had}) == len(had), "an owner had two copies of a task"
        assert len(had) <= max(rules.most, copies)
    if len(owners) >= copies:
        assert game.agreed | game.split == game.tasks, "tasks were left undecided"
    for index in game.agreed:
        votes = [game.vote(owner, index) for _, owner in by_index[index]]
        winner = majority(votes)
        assert winner
        against = {n for n, owner in by_index[index] if game.vote(owner, index) != winner}
        assert against == {n for n, said in game.dissent.items() if index in said}
        assert len(votes) - len(against) <= copies, "more agreeing copies than the job pays for"
    for index in game.split:
        assert not majority([game.vote(owner, index) for _, owner in by_index[index]])
    lies = sum(manner in ("liar", "noise", "silent") for manner in owners.values())
    if lies == 0 and len(owners) >= copies:
        assert game.agreed == game.tasks
        assert not game.dissent
