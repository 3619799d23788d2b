"""When the owner offers, and at which prices: the Offer's windows and exceptions at one moment.

All of it in the schedule's own time zone, so that a night stays a night when the clocks change. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from fallow.resources.offer import DAYS, OfferSpec, Schedule, Window
from fallow.resources.quote import Prices

_HORIZON_DAYS = 8
"""A change of windows is looked for this far ahead: a week has every day once, and windows may overlap it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """What the schedule says now."""

    open: bool
    prices: Prices
    """In force now; the Offer's own outside every window."""
    why: str = ""
    """Why it is closed, in one sentence."""
    until: datetime | None = None
    """When this may change; None when nothing in sight changes it."""


def hours(offer: OfferSpec, *, now: datetime) -> Hours:
    """Return what the Offer's schedule says at a moment with a time zone."""
    schedule = offer.schedule
    if not schedule.windows and not schedule.exceptions:
        return Hours(open=True, prices=offer.prices)
    zone = ZoneInfo(schedule.time_zone)
    is_open, window = _at(schedule, now.astimezone(zone))
    prices = window.prices if window is not None and window.prices is not None else offer.prices
    until = next((m for m in sorted(_edges(schedule, now, zone)) if m > now), None)
    opens = "" if is_open else _opens(schedule, now, zone)
    why = "" if is_open else f"Outside the Offer's windows{opens}."
    return Hours(open=is_open, prices=prices, why=why, until=until)


def _at(schedule: Schedule, moment: datetime) -> tuple[bool, Window | None]:
    """Say whether it is open at a local moment, and by which window."""
    window = next((w for w in schedule.windows if _holds(w, moment)), None)
    for exception in schedule.exceptions:
        if exception.day <= moment.date().isoformat() <= (exception.last_day or exception.day):
            return exception.offered, window if exception.offered else None
    return window is not None or not schedule.windows, window


def _holds(window: Window, moment: datetime) -> bool:
    """Compare clock faces: what the owner reads off the wall counts."""
    start, end = _minutes(window.start), _minutes(window.end)
    minute = moment.hour * 60 + moment.minute
    today, yesterday = moment.weekday(), (moment.weekday() - 1) % 7
    if start < end:
        return _on(window, today) and start <= minute < end
    return (_on(window, today) and minute >= start) or (_on(window, yesterday) and minute < end)


def _on(window: Window, weekday: int) -> bool:
    return not window.days or DAYS[weekday] in window.days


def _minutes(clock: str) -> int:
    hour, _, minute = clock.partition(":")
    return int(hour) * 60 + int(minute)


def _edges(schedule: Schedule, now: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    """Yield the moments of the next days at which a window or a day begins or ends."""
    first = now.astimezone(zone).date()
    clocks = {0} | {_minutes(c) % 1440 for w in schedule.windows for c in (w.start, w.end)}
    for ahead in range(_HORIZON_DAYS):
        for clock in clocks:
            yield _moment(first + timedelta(days=ahead), clock, zone)


def _moment(day: date, minutes: int, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(minutes // 60, minutes % 60), tzinfo=zone).astimezone(UTC)


def _opens(schedule: Schedule, now: datetime, zone: ZoneInfo) -> str:
    for edge in sorted(_edges(schedule, now, zone)):
        local = edge.astimezone(zone)
        if edge > now and _at(schedule, local)[0]:
            return f"; they open {DAYS[local.weekday()]} {local:%Y-%m-%d %H:%M} {schedule.time_zone}"
    return ""
