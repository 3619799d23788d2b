"""Elapsed intervals of guests that run: which seconds are final, and when the next ones will be. Pure.

With `billing: PerInterval` an interval that a guest has run through is paid whatever becomes of the guest. It
counts from the start of its first container, by the node's clock; ours says that it is over, so a little is
waited for the two to agree. The record (GuestSet, then Placement) holds one number an index, and a restart in
the middle of an interval works it out anew from the pod's own start.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from fallow.agent.guests import Guest
from fallow.agent.work import Work

CLOCK_SKEW = timedelta(seconds=2)
"""How far a node's clock may be from ours."""


def interval_of(work: Work) -> int | None:
    """Return the length of a placement's intervals in seconds; None when it is billed by the task."""
    terms = work.spec.terms
    return terms.interval_seconds if terms.billing == "PerInterval" else None


def elapsed_seconds(guest: Guest, *, now: datetime, interval: int) -> int:
    """Return how many seconds of a guest that runs are whole intervals, up to its deadline."""
    if guest.started_at is None:
        return 0
    run = int((now - CLOCK_SKEW - guest.started_at).total_seconds())
    if guest.deadline_seconds is not None:
        run = min(run, guest.deadline_seconds)
    return max(0, run // interval * interval)


def marks(guests: Iterable[Guest], *, now: datetime, interval: int) -> dict[int, int]:
    """Return the whole intervals of guests that run, in seconds by index; of one that is going, none.

    A guest that is deleted or disrupted may have stopped already: its end will say what it ran.
    """
    found = {
        guest.index: elapsed_seconds(guest, now=now, interval=interval)
        for guest in guests
        if not guest.deleting and guest.disruption is None and not guest.finished
    }
    return {index: seconds for index, seconds in found.items() if seconds}


def next_mark_at(guests: Iterable[Guest], *, now: datetime, interval: int) -> datetime | None:
    """Return when the next interval of any of these guests will be over; None when none runs."""
    due = [
        guest.started_at
        + timedelta(seconds=elapsed_seconds(guest, now=now, interval=interval) + interval)
        + CLOCK_SKEW
        for guest in guests
        if guest.started_at is not None and not guest.finished
    ]
    return min(due, default=None)
