"""What a restored hub has to be told: archived claims of its jobs, folded into their statuses. Pure.

A placement that the backup does not have any more (it was made after it) is folded as the hub would
have absorbed it. One that it still has is left to the hub: with its claim back in place, the hub
absorbs it in the ordinary way as soon as its agent reports again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fallow.hub.claims import failure_seconds_of
from fallow.hub.folding import Folded, Share, add_failures, read_folded, write_folded
from fallow.resources.ended import Ended, Outcome
from fallow.resources.money import parse_amount
from fallow.resources.ranges import EMPTY, IndexRanges

JSON = dict[str, Any]

_NOT_COUNTED = frozenset({"Released", "GangBroken"})
"""Reasons for which the hub disallowed an attempt that does not count for the job either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """A claim as the archive has it."""

    namespace: str
    name: str
    spec: Mapping[str, Any]
    epoch: int
    commitment: str | None
    """Of the epoch that settled it; None when none did."""

    @property
    def number(self) -> int:
        """The placement's number within its job."""
        return int(self.spec["attempt"])

    @property
    def placement_uid(self) -> str:
        """UID of its placement."""
        return str(self.spec["placement"]["uid"])


def missing(job: Mapping[str, Any], claims: Iterable[Archived], *, live: set[str]) -> list[Archived]:
    """Return the claims that the hub cannot know of: not absorbed in the backup, or still to be.

    `live` are the UIDs of the placements that the hub has. A claim that was absorbed before the
    backup was settled and cleaned up, or is still there.
    """
    folded = read_folded(job.get("status") or {}, decimals=18)
    return [one for one in claims if one.number not in folded.placements or one.placement_uid in live]


def refolded(
    job: Mapping[str, Any], claims: Sequence[Archived], *, live: set[str], decimals: int
) -> JSON | None:
    """Return the job's status with the work of `claims` in it; None when it says all of it already."""
    before = job.get("status") or {}
    folded = read_folded(before, decimals=decimals)
    gone: dict[int, list[Archived]] = {}
    for one in claims:
        if one.placement_uid not in live and one.number not in folded.placements:
            gone.setdefault(one.number, []).append(one)
    for number, parts in sorted(gone.items()):
        folded = _absorbed(folded, number, parts, job=job, decimals=decimals)
    numbers = [one.number + 1 for one in claims]
    reserved = max([before.get("placementsReserved") or 0, *numbers])
    if not gone and reserved == (before.get("placementsReserved") or 0):
        return None
    settled = (before.get("folded") or {}).get("settledClaims") or 0
    settled += sum(1 for parts in gone.values() for one in parts if one.commitment is not None)
    return {
        **before,
        "placementsReserved": reserved,
        "folded": write_folded(folded, settled_claims=min(settled, folded.claims), decimals=decimals),
    }


def _absorbed(
    folded: Folded, number: int, parts: Sequence[Archived], *, job: Mapping[str, Any], decimals: int
) -> Folded:
    """Add one placement: all its claims, their paid attempts and those that count without pay."""
    counted: dict[int, Ended] = {}
    seconds = amount = failure_seconds = 0
    for one in parts:
        spec = one.spec
        paid = [Ended.parse(text) for text in spec["ended"]]
        rest = [
            Ended.parse(text)
            for part in spec.get("disallowed") or ()
            if part["reason"] not in _NOT_COUNTED
            for text in part["ended"]
        ]
        counted |= {each.index: each for each in [*rest, *paid]}
        seconds += spec["seconds"]
        amount += parse_amount(spec["amount"], decimals=decimals)
        failure_seconds += failure_seconds_of(spec)
    succeeded = IndexRanges.of(at for at, each in counted.items() if each.outcome is Outcome.SUCCEEDED)
    failed = IndexRanges.of(at for at, each in counted.items() if each.outcome.is_own_failure)
    if job["spec"].get("gang"):
        first = job["spec"].get("firstIndex") or 0
        everyone = IndexRanges.span(first, first + job["spec"]["tasks"])
        succeeded = succeeded if succeeded == everyone else EMPTY
        failed = everyone if failed else EMPTY
    provider = str(parts[0].spec["terms"]["provider"])
    share = folded.shares.get(provider, Share())
    return replace(
        folded,
        placements=folded.placements | IndexRanges.of([number]),
        succeeded=folded.succeeded | succeeded,
        failures=add_failures(folded.failures, failed),
        paid_failure_seconds=folded.paid_failure_seconds + failure_seconds,
        shares={
            **folded.shares,
            provider: replace(
                share,
                succeeded=share.succeeded + len(succeeded),
                seconds=share.seconds + seconds,
                amount=share.amount + amount,
            ),
        },
        claims=folded.claims + len(parts),
    )
