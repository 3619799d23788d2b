"""A job's state is what was absorbed plus what live placements say, in whatever order it is added up."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.hub.folding import (
    Folded,
    Paid,
    absorb,
    add_failures,
    read_folded,
    standing,
    write_folded,
)
from fallow.hub.placements import Placed
from fallow.resources.ranges import EMPTY, IndexRanges
from unit.hub.builders import ended, placed, ranges

# ---- what one placement contributes

CASES: dict[str, tuple[Placed, dict[str, str]]] = {
    "nothing reported: all held": (placed("0-3"), {"held": "0-3"}),
    "a success": (placed("0-3", reports=[ended(1)]), {"held": "0,2-3", "succeeded": "1"}),
    "an own failure is pending again": (
        placed("0-3", reports=[ended(1, "F")]),
        {"held": "0,2-3", "pending": "1"},
    ),
    "a time-out counts as a failure": (placed("0", reports=[ended(0, "T")]), {"pending": "0-3"}),
    "reclaimed is pending again": (placed("0-3", reports=[ended(0, "R")]), {"held": "1-3", "pending": "0"}),
    "handed back is pending again": (
        placed("0-3", handed_back=[("2-3", "NoRoom")]),
        {"held": "0-1", "pending": "2-3"},
    ),
    "released is pending at once": (placed("0-3", released="1-2"), {"held": "0,3", "pending": "1-2"}),
    "a success of a released task does not count": (
        placed("0-3", released="1", reports=[ended(1)]),
        {"held": "0,2-3", "pending": "1"},
    ),
    "finished with tasks missing: they are pending again": (
        placed("0-3", reports=[ended(0)], state="Finished"),
        {"succeeded": "0", "pending": "1-3"},
    ),
    "another attempt's report is no report": (
        placed("0-3", number=2, reports=[ended(0, attempt=1)]),
        {"held": "0-3"},
    ),
    "a stranger's index is no report": (placed("0-3", reports=[ended(7)]), {"held": "0-3"}),
    "the first report of an index stands": (
        placed("0-3", reports=[ended(0, "F"), ended(0, "S")]),
        {"held": "1-3", "pending": "0"},
    ),
    "a malformed report is no report": (placed("0-3", reports=["0:0:x:S:"]), {"held": "0-3"}),
    "a gang holds all until all is known": (
        placed("0-3", gang=True, reports=[ended(0), ended(1)]),
        {"held": "0-3"},
    ),
    "a gang that succeeded whole": (
        placed("0-3", gang=True, reports=[ended(n) for n in range(4)]),
        {"succeeded": "0-3"},
    ),
    "a gang with one failure runs again whole": (
        placed("0-3", gang=True, reports=[ended(0, "F"), *(ended(n) for n in (1, 2, 3))]),
        {"pending": "0-3"},
    ),
    "a gang that was released runs again whole": (
        placed("0-3", gang=True, released="0-3", reports=[ended(0)]),
        {"pending": "0-3"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_standing__one_placement(case: str) -> None:
    one, want = CASES[case]
    state = standing(Folded(), [(one, Paid())], tasks=4, backoff_limit=2)
    rest = EMPTY
    for text in want.values():
        rest |= ranges(text)
    # What a case does not name is pending.
    pending = ranges(want.get("pending", "")) | (ranges("0-3") - rest)
    assert str(state.held) == want.get("held", "")
    assert str(state.succeeded) == want.get("succeeded", "")
    assert state.pending == pending
    assert not state.failed


def test_standing__failures_beyond_the_limit__are_for_good() -> None:
    live = [
        (placed("0-1", number=number, reports=[ended(0, "F", attempt=number)], state="Finished"), Paid())
        for number in range(3)
    ]
    assert str(standing(Folded(), live, tasks=2, backoff_limit=3).failed) == ""
    state = standing(Folded(), live, tasks=2, backoff_limit=2)
    assert str(state.failed) == "0"
    assert state.failures == {3: ranges("0")}
    assert str(state.pending) == "1"


def test_standing__gang_failed_once__every_task_has_one_failure() -> None:
    one = placed("0-3", gang=True, reports=[ended(0, "F"), *(ended(n, "C") for n in (1, 2, 3))])
    assert standing(Folded(), [(one, Paid())], tasks=4, backoff_limit=0).failed == ranges("0-3")


def test_standing__absorbed_and_still_there__counts_once() -> None:
    one = placed("0-3", reports=[ended(0), ended(1, "F")], state="Finished")
    paid = Paid(seconds=20, amount=20_000, failure_seconds=10, claimed=True)
    folded = absorb(Folded(), one, paid)
    after = standing(folded, [(one, paid)], tasks=4, backoff_limit=1)
    assert after == standing(folded, [], tasks=4, backoff_limit=1)
    assert after.shares["aurora"].amount == 20_000
    assert absorb(folded, one, paid) == folded


def test_standing__running__is_never_more_than_what_is_held() -> None:
    one = placed("0-3", running=99)
    assert standing(Folded(), [(one, Paid())], tasks=4, backoff_limit=1).running == 4


indexes = st.sets(st.integers(0, 30), max_size=12).map(IndexRanges.of)


@given(st.lists(indexes, max_size=8), st.randoms(use_true_random=False))
def test_add_failures__any_order__gives_the_same_counts(
    rounds: list[IndexRanges], chance: random.Random
) -> None:
    def total(order: list[IndexRanges]) -> dict[int, IndexRanges]:
        counts: Any = {}
        for tasks in order:
            counts = add_failures(counts, tasks)
        return dict(counts)

    shuffled = list(rounds)
    chance.shuffle(shuffled)
    counts = total(rounds)
    assert counts == total(shuffled)
    for index in range(31):
        times = sum(index in tasks for tasks in rounds)
        assert [count for count, tasks in counts.items() if index in tasks] == ([times] if times else [])


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[Placed, Paid]]:
    """Placements as a hub would make them: no index held twice at the same time."""
    live: list[tuple[Placed, Paid]] = []
    for number in range(draw(st.integers(0, 5))):
        state = standing(Folded(), live, tasks=12, backoff_limit=2)
        if not state.pending:
            break
        count = draw(st.integers(1, len(state.pending)))
        tasks, _ = state.pending.take(count)
        finished = draw(st.booleans())
        reports = [
            ended(index, draw(st.sampled_from("SFTRLUC")), attempt=number)
            for index in tasks
            if finished or draw(st.booleans())
        ]
        one = placed(str(tasks), number=number, reports=reports, state="Finished" if finished else "Running")
        live.append((one, Paid(seconds=number, amount=number * 1000, claimed=finished)))
    return live


@given(histories(), st.data())
def test_fold__absorbing_any_finished_placements__changes_nothing_that_people_see(
    live: list[tuple[Placed, Paid]], data: st.DataObject
) -> None:
    before = standing(Folded(), live, tasks=12, backoff_limit=2)
    folded = Folded()
    rest = []
    for one, paid in live:
        if one.finished and data.draw(st.booleans()):
            folded = absorb(folded, one, paid)
            if data.draw(st.booleans()):  # the hub died before it deleted the placement
                rest.append((one, paid))
        else:
            rest.append((one, paid))
    written = read_folded({"folded": write_folded(folded, settled_claims=0, decimals=6)}, decimals=6)
    assert written == folded
    after = standing(written, rest, tasks=12, backoff_limit=2)
    assert after == before
    whole = after.pending | after.held | after.succeeded | after.failed
    assert whole == IndexRanges.span(0, 12)
    assert len(after.pending) + len(after.held) + len(after.succeeded) + len(after.failed) == 12


def test_standing__job_whose_first_index_is_not_0__has_just_those_tasks() -> None:
    done = placed("7", reports=[ended(7)], state="Finished")
    now = standing(Folded(), [(done, Paid())], tasks=3, backoff_limit=0, first=6)
    assert (str(now.pending), str(now.succeeded)) == ("6,8", "7")
