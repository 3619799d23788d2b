"""Seconds that one attempt is charged for."""

from __future__ import annotations

from datetime import datetime


def usage_seconds(started_at: datetime, finished_at: datetime, *, limit_seconds: int) -> int:
    """max(1, finished - started), at most `limit_seconds`.

    Both are times of one node's clock and whole seconds in Kubernetes; fractions are cut off.
    `limit_seconds` is the smallest bound that holds: the task's timeout, the quote's run limit,
    and what the hub itself observed. A clock that stepped back still charges one second, never a
    negative time. ValueError when the limit is below 1 or a time has no zone.
    """
    if limit_seconds < 1:
        raise ValueError("an attempt is charged at least one second, so its limit is at least 1")
    if started_at.tzinfo is None or finished_at.tzinfo is None:
        raise ValueError("times need a zone")
    elapsed = (finished_at - started_at).days * 86_400 + (finished_at - started_at).seconds
    return min(max(1, elapsed), limit_seconds)
