"""The packed record of an ended attempt has one spelling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.errors import EndedError
from fallow.resources.ended import MAX_BYTES, Ended, Outcome, result_digest

attempts = st.builds(
    Ended,
    index=st.integers(0, 99_999),
    attempt=st.integers(0, 10**6),
    seconds=st.integers(1, 30 * 86_400),
    outcome=st.sampled_from(Outcome),
    digest=st.one_of(st.just(b""), st.binary(min_size=32, max_size=32)),
)


@given(attempts)
def test_ended__when_written_and_read__then_is_the_same(ended: Ended) -> None:
    text = str(ended)
    assert Ended.parse(text) == ended
    assert len(text) <= MAX_BYTES


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1:2:3:S",
        "1:2:3:X:",
        "01:2:3:S:",
        "-1:2:3:S:",
        "1:2:3:S:short",
        "1:2:3:S:" + "A" * 42 + "B",  # the last character's low bits would be lost: a second spelling
        "1:2:3:S:" + "=" * 43,
        "1:2:3:S:\n",
    ],
)
def test_parse__when_not_canonical__then_refuses(text: str) -> None:
    with pytest.raises(EndedError):
        Ended.parse(text)


def test_result_digest__when_there_is_no_result__then_is_empty() -> None:
    assert result_digest(None) == result_digest("") == b""
    assert len(result_digest("x")) == 32


def test_outcome__when_it_is_the_tasks_own__then_counts_as_failure() -> None:
    assert {outcome for outcome in Outcome if outcome.is_own_failure} == {Outcome.FAILED, Outcome.TIMED_OUT}
    assert Outcome.TIMED_OUT.word == "TimedOut"
