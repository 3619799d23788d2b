"""A provider that falls silent again and again is believed later each time."""

from __future__ import annotations

from fallow.hub.flapping import FALLS, FIRST_SECONDS, LONGEST_SECONDS, WINDOW_SECONDS, Flapping


def fall_and_return(flapping: Flapping, times: int, *, start: float = 0.0) -> float | None:
    until = None
    for number in range(times):
        flapping.fell_silent("aurora", start + number)
        until = flapping.heard_again("aurora", start + number)
    return until


def test_flapping__fewer_silences_than_the_limit__costs_nothing() -> None:
    flapping = Flapping()
    assert fall_and_return(flapping, FALLS - 1) is None
    assert flapping.backs_off("aurora", FALLS) == 0


def test_flapping__each_further_silence__doubles_the_wait_to_a_limit() -> None:
    flapping = Flapping()
    assert fall_and_return(flapping, FALLS) == FALLS - 1 + FIRST_SECONDS
    flapping.fell_silent("aurora", 10)
    assert flapping.heard_again("aurora", 10) == 10 + 2 * FIRST_SECONDS
    assert flapping.backs_off("aurora", 11) == 2 * FIRST_SECONDS - 1
    assert flapping.backs_off("aurora", 10 + 2 * FIRST_SECONDS) == 0
    assert fall_and_return(flapping, 8, start=20) == 27 + LONGEST_SECONDS


def test_flapping__silences_of_long_ago__are_forgotten() -> None:
    flapping = Flapping()
    fall_and_return(flapping, FALLS)
    later = WINDOW_SECONDS + FALLS
    flapping.fell_silent("aurora", later)
    assert flapping.heard_again("aurora", later) is None
    assert flapping.times("aurora", later) == 1


def test_flapping__others__are_not_touched() -> None:
    flapping = Flapping()
    fall_and_return(flapping, FALLS)
    assert flapping.backs_off("borealis", 5) == 0
