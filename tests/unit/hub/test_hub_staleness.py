"""Silence is counted by our own clock, only while our own watch lives."""

from __future__ import annotations

import pytest

from fallow.hub.staleness import NEVER_HEARD, SilenceLimits, Staleness


class Story:
    """Time passes in seconds; providers speak or not."""

    def __init__(self, *providers: str, **limits: float) -> None:
        self.staleness = Staleness(SilenceLimits(**limits))  # type: ignore[arg-type]
        self.now = 0.0
        self.version = 0
        self.providers = providers
        for name in providers:
            self.staleness.heard(name, "0")
        self.staleness.advance(self.now, watching=True)

    def passes(self, seconds: int, *, speaking: tuple[str, ...] = (), watching: bool = True) -> None:
        for _ in range(seconds):
            self.now += 1
            self.version += 1
            for name in speaking:
                self.staleness.heard(name, str(self.version))
            self.staleness.advance(self.now, watching=watching)


def test_silent__after_twenty_seconds__gets_no_new_work() -> None:
    story = Story("a", "b")
    story.passes(19, speaking=("b",))
    assert not story.staleness.silent("a")
    story.passes(1, speaking=("b",))
    assert story.staleness.silent("a")
    assert not story.staleness.silent("b")


@pytest.mark.parametrize(("waits", "after"), [(5, 5), (20, 20), (60, 60)])
def test_released__each_job_waits_as_long_as_it_says(waits: int, after: int) -> None:
    story = Story("a", "b", "c")
    story.passes(after - 1, speaking=("b", "c"))
    assert not story.staleness.released("a", unreachable_seconds=waits)
    story.passes(1, speaking=("b", "c"))
    assert story.staleness.released("a", unreachable_seconds=waits)
    assert not story.staleness.released("b", unreachable_seconds=waits)


def test_heard_again__silence_ends_at_once() -> None:
    story = Story("a", "b", "c")
    story.passes(40, speaking=("b", "c"))
    story.passes(1, speaking=("a", "b", "c"))
    assert not story.staleness.silent("a")
    assert not story.staleness.released("a", unreachable_seconds=5)


def test_same_version_again__is_no_sign_of_life() -> None:
    story = Story("a", "b", "c")
    for _ in range(25):
        story.passes(1, speaking=("b", "c"))
        story.staleness.heard("a", "0")
    assert story.staleness.silent("a")


def test_watch_lost__nobody_falls_silent_and_all_start_anew_when_it_is_back() -> None:
    story = Story("a", "b", "c")
    story.passes(15, speaking=("b", "c"))
    story.passes(600, watching=False)
    assert not story.staleness.silent("a")
    # NB: "a" may have spoken in the gap; its first 15 seconds do not count.
    story.passes(20)
    assert not story.staleness.silent("a")
    story.passes(1)
    assert story.staleness.silent("a")


def test_process_frozen__jump_of_the_clock__counts_only_if_the_watch_lived() -> None:
    story = Story("a")
    story.now += 1000
    story.staleness.advance(story.now, watching=False)
    story.passes(5)
    assert not story.staleness.silent("a")


def test_lease_announces_a_pause__its_length_is_no_silence() -> None:
    story = Story("a", "b", "c")
    story.staleness.heard("a", "restart", lease_seconds=120)
    story.passes(119, speaking=("b", "c"))
    assert not story.staleness.silent("a")
    assert not story.staleness.released("a", unreachable_seconds=20)
    story.passes(1, speaking=("b", "c"))
    assert story.staleness.silent("a")


def test_never_heard__is_silent_but_not_released() -> None:
    staleness = Staleness()
    assert staleness.silent("stranger")
    assert not staleness.released("stranger", unreachable_seconds=5)


def test_half_of_three_fall_silent_at_once__hub_suspects_itself_for_ten_minutes_and_then_releases() -> None:
    story = Story("a", "b", "c")
    story.passes(20, speaking=("c",))
    assert story.staleness.suspects_itself()
    assert not story.staleness.released("a", unreachable_seconds=20)
    story.passes(599, speaking=("c",))
    assert not story.staleness.released("a", unreachable_seconds=20)
    story.passes(1, speaking=("c",))
    assert story.staleness.released("a", unreachable_seconds=20)
    story.passes(300, speaking=("c",))
    assert story.staleness.released("a", unreachable_seconds=20), "it suspects itself once per event"


def test_providers_whose_agent_never_came__do_not_count_as_fallen_silent() -> None:
    story = Story("a", "b")
    for name in ("accepted-early", "never-installed"):
        story.staleness.heard(name, NEVER_HEARD)
    story.passes(25, speaking=("b",))
    assert not story.staleness.suspects_itself()
    assert story.staleness.released("a", unreachable_seconds=20)


def test_most_speak_again__suspicion_ends_early() -> None:
    story = Story("a", "b", "c")
    story.passes(25, speaking=("c",))
    story.passes(1, speaking=("b", "c"))
    assert not story.staleness.suspects_itself()
    assert story.staleness.released("a", unreachable_seconds=20)


def test_one_after_the_other__is_no_mass_silence() -> None:
    story = Story("a", "b", "c")
    story.passes(60, speaking=("b", "c"))
    story.passes(60, speaking=("c",))
    assert not story.staleness.suspects_itself()
    assert story.staleness.released("b", unreachable_seconds=20)


def test_two_providers__are_too_few_for_suspicion() -> None:
    story = Story("a", "b")
    story.passes(20)
    assert not story.staleness.suspects_itself()
    assert story.staleness.released("a", unreachable_seconds=20)
