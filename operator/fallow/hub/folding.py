"""A job's state: what was absorbed into its status, plus what its live placements say.

    state = folded + Σ contribution(placement)      over live placements not yet absorbed

Pure and associative: absorbing a placement moves its contribution from the sum into `folded` and changes
nothing else, which is why a crash between any two writes changes nothing either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fallow.hub.placements import JSON, Placed
from fallow.resources.ended import Outcome
from fallow.resources.money import format_amount, parse_amount
from fallow.resources.ranges import EMPTY, IndexRanges, parse_optional
from fallow.scheduler.replication import Want

Failures = Mapping[int, IndexRanges]
"""Tasks by how often they have failed of themselves."""


@dataclass(frozen=True, slots=True)
class Paid:
    """What a placement costs its job: from its claim where there is one, else assessed so far."""

    seconds: int = 0
    amount: int = 0
    failure_seconds: int = 0
    claimed: int = 0
    """How many claims say so."""


@dataclass(frozen=True, slots=True)
class Share:
    """One provider's part in a job."""

    placed: int = 0
    succeeded: int = 0
    seconds: int = 0
    amount: int = 0


@dataclass(frozen=True, slots=True)
class Folded:
    """What absorbed placements contributed: `status.folded`, parsed."""

    placements: IndexRanges = EMPTY
    succeeded: IndexRanges = EMPTY
    failures: Failures = field(default_factory=dict)
    paid_failure_seconds: int = 0
    shares: Mapping[str, Share] = field(default_factory=dict)
    claims: int = 0
    split: IndexRanges = EMPTY
    """Replicated tasks whose copies have no majority."""
    dissent: Mapping[int, IndexRanges] = field(default_factory=dict)
    """By number of a live placement: tasks of which its copy is not what the majority says."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a job stands. The ranges are disjoint and make up all its tasks."""

    pending: IndexRanges
    held: IndexRanges
    succeeded: IndexRanges
    failed: IndexRanges
    failures: Failures
    running: int
    shares: Mapping[str, Share]
    wants: tuple[Want, ...] = ()
    """Of a replicated job: the copies to place."""
    opening: Mapping[int, IndexRanges] = field(default_factory=dict)
    """Of a replicated job, by placement number: tasks whose results may be opened."""

    @property
    def complete(self) -> bool:
        """Whether every task has succeeded or failed for good."""
        return not self.pending and not self.held

    @property
    def begun(self) -> bool:
        """Whether any task was ever given to a provider and stayed there."""
        return bool(self.held or self.succeeded or self.failed or self.shares)

    @property
    def amount(self) -> int:
        """Payable so far."""
        return sum(share.amount for share in self.shares.values())


def succeeded_in(placed: Placed) -> IndexRanges:
    """Return the tasks that a placement brought to a counted success; a gang all of them or none."""
    done = IndexRanges.of(one.index for one in placed.counted if one.outcome is Outcome.SUCCEEDED)
    if placed.gang and (placed.released or done != placed.tasks):
        return EMPTY
    return done


def failed_in(placed: Placed) -> IndexRanges:
    """Return the tasks that failed of themselves; a gang shares one fate, known when it is over."""
    failed = IndexRanges.of(one.index for one in placed.counted if one.outcome.is_own_failure)
    if not placed.gang:
        return failed
    return placed.tasks if failed and not placed.released and not placed.open else EMPTY


def add_failures(failures: Failures, tasks: IndexRanges) -> Failures:
    """Return the counts after each of `tasks` failed once more; linear in the number of ranges."""
    if not tasks:
        return failures
    counts = dict(failures)
    rest = tasks
    for count in sorted(failures, reverse=True):
        moved = failures[count] & tasks
        if moved:
            counts[count] = counts[count] - moved
            counts[count + 1] = counts.get(count + 1, EMPTY) | moved
            rest -= moved
    if rest:
        counts[1] = counts.get(1, EMPTY) | rest
    return {count: ranges for count, ranges in sorted(counts.items()) if ranges}


