"""Index ranges behave as sets of integers, at the cost of their ranges."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.errors import RangesError
from fallow.resources.base import MAX_RANGES_BYTES
from fallow.resources.ranges import EMPTY, MAX_INDEX, IndexRanges

indexes = st.sets(st.integers(0, 300), max_size=120)


@given(indexes)
def test_ranges__when_formatted_and_parsed__then_are_the_same_set(members: set[int]) -> None:
    ranges = IndexRanges.of(members)
    assert IndexRanges.parse(ranges.format()) == ranges
    assert set(ranges) == members
    assert len(ranges) == len(members)
    assert bool(ranges) == bool(members)


@given(indexes, indexes)
def test_ranges__when_combined__then_agree_with_sets(left: set[int], right: set[int]) -> None:
    a, b = IndexRanges.of(left), IndexRanges.of(right)
    assert a | b == IndexRanges.of(left | right)
    assert a - b == IndexRanges.of(left - right)
    assert a & b == IndexRanges.of(left & right)


@given(indexes, st.integers(-1, 130))
def test_take__when_split__then_gives_the_lowest_and_the_rest(members: set[int], count: int) -> None:
    taken, rest = IndexRanges.of(members).take(count)
    assert sorted(taken) == sorted(members)[: max(count, 0)]
    assert taken | rest == IndexRanges.of(members)
    assert not taken & rest


@given(indexes, st.integers(-5, 310))
def test_contains__when_asked__then_agrees_with_sets(members: set[int], index: int) -> None:
    assert (index in IndexRanges.of(members)) == (index in members)


@given(indexes, indexes)
def test_ranges__when_equal_as_sets__then_are_equal_strings(left: set[int], right: set[int]) -> None:
    a = (IndexRanges.of(left) - IndexRanges.of(right)) | IndexRanges.of(left & right)
    assert str(a) == str(IndexRanges.of(left))


@pytest.mark.parametrize(
    "text",
    [
        "5-3",
        "3,3",
        "4,2",
        "0-5,5",
        "a",
        "-1",
        "1-",
        "1,,2",
        " 1",
        "1 ",
        "01",
        "1-2-3",
        str(MAX_INDEX + 1),
        "٣",
    ],
)
def test_parse__when_the_text_is_off__then_says_so(text: str) -> None:
    with pytest.raises(RangesError):
        IndexRanges.parse(text)


def test_parse__when_ranges_touch__then_merges_them() -> None:
    assert str(IndexRanges.parse("0-4,5,6-9")) == "0-9"


def test_parse__when_longer_than_an_object_may_carry__then_refuses() -> None:
    with pytest.raises(RangesError, match="65536"):
        IndexRanges.parse(",".join(str(i) for i in range(0, 60_000, 2)))


def test_format__when_too_long__then_refuses_instead_of_cutting() -> None:
    with pytest.raises(RangesError):
        IndexRanges.of(range(0, 10 * MAX_RANGES_BYTES, 20)).format()


def test_span__when_of_a_million__then_is_one_pair() -> None:
    whole = IndexRanges.span(0, 1_000_000)
    assert len(whole.pairs) == 1
    assert str(whole - IndexRanges.of([500_000])) == "0-499999,500001-999999"
    assert IndexRanges.span(5, 5) == EMPTY


@settings(deadline=None, max_examples=30)
@given(indexes, st.integers(0, 50_000))
def test_compact__whatever_the_set__says_the_same_and_stays_bounded(members: set[int], stretch: int) -> None:
    scattered = IndexRanges.of({(member * 300 + stretch) % 100_000 for member in members})
    alternating = IndexRanges.of(range(stretch % 2, 2 * stretch, 2))
    for ranges in (scattered, alternating, scattered | alternating):
        text = ranges.compact()
        assert IndexRanges.parse(text) == ranges
        assert len(text) <= 16_800


@pytest.mark.parametrize("text", ["~A", "~!!!!", "~AAA=A"])
def test_parse__bitmap_that_is_none__is_refused(text: str) -> None:
    with pytest.raises(RangesError):
        IndexRanges.parse(text)
