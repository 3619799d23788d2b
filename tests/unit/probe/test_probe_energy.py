"""Energy: what the counters grew is what the pods have drawn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.probe.energy import EnergyBook
from unit.probe.probe_readings import OTHER_POD, POD

BOTH = frozenset({POD, OTHER_POD})


def a_book(*samples: tuple[float, int | None, frozenset[str]]) -> EnergyBook:
    book = EnergyBook(gone_seconds=60)
    for now, millijoules, pods in samples:
        book.observe("GPU-0", millijoules=millijoules, pods=pods, now=now)
    return book


def test_energy__one_pod__has_drawn_the_growth_from_its_first_to_its_last_look() -> None:
    alone = frozenset({POD})
    nobody: frozenset[str] = frozenset()
    book = a_book(
        (0, 1000, nobody), (5, 4000, alone), (10, 9000, alone), (15, 9500, nobody), (20, 9900, nobody)
    )
    assert book.running() == {POD: 8.5}
    assert book.ended(now=69) == ()
    (ended,) = book.ended(now=70)
    assert (ended.pod, ended.joules, ended.seconds) == (POD, 8, 5)
    assert book.running() == {}


def test_energy__shared_device__is_divided_alike() -> None:
    assert a_book((0, 0, BOTH), (5, 3000, BOTH)).running() == {POD: 1.5, OTHER_POD: 1.5}


def test_energy__driver_loaded_anew__what_cannot_be_known_is_not_counted() -> None:
    alone = frozenset({POD})
    assert a_book((0, 9000, alone), (5, 100, alone), (10, 1100, alone)).running() == {POD: 1.0}


def test_energy__driver_without_the_counter__nothing_is_drawn_and_nothing_breaks() -> None:
    assert a_book((0, None, BOTH), (5, None, BOTH)).running() == {POD: 0.0, OTHER_POD: 0.0}


def test_energy__many_pods_ended__the_last_are_kept() -> None:
    book = EnergyBook(gone_seconds=60, keep=2)
    for number in range(5):
        book.observe("GPU-0", millijoules=0, pods=frozenset({f"pod-{number}"}), now=number)
    assert [each.pod for each in book.ended(now=1000)] == ["pod-3", "pod-4"]


@given(st.lists(st.tuples(st.integers(0, 10**9), st.sets(st.sampled_from("abc"))), min_size=2, max_size=30))
def test_energy__any_course__growth_while_anybody_was_there_is_drawn_by_somebody(
    steps: list[tuple[int, set[str]]],
) -> None:
    book, total, counter, before = EnergyBook(gone_seconds=10**6), 0, 0, steps[0][1]
    for now, (grown, pods) in enumerate(steps):
        counter += grown
        book.observe("GPU-0", millijoules=counter, pods=frozenset(pods), now=now)
        total += grown if now and (pods or before) else 0
        before = pods
    assert sum(book.running().values()) * 1000 == pytest.approx(total)
