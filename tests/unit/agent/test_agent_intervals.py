"""Interval billing on the member: whole intervals are signed as they go by, also over a restart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fallow.agent.books import Book
from fallow.agent.intervals import next_mark_at
from fallow.agent.outcomes import Circumstances, ending_of
from fallow.agent.reporting import read_record, recorded, seeded
from fallow.agent.running import decide
from fallow.agent.site import Record
from fallow.agent.work import Work
from fallow.receipts.statements import check_receipt
from fallow.resources.elapsed import parse_all
from fallow.resources.ended import Ended
from fallow.resources.placement import Progress
from unit.agent.guest_pods import a_pod, at
from unit.agent.some_work import KEY, a_site, some_room, some_work

DEADLINE = 400
BY_INTERVAL = {"billing": "PerInterval", "interval_seconds": 60}
WORK = some_work({"n1": (4, "0-3")}, terms={**BY_INTERVAL, "price": "3.6"})


def marks(seconds: float, *pods: Any, record: Record | None = None, work: Work = WORK, **site: Any) -> Any:
    guests = [replace(pod.guest(), deadline_seconds=DEADLINE) for pod in pods]
    where = a_site("n1", seconds=seconds, **site)
    return dict(decide(work, record or Record(), guests, where, room=some_room()).marks)


@pytest.mark.parametrize(
    ("sentence", "seconds", "want"),
    [
        ("not a whole interval yet", 61, {}),
        ("one, and the clocks may differ by two seconds", 62, {0: 60}),
        ("after a long silence of the agent: all that went by", 305, {0: 300}),
        ("past its deadline: not beyond it", 700, {0: 360}),
    ],
)
def test_marks__of_a_guest_that_runs__are_whole_intervals(
    sentence: str, seconds: float, want: dict[int, int]
) -> None:
    assert marks(seconds, a_pod(index=0).running(0)) == want, sentence


def test_marks__where_nothing_is_known_to_run__are_none() -> None:
    assert marks(70, a_pod(index=0)) == {}
    assert marks(70, a_pod(index=0).running(0).deleted(65)) == {}
    assert marks(70, a_pod(index=0).running(0), lost_nodes=frozenset({"n1"})) == {}
    released = some_work({"n1": (4, "0-3")}, released="0", terms=BY_INTERVAL)
    assert marks(70, a_pod(index=0).running(0), work=released) == {}


def test_marks__billed_by_the_task__are_none() -> None:
    assert marks(700, a_pod(index=0).running(0), work=some_work({"n1": (4, "0-3")})) == {}


def test_marks__recorded_before__only_what_is_new() -> None:
    record = Record(elapsed={0: 60})
    assert marks(70, a_pod(index=0).running(0), record=record) == {}
    assert marks(130, a_pod(index=0).running(0), a_pod(index=1).running(0), record=record) == {0: 120, 1: 120}


def test_next_mark__is_when_the_next_interval_is_over_for_sure() -> None:
    guests = [a_pod(index=0).running(0).guest(), a_pod(index=1).running(30).guest()]
    assert next_mark_at(guests, now=at(70), interval=60) == at(92)
    assert next_mark_at([], now=at(70), interval=60) is None


def add(
    progress: Progress, *, seconds: float = 70, marked: dict[int, int] | None = None, endings: Any = ()
) -> Progress:
    return recorded(
        progress, endings=endings, returned=(), marks=marked or {}, work=WORK, key=KEY, now=at(seconds)
    )


def an_ending(index: int, seconds: int, **more: Any) -> Any:
    pod = a_pod(index=index).ended(seconds, started=0, **more)
    guest = replace(pod.guest(), deadline_seconds=DEADLINE)
    ending = ending_of(guest, Circumstances(now=at(seconds + 1)))
    assert ending is not None
    return ending


def check(progress: Progress) -> None:
    assert progress.receipt is not None
    check_receipt(
        progress.receipt,
        [Ended.parse(text) for text in progress.ended],
        elapsed=parse_all(progress.elapsed),
        attempt=0,
        terms=WORK.spec.terms,
        job_uid=WORK.spec.job.uid,
        placement_uid=WORK.uid,
    )


def test_recorded__intervals_and_then_the_end__are_one_chain_of_cumulative_receipts() -> None:
    first = add(Progress(), marked={0: 60, 1: 60})
    assert (first.elapsed, first.receipt and first.receipt.seconds) == (("0-60:0-1",), 120)
    check(first)
    second = add(first, marked={0: 120}, seconds=130)
    assert second.elapsed == ("0-60:1", "0-120:0")
    assert second.receipt is not None
    assert (second.receipt.sequence, second.receipt.seconds) == (2, 180)
    last = add(second, endings=[an_ending(0, 125)], seconds=130)
    assert last.receipt is not None
    assert (last.receipt.sequence, last.receipt.seconds, last.receipt.cumulative_amount) == (3, 185, "0.185")
    check(last)
    assert add(last) == last
    assert add(last, marked={0: 180}) == last  # it has ended


def test_recorded__end_before_what_was_signed__is_moved_to_it() -> None:
    # The node's clock is behind ours by more than was waited for.
    progress = add(add(Progress(), marked={0: 60}), endings=[an_ending(0, 58)])
    assert progress.ended == ("0:0:60:S:",)
    check(progress)


def test_seeded__record_lost_after_it_was_told__takes_up_what_the_hub_has() -> None:
    told = add(Progress(), marked={0: 120, 1: 60})
    mine = add(Progress(), marked={0: 60})
    assert seeded(mine, told).elapsed == told.elapsed
    assert seeded(told, mine) == told
    assert read_record(seeded(Progress(), told)).elapsed == {0: 120, 1: 60}


def test_book__agent_restarted_in_the_middle_of_an_interval__goes_on_from_the_record() -> None:
    told = add(Progress(), marked={0: 60})
    guest_set = {"metadata": {"resourceVersion": "7"}, "status": told.wire()}
    book = Book(uid=WORK.uid)  # a new process knows nothing
    record = book.record(guest_set, None)
    assert record.elapsed == {0: 60}
    assert marks(100, a_pod(index=0).running(0), record=record) == {}
    assert marks(122, a_pod(index=0).running(0), record=record) == {0: 120}
    book.marks = {0: 60, 1: 60}
    book.record(guest_set, None)
    assert book.marks == {1: 60}  # what is confirmed is forgotten