def absorb(folded: Folded, placed: Placed, paid: Paid) -> Folded:
    """Return `folded` with a finished placement in it; the same when it is in it already."""
    if placed.number in folded.placements:
        return folded
    done = succeeded_in(placed)
    if placed.replicas > 1:  # a verdict has put them there, or has not
        done = (done & folded.succeeded) - folded.dissent.get(placed.number, EMPTY)
    shares = dict(folded.shares)
    share = shares.get(placed.provider, Share())
    shares[placed.provider] = replace(
        share,
        succeeded=share.succeeded + len(done),
        seconds=share.seconds + paid.seconds,
        amount=share.amount + paid.amount,
    )
    return replace(
        folded,
        placements=folded.placements | IndexRanges.of([placed.number]),
        succeeded=folded.succeeded | done,
        failures=add_failures(folded.failures, failed_in(placed)),
        paid_failure_seconds=folded.paid_failure_seconds + paid.failure_seconds,
        shares=shares,
        claims=folded.claims + paid.claimed,
    )


def standing(
    folded: Folded, live: Iterable[tuple[Placed, Paid]], *, tasks: int, backoff_limit: int, first: int = 0
) -> Standing:
    """Return where a job of `tasks` tasks stands; more than `backoff_limit` own failures are for good.

    `first` is the index of its first task.
    """
    held, running = EMPTY, 0
    total = folded
    placed_by: dict[str, int] = {}
    for placed, paid in live:
        if placed.number in folded.placements:
            continue
        total = absorb(total, placed, paid)
        held |= placed.held
        running += min(placed.running, len(placed.open))
        placed_by[placed.provider] = placed_by.get(placed.provider, 0) + len(placed.held)
    failed = EMPTY
    for count, ranges in total.failures.items():
        if count > backoff_limit:
            failed |= ranges
    failed -= total.succeeded
    # A task that has a counted success is done even where a copy of it still runs.
    held -= total.succeeded
    held -= failed
    shares = {
        name: replace(share, placed=placed_by.get(name, 0)) for name, share in sorted(total.shares.items())
    }
    return Standing(
        pending=IndexRanges.span(first, first + tasks) - total.succeeded - failed - held,
        held=held,
        succeeded=total.succeeded,
        failed=failed,
        failures=total.failures,
        running=min(running, len(held)),
        shares=shares,
    )


def read_folded(status: Mapping[str, Any], *, decimals: int) -> Folded:
    """Parse `status.folded` of a ComputeJob."""
    raw = status.get("folded") or {}
    return Folded(
        placements=parse_optional(raw.get("placements")),
        succeeded=parse_optional(raw.get("succeeded")),
        failures={one["count"]: parse_optional(one["tasks"]) for one in raw.get("failuresByCount") or ()},
        paid_failure_seconds=raw.get("paidFailureSeconds") or 0,
        shares={
            one["name"]: Share(
                succeeded=one.get("succeeded") or 0,
                seconds=one.get("seconds") or 0,
                amount=parse_amount(one.get("cost") or "0", decimals=decimals),
            )
            for one in raw.get("providers") or ()
        },
        claims=raw.get("claims") or 0,
        split=parse_optional(raw.get("noMajority")),
        dissent={one["placement"]: parse_optional(one["tasks"]) for one in raw.get("dissent") or ()},
    )


def write_folded(folded: Folded, *, settled_claims: int, decimals: int) -> JSON:
    """Return `folded` as `status.folded` has it."""
    return {
        "placements": str(folded.placements),
        "succeeded": folded.succeeded.compact(),
        "failuresByCount": write_failures(folded.failures),
        "paidFailureSeconds": folded.paid_failure_seconds,
        "providers": write_shares(folded.shares, decimals=decimals),
        "claims": folded.claims,
        "settledClaims": settled_claims,
        **_write_verdicts(folded),
    }


def _write_verdicts(folded: Folded) -> JSON:
    """Return what only replicated jobs have."""
    said: JSON = {}
    if folded.split:
        said["noMajority"] = str(folded.split)
    if folded.dissent:
        said["dissent"] = [
            {"placement": number, "tasks": str(tasks)} for number, tasks in sorted(folded.dissent.items())
        ]
    return said


def write_failures(failures: Failures) -> list[JSON]:
    """Return failure counts as the API has them."""
    return [{"count": count, "tasks": tasks.compact()} for count, tasks in sorted(failures.items())]


def write_shares(shares: Mapping[str, Share], *, decimals: int) -> list[JSON]:
    """Return providers' shares as the API has them."""
    return [
        {
            "name": name,
            "placed": share.placed,
            "succeeded": share.succeeded,
            "seconds": share.seconds,
            "cost": format_amount(share.amount, decimals=decimals),
        }
        for name, share in sorted(shares.items())
    ]
