from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fallow.agent.schedule import hours
from fallow.resources.offer import DayException, Schedule, Window
from fallow.resources.quote import AcceleratorPrice, Prices
from unit.agent.some_work import an_offer

NIGHT = Window(start="20:00", end="06:00")
WEEKEND = Window(days=("Sat", "Sun"))
CHEAP = Prices(accelerators=(AcceleratorPrice(price_per_hour="0.50"),))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def said(schedule: Schedule, moment: str) -> Any:
    return hours(an_offer(schedule=schedule), now=utc(moment))


# 2026-11-22 is a Sunday; Stockholm is one hour ahead of UTC in winter and two in summer.
CASES: dict[str, tuple[dict[str, Any], str, bool]] = {
    "no windows": ({}, "2026-11-23T12:00", True),
    "at night": ({"windows": (NIGHT,)}, "2026-11-23T21:00", True),
    "after midnight of that night": ({"windows": (NIGHT,)}, "2026-11-24T05:59", True),
    "in the morning": ({"windows": (NIGHT,)}, "2026-11-24T06:00", False),
    "weekend": ({"windows": (WEEKEND,)}, "2026-11-22T12:00", True),
    "weekday": ({"windows": (WEEKEND,)}, "2026-11-23T00:00", False),
    "night of a day reaches into the next": (
        {"windows": (Window(days=("Sun",), start="20:00", end="06:00"),)},
        "2026-11-23T05:00",
        True,
    ),
    "and no night but that": (
        {"windows": (Window(days=("Sun",), start="20:00", end="06:00"),)},
        "2026-11-24T05:00",
        False,
    ),
    "in the zone it is night already": (
        {"windows": (NIGHT,), "time_zone": "Europe/Stockholm"},
        "2026-11-23T19:00",
        True,
    ),
    "and in summer an hour earlier": (
        {"windows": (NIGHT,), "time_zone": "Europe/Stockholm"},
        "2026-07-01T18:00",
        True,
    ),
    "not in winter at that hour": (
        {"windows": (NIGHT,), "time_zone": "Europe/Stockholm"},
        "2026-11-23T18:00",
        False,
    ),
    "a day off": ({"exceptions": (DayException(day="2026-11-23"),)}, "2026-11-23T12:00", False),
    "the day after": ({"exceptions": (DayException(day="2026-11-23"),)}, "2026-11-24T12:00", True),
    "within several days": (
        {"exceptions": (DayException(day="2026-12-23", last_day="2026-12-27"),), "windows": (NIGHT,)},
        "2026-12-26T23:00",
        False,
    ),
    "a holiday on which it is offered all day": (
        {"exceptions": (DayException(day="2026-12-25", offered=True),), "windows": (NIGHT,)},
        "2026-12-25T12:00",
        True,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_hours__windows_and_exceptions__say_whether_it_is_open(case: str) -> None:
    fields, moment, want = CASES[case]
    found = said(Schedule(**fields), moment)
    assert found.open is want
    assert bool(found.why) is not want


def test_hours__closed__says_when_it_opens_and_when_to_look_again() -> None:
    found = said(Schedule(windows=(NIGHT,), time_zone="Europe/Stockholm"), "2026-11-23T12:00")
    assert found.why == ("Outside the Offer's windows; they open Mon 2026-11-23 20:00 Europe/Stockholm.")
    assert found.until == utc("2026-11-23T19:00")


def test_hours__window_with_prices__they_count_while_it_lasts() -> None:
    schedule = Schedule(windows=(NIGHT.model_copy(update={"prices": CHEAP}), Window()))
    assert said(schedule, "2026-11-23T23:00").prices == CHEAP
    assert said(schedule, "2026-11-23T12:00").prices == an_offer().prices


def test_schedule__time_zone_nobody_knows__is_refused() -> None:
    with pytest.raises(ValidationError, match="no time zone"):
        Schedule(time_zone="Europe/Atlantis")


clock = st.builds(lambda h, m: f"{h:02}:{m:02}", st.integers(0, 23), st.integers(0, 59))
window = st.builds(
    Window, days=st.lists(st.sampled_from(["Mon", "Wed", "Sun"]), max_size=2), start=clock, end=clock
)


@given(
    windows=st.lists(window, max_size=3),
    exceptions=st.lists(
        st.builds(
            DayException,
            day=st.sampled_from(["2026-10-25", "2026-10-26", "2026-03-29"]),
            offered=st.booleans(),
        ),
        max_size=2,
    ),
    zone=st.sampled_from(["UTC", "Europe/Stockholm", "America/Los_Angeles", "Asia/Kolkata"]),
    start=st.integers(0, 7 * 1440),
    step=st.integers(1, 1440),
)
@settings(max_examples=200, deadline=None)
def test_hours__until_the_told_change__nothing_changes(
    windows: list[Window], exceptions: list[DayException], zone: str, start: int, step: int
) -> None:
    """Also in the week in which the clocks go back, but for the hour that comes twice."""
    schedule = Schedule(windows=tuple(windows), exceptions=tuple(exceptions), time_zone=zone)
    offer = an_offer(schedule=schedule)
    base = utc("2026-10-26T03:00").timestamp()
    now = datetime.fromtimestamp(base + start * 60, UTC)
    later = datetime.fromtimestamp(base + (start + step) * 60, UTC)
    found = hours(offer, now=now)
    if found.until is None or later < found.until:
        then = hours(offer, now=later)
        assert (then.open, then.prices) == (found.open, found.prices)
