"""Nothing is paid twice: attempts, successes and claims, over epochs and within one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.resources.elapsed import Elapsed
from fallow.resources.ranges import IndexRanges
from fallow.settler.books import Books, refuse_if_paid
from fallow.settler.counting import FOR_GOOD, Counted
from fallow.settler.refusals import ClaimRefused


def _counted(claim_id: int, indexes: str, *, succeeded: str | None = None, **changes: Any) -> Counted:
    fields: dict[str, Any] = {
        "claim_id": claim_id.to_bytes(32, "big"),
        "job_uid": "job",
        "attempt": 0,
        "indexes": IndexRanges.parse(indexes),
        "succeeded": IndexRanges.parse(indexes if succeeded is None else succeeded),
        "replicas": 1,
        "owner": f"owner-{claim_id}",
        "payer": "payer",
        "account": "default/default",
        "amount": 5,
    }
    return Counted(**(fields | changes))


def _refusal(claim: Counted, *, past: list[Counted] = [], present: list[Counted] = []) -> str | None:  # noqa: B006
    books = Books(), Books()
    for each, counted in zip(books, (past, present), strict=True):
        for one in counted:
            each.add(one)
    try:
        refuse_if_paid(claim, *books)
    except ClaimRefused as refused:
        return refused.reason
    return None


@pytest.mark.parametrize("where", ["past", "present"])
@pytest.mark.parametrize(
    ("sentence", "claim", "want"),
    [
        ("other indexes of the job", _counted(2, "3-5"), None),
        ("the same claim", _counted(1, "7"), "AlreadyPaid"),
        ("one attempt of it again", _counted(2, "2-3"), "AlreadyPaid"),
        ("another attempt that succeeded too", _counted(2, "2-3", attempt=1), "SecondSuccess"),
        ("another attempt that failed", _counted(2, "2-3", attempt=1, succeeded=""), None),
        ("the same indexes of another job", _counted(2, "0-2", job_uid="other"), None),
        ("a second copy where two are wanted", _counted(2, "0-2", attempt=1, replicas=2), None),
    ],
)
def test_refuse__after_a_claim_of_indexes_0_to_2__says(
    where: str, sentence: str, claim: Counted, want: str | None
) -> None:
    held: Any = {where: [_counted(1, "0-2")]}
    assert _refusal(claim, **held) == want, sentence


def test_refuse__third_copy_of_two__whichever_epochs_the_others_were_in() -> None:
    one, two = _counted(1, "0-4", replicas=2), _counted(2, "3-6", attempt=1, replicas=2)
    third = _counted(3, "4", attempt=2, replicas=2)
    assert _refusal(third, past=[one, two]) == "SecondSuccess"
    assert _refusal(third, past=[one], present=[two]) == "SecondSuccess"
    assert _refusal(third, present=[one, two]) == "SecondSuccess"
    assert _refusal(_counted(3, "5", attempt=2, replicas=2), past=[one], present=[two]) is None


def test_refuse__second_copy_by_the_same_owner__whichever_epoch_the_first_was_in() -> None:
    one = _counted(1, "0-4", replicas=3, owner="bank-a")
    again = _counted(2, "4-6", attempt=1, replicas=3, owner="bank-a")
    assert _refusal(again, past=[one]) == "SecondSuccess"
    assert _refusal(again, present=[one]) == "SecondSuccess"
    assert _refusal(_counted(2, "4-6", attempt=1, replicas=3, owner="bank-b"), past=[one]) is None
    failed = _counted(2, "4", attempt=1, replicas=3, owner="bank-a", succeeded="")
    assert _refusal(failed, past=[one]) is None, "an own failure of another attempt is no second success"


def _spans(*texts: str, tails: str = "") -> tuple[Elapsed, ...]:
    """Paid seconds; `tails` are "from:indexes" of ended attempts."""
    ends = [each.split(":") for each in tails.split() if each]
    return (
        *(Elapsed.parse(text) for text in texts),
        *(Elapsed(int(start), FOR_GOOD, IndexRanges.parse(tasks)) for start, tasks in ends),
    )


INTERVALS: dict[str, tuple[Counted, str | None]] = {
    "the seconds after": (_counted(2, "", spans=_spans("60-120:0-2")), None),
    "the same seconds": (_counted(2, "", spans=_spans("0-60:2")), "SecondsTwice"),
    "one second of them": (_counted(2, "", spans=_spans("59-120:2")), "SecondsTwice"),
    "the same seconds of other indexes": (_counted(2, "", spans=_spans("0-60:3-5")), None),
    "the same seconds of another attempt": (_counted(2, "", attempt=1, spans=_spans("0-60:2")), None),
    "the rest of an attempt": (_counted(2, "2", spans=_spans(tails="60:2")), None),
    "a rest that begins too early": (_counted(2, "2", spans=_spans(tails="59:2")), "SecondsTwice"),
    "the whole attempt": (_counted(2, "2"), "SecondsTwice"),
}


@pytest.mark.parametrize("where", ["past", "present"])
@pytest.mark.parametrize("sentence", INTERVALS)
def test_refuse__after_a_claim_of_the_first_minute_of_indexes_0_to_2__says(where: str, sentence: str) -> None:
    claim, want = INTERVALS[sentence]
    held: Any = {where: [_counted(1, "", spans=_spans("0-60:0-2"))]}
    assert _refusal(claim, **held) == want


def test_refuse__after_the_rest_of_an_attempt__later_seconds_are_refused_and_earlier_ones_are_not() -> None:
    rest = _counted(1, "0", spans=_spans(tails="120:0"))
    assert _refusal(_counted(2, "", spans=_spans("0-60:0")), past=[rest]) is None  # settled out of order
    assert _refusal(_counted(2, "", spans=_spans("120-180:0")), past=[rest]) == "SecondsTwice"
    assert _refusal(_counted(2, "0", spans=_spans(tails="300:0")), past=[rest]) == "AlreadyPaid"
    whole = _counted(1, "0")
    assert _refusal(_counted(2, "", spans=_spans("0-60:0")), past=[whole]) == "SecondsTwice"


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(1, 5), st.booleans()), max_size=30)
)
def test_books__any_interval_claims__pay_each_second_of_an_attempt_once(
    stream: list[tuple[int, int, int, bool]],
) -> None:
    past, present = Books(), Books()
    paid: set[tuple[int, int]] = set()
    for number, (index, start, length, is_rest) in enumerate(stream):
        stop = FOR_GOOD if is_rest else start + length
        claim = _counted(
            number,
            str(index) if is_rest else "",
            succeeded="",
            spans=(Elapsed(start, stop, IndexRanges.of([index])),),
        )
        try:
            refuse_if_paid(claim, past, present)
        except ClaimRefused:
            continue
        seconds = {(index, at) for at in range(start, min(stop, 20))}
        assert not seconds & paid
        paid |= seconds
        (past if number % 2 else present).add(claim)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3), st.booleans(), st.booleans()), max_size=25))
def test_books__any_claims_in_any_epochs__pay_an_attempt_once_and_an_index_once(
    stream: list[tuple[int, int, bool, bool]],
) -> None:
    past, present = Books(), Books()
    waiting: list[Counted] = []
    attempts: list[tuple[int, int]] = []
    successes: list[int] = []
    for number, (index, attempt, success, close) in enumerate(stream):
        claim = _counted(number, str(index), succeeded=str(index) if success else "", attempt=attempt)
        try:
            refuse_if_paid(claim, past, present)
        except ClaimRefused:
            continue
        present.add(claim)
        waiting.append(claim)
        attempts.append((index, attempt))
        successes += [index] if success else []
        if close:
            for each in waiting:
                past.add(each)
            present, waiting = Books(), []
    assert len(attempts) == len(set(attempts))
    assert len(successes) == len(set(successes))
    assert past.by_payer.get("payer", 0) + present.by_payer.get("payer", 0) == 5 * len(attempts)
