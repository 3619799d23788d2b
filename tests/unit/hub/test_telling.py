"""Statuses that only tell: at once while little else is written, rationed when much is."""

from __future__ import annotations

from fallow.hub.telling import BUSY_WRITES, PER_SECOND, Telling


def test_status__while_little_is_written__is_told_at_once() -> None:
    telling = Telling()
    assert all(telling.may(0.0, writes=BUSY_WRITES - 1) for _ in range(100))


def test_statuses__while_much_is_written__are_told_a_few_a_second() -> None:
    telling = Telling()
    told = sum(telling.may(millisecond / 1000, writes=BUSY_WRITES) for millisecond in range(1001))
    assert PER_SECOND <= told <= PER_SECOND + 1
