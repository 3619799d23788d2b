"""How much of what stood idle was used by guests: device-seconds by day, for the owner's status.

The totals live in Offer.status and go on from there after a restart; a long gap between two looks was no
looking and counts for nothing, as in `observing`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from fallow.agent.observing import LONGEST_STEP_SECONDS
from fallow.resources.offer import UsedDay

DAYS = 7


class BoughtBack:
    """Sums of the last seven days, today included."""

    def __init__(self) -> None:
        self._days: dict[str, tuple[float, float]] = {}
        self._looked_at: float | None = None
        self._loaded = False

    def load(self, before: Iterable[UsedDay]) -> None:
        """Go on from what the status says; only the first call counts."""
        if not self._loaded:
            self._loaded = True
            self._days = {each.day: (each.used_device_seconds, each.idle_device_seconds) for each in before}

    def look(self, *, used: int, idle: int, monotonic: float, now: datetime) -> None:
        """Count the time since the last look: of `idle` devices without an owner's pod guests held `used`."""
        last, self._looked_at = self._looked_at, monotonic
        if last is None or not 0 <= monotonic - last <= LONGEST_STEP_SECONDS:
            return
        today = now.astimezone(UTC).date()
        step = monotonic - last
        held, free = self._days.get(today.isoformat(), (0.0, 0.0))
        self._days[today.isoformat()] = (held + used * step, free + max(used, idle) * step)
        oldest = (today - timedelta(days=DAYS - 1)).isoformat()
        self._days = {day: sums for day, sums in self._days.items() if day >= oldest}

    def told(self) -> tuple[UsedDay, ...]:
        """Return the days as the status shows them, whole seconds."""
        return tuple(
            UsedDay(day=day, used_device_seconds=int(used), idle_device_seconds=int(idle))
            for day, (used, idle) in sorted(self._days.items())
        )


def sentence(days: Iterable[UsedDay]) -> str:
    """Say it in one sentence: "412 GPU-hours this week, 38 % of what stood idle."."""
    each = list(days)
    used, idle = sum(d.used_device_seconds for d in each), sum(d.idle_device_seconds for d in each)
    if not idle:
        return ""
    hours = used / 3600
    amount = f"{hours:.0f}" if hours >= 10 else f"{hours:.1f}"
    return f"{amount} accelerator-hours this week, {100 * used // idle} % of what stood idle."
