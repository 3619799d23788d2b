"""How much of what stood idle was used."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fallow.agent.bought_back import BoughtBack, sentence
from fallow.resources.offer import UsedDay

MONDAY = datetime(2026, 6, 1, 12, tzinfo=UTC)


def look_for(use: BoughtBack, seconds: int, *, used: int, idle: int, start: float = 0.0) -> None:
    for second in range(0, seconds + 1, 60):
        use.look(
            used=used, idle=idle, monotonic=start + second, now=MONDAY + timedelta(seconds=start + second)
        )


def test_look__an_hour_of_three_in_eight__is_counted_and_said() -> None:
    use = BoughtBack()
    look_for(use, 3600, used=3, idle=8)
    assert use.told() == (UsedDay(day="2026-06-01", used_device_seconds=10_800, idle_device_seconds=28_800),)
    assert sentence(use.told()) == "3.0 accelerator-hours this week, 37 % of what stood idle."


def test_look__eight_days_pass__the_first_is_forgotten() -> None:
    use = BoughtBack()
    for day in range(8):
        look_for(use, 60, used=1, idle=1, start=day * 86_400.0)
    assert [each.day for each in use.told()] == [f"2026-06-0{d}" for d in range(2, 9)]


def test_look__nobody_looked_for_an_hour__counts_for_nothing() -> None:
    use = BoughtBack()
    use.look(used=1, idle=1, monotonic=0.0, now=MONDAY)
    use.look(used=1, idle=1, monotonic=3600.0, now=MONDAY)
    assert use.told() == ()
    assert sentence(use.told()) == ""


def test_load__a_new_process__goes_on_from_the_status() -> None:
    use = BoughtBack()
    use.load([UsedDay(day="2026-06-01", used_device_seconds=40, idle_device_seconds=100)])
    use.load([])
    look_for(use, 60, used=1, idle=1)
    assert use.told() == (UsedDay(day="2026-06-01", used_device_seconds=100, idle_device_seconds=160),)
