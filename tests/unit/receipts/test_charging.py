"""Several claims of one placement: no second twice, and together what one claim would have been."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.receipts.attempts import attempts_root, payable_seconds
from fallow.receipts.charging import charged, covered_elapsed, longest_attempt, tail_seconds
from fallow.receipts.pricing import cumulative_amount
from fallow.resources.elapsed import Elapsed, packed
from fallow.resources.ended import Ended, Outcome
from fallow.resources.ranges import IndexRanges

FOREVER = 10**9


@pytest.mark.parametrize(
    ("placed_at", "seen_until", "timeout", "want"),
    [
        (100, 160, 1000, 65),
        (100, 160, 30, 30),
        (160, 100, 1000, 5),  # a clock that stepped back leaves the slack
    ],
)
def test_longest_attempt__is_what_was_observed_or_allowed(
    placed_at: int, seen_until: int, timeout: int, want: int
) -> None:
    assert longest_attempt(placed_at=placed_at, seen_until=seen_until, timeout_seconds=timeout) == want


def test_charged__attempt_longer_than_observed__is_cut() -> None:
    sums = charged([Ended(0, 0, 700, Outcome.SUCCEEDED)], packed({0: 600}), longest=650)
    assert (sums.seconds, sums.cut, sums.before) == (650, 50, 0)


def test_tail__shorter_than_its_elapsed_time__is_nothing() -> None:
    assert tail_seconds(Ended(0, 0, 500, Outcome.SUCCEEDED), {0: 600}) == 0


def test_attempts_root__attempt_with_elapsed_time__has_two_leaves_that_touch() -> None:
    whole = [Ended(3, 1, 700, Outcome.SUCCEEDED)]
    elapsed = packed({3: 600})
    root = attempts_root(whole, elapsed, attempt=1)
    assert root != attempts_root(whole, attempt=1)
    assert root != attempts_root(whole, packed({3: 500}), attempt=1)
    # Of another attempt number it is not this attempt's time.
    assert root != attempts_root([replace(whole[0], attempt=0)], elapsed, attempt=1)
    with pytest.raises(ValueError, match="within its elapsed time"):
        attempts_root([Ended(3, 1, 500, Outcome.SUCCEEDED)], elapsed, attempt=1)
    with pytest.raises(ValueError, match="two elapsed times"):
        attempts_root([], [*elapsed, *elapsed])


def test_attempts_root__elapsed_time_of_no_seconds__has_no_leaf() -> None:
    nothing = Elapsed(600, 600, IndexRanges.of([4]))
    assert attempts_root([], [*packed({3: 600}), nothing]) == attempts_root([], packed({3: 600}))


def test_payable_seconds__lost_after_two_intervals__are_those_two() -> None:
    lost = Ended(0, 0, 1500, Outcome.LOST)
    assert payable_seconds([lost], {0: 1200}) == 1200
    assert payable_seconds([lost]) == 0
    assert payable_seconds([replace(lost, outcome=Outcome.SUCCEEDED)], {0: 1200}) == 1500


LIVES = st.lists(st.tuples(st.integers(1, 4000), st.sampled_from(list(Outcome))), min_size=1, max_size=6)


@settings(max_examples=200)
@given(
    lives=LIVES,
    interval=st.integers(5, 900),
    moments=st.lists(st.integers(0, 5000), max_size=5),
    price=st.integers(0, 10**7),
)
def test_claims__at_any_moments__sum_to_one_floor_and_charge_no_second_twice(
    lives: list[tuple[int, Outcome]], interval: int, moments: list[int], price: int
) -> None:
    """Tasks live for so long; at some moments all elapsed intervals are claimed, and at the end the rest."""
    ended = [Ended(at, 0, seconds, outcome) for at, (seconds, outcome) in enumerate(lives)]
    before: dict[int, int] = {}
    seen: dict[int, set[int]] = {one.index: set() for one in ended}
    total_seconds = total_amount = 0
    for moment in [*sorted(moments), 10**6]:
        stops = {one.index: min(one.seconds, moment) // interval * interval for one in ended}
        elapsed = packed({at: max(stop, before.get(at, 0)) for at, stop in stops.items()}, before)
        last = moment == 10**6
        paid = [one for one in ended if last and one.outcome in (Outcome.SUCCEEDED, Outcome.FAILED)]
        sums = charged(paid, elapsed, longest=FOREVER)
        assert sums.before == total_seconds
        total_seconds += sums.seconds
        total_amount += sums.amount(price)
        for span in elapsed:
            for at in span.tasks:
                seconds = set(range(span.start, span.stop))
                assert not seconds & seen[at]
                seen[at] |= seconds
                before[at] = span.stop
        for one in paid:
            seconds = set(range(before[one.index], one.seconds))
            assert not seconds & seen[one.index]
            seen[one.index] |= seconds
    assert total_seconds == sum(map(len, seen.values()))
    assert total_amount == cumulative_amount(total_seconds=total_seconds, price_per_task_hour=price)
    for one in ended:
        whole = one.seconds if one.outcome in (Outcome.SUCCEEDED, Outcome.FAILED) else before[one.index]
        assert seen[one.index] == set(range(whole))


def test_covered_elapsed__paid_and_unpaid_parts__are_what_the_receipt_is_over() -> None:
    paid = packed({0: 600, 1: 600}, {0: 300, 1: 600})
    unpaid = packed({0: 1200}, {0: 600})
    assert covered_elapsed(paid, unpaid) == packed({0: 1200, 1: 600})
