"""How long records stay after their Placement is gone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fallow.agent.outbox import SOON_SHARE, droppable_at, ended_at, went_late

ENDED = datetime(2026, 1, 31, 12, tzinfo=UTC)
WEEK = 7 * 86_400.0
SOON = WEEK * SOON_SHARE


def a_record(*, gone_at: str | None = None, ran: bool = True) -> dict[str, Any]:
    status = {"receipt": {"periodEnd": "2026-01-31T12:00:00Z"}} if ran else {}
    spec = {"goneAt": gone_at} if gone_at else {}
    return {"metadata": {"creationTimestamp": "2026-01-31T11:00:00Z"}, "spec": spec, "status": status}


def test_record__of_tasks_that_ran__knows_the_last_ones_end() -> None:
    assert ended_at(a_record()) == ENDED
    assert ended_at(a_record(ran=False)) == ENDED - timedelta(hours=1)


@pytest.mark.parametrize(("after", "late"), [(5.0, False), (SOON, False), (SOON + 1, True)], ids=str)
def test_placement__gone_after_its_last_end__is_written_down_only_when_late(after: float, late: bool) -> None:
    assert went_late(a_record(), now=ENDED + timedelta(seconds=after), outbox_seconds=WEEK) is late


def test_record__whose_placement_went_soon__is_kept_for_as_long_as_any_after_that() -> None:
    kept = droppable_at(a_record(), outbox_seconds=WEEK) - ENDED
    assert kept == timedelta(seconds=WEEK + SOON)


def test_record__that_says_when_its_placement_went__is_kept_from_then_on() -> None:
    record = a_record(gone_at="2026-02-03T00:00:00Z")
    assert droppable_at(record, outbox_seconds=WEEK) == datetime(2026, 2, 10, tzinfo=UTC)
