"""Elapsed time as strings: one spelling, and no index twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.errors import ElapsedError
from fallow.resources.elapsed import Elapsed, packed, parse_all, stops_of
from fallow.resources.ranges import IndexRanges


@pytest.mark.parametrize(
    "text",
    [
        "",
        "600",
        "0-600",
        "0-600:",
        "600-0:1",
        "0-600:3,1",
        "0-600:1-1",
        "00-600:1",
        "0-600:4-",
        "0-600:0-4,5",
    ],
)
def test_parse__not_of_the_form__is_refused(text: str) -> None:
    with pytest.raises(ElapsedError):
        Elapsed.parse(text)


def test_parse__an_index_in_two_strings__is_refused() -> None:
    with pytest.raises(ElapsedError, match="two elapsed times"):
        parse_all(["0-600:0-3", "0-1200:3"])


def test_packed__tasks_with_equal_seconds__share_a_string() -> None:
    assert [str(one) for one in packed({0: 600, 2: 600, 1: 1200}, {1: 600})] == ["0-600:0,2", "600-1200:1"]


@given(st.dictionaries(st.integers(0, 2000), st.integers(1, 50).map(lambda n: 60 * n), max_size=60))
def test_packed__any_record__reads_back_the_same(stops: dict[int, int]) -> None:
    texts = [str(one) for one in packed(stops)]
    assert stops_of(parse_all(texts)) == stops
    assert sum(one.seconds for one in parse_all(texts)) == sum(stops.values())
    assert len(texts) == len(set(stops.values()))


def test_seconds__of_a_span__are_those_of_all_its_tasks() -> None:
    assert Elapsed(600, 1200, IndexRanges.of([1, 5])).seconds == 1200
