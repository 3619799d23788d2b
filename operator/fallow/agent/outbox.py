"""How long a record is kept after its Placement is gone: the outbox's rule, told with few writes.

A GuestSet answers for its Placement, should a hub restored from a backup bring that back. It is dropped
`outbox_seconds` after the Placement was gone. Most Placements go within seconds of their last attempt's end,
which the record has in it already; so only where one went later than that is the moment written down
(`spec.goneAt`), and a job of one task costs its member one write less.

Who finds a Placement gone after a restart did not see when it went: then too the last attempt's end counts,
and what is called soon. Should the agent have been away for longer than that at the very moment, the record
goes that much earlier; what then ran a second time would still not be paid a second time.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

SOON_SHARE = 0.01
"""A Placement goes soon when it goes within this share of `outbox_seconds` after its last attempt's end:
within 1.7 hours where records are kept for a week."""


def ended_at(guest_set: Mapping[str, Any]) -> datetime:
    """Return when a record's last attempt ended; its creation where none ever ran."""
    receipt = (guest_set.get("status") or {}).get("receipt") or {}
    return datetime.fromisoformat(receipt.get("periodEnd") or guest_set["metadata"]["creationTimestamp"])


def went_late(guest_set: Mapping[str, Any], *, now: datetime, outbox_seconds: float) -> bool:
    """Say whether a Placement that went just now went so late that it has to be written down."""
    return now - ended_at(guest_set) > timedelta(seconds=outbox_seconds * SOON_SHARE)


def droppable_at(guest_set: Mapping[str, Any], *, outbox_seconds: float) -> datetime:
    """Return when the record of a Placement that is gone may be dropped."""
    gone_at = guest_set["spec"].get("goneAt")
    keep = timedelta(seconds=outbox_seconds)
    if gone_at:
        return datetime.fromisoformat(gone_at) + keep
    return ended_at(guest_set) + keep * (1 + SOON_SHARE)
