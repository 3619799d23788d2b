"""What a provider is owed for a placement: each ended attempt is paid or disallowed with a reason.

The provider's word (the receipt) is the upper bound; what the hub saw itself bounds it from the other side:
of no attempt more is paid than the time since the placement was made, and no node's slots run more than their
time. Pure:
the same placement and tally give the same claim, so a claim decided twice is the same claim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fallow.errors import ElapsedError, EndedError, MoneyError
from fallow.hub.folding import Paid
from fallow.hub.intervals import NO_ELAPSED, NOTHING, ElapsedPart, judge_elapsed
from fallow.hub.placements import JSON, Placed
from fallow.receipts.attempts import PAYABLE
from fallow.receipts.charging import (
    OBSERVATION_SLACK_SECONDS,
    charged,
    longest_attempt,
    tail_seconds,
)
from fallow.receipts.statements import check_receipt, timestamp
from fallow.resources.elapsed import parse_all, stops_of
from fallow.resources.ended import Ended, Outcome
from fallow.resources.money import format_amount, parse_amount
from fallow.resources.ranges import EMPTY, IndexRanges
from fallow.resources.receipt import SignedReceipt
from fallow.resources.terms import Terms

_CUT = "LongerThanObserved"
SUBMITTERS_REASONS = frozenset({"JobDeleted", "JobSuspended", "JobFinished", "BudgetSpent"})
"""Stops that the submitter caused: what ran until then is paid."""


@dataclass(frozen=True, slots=True)
class Assessment:
    """Which ended attempts are paid, which are not and why, and what that comes to in this claim."""

    paid: tuple[Ended, ...] = ()
    disallowed: Mapping[str, tuple[Ended, ...]] = field(default_factory=dict)
    cut_seconds: int = 0
    """Seconds that paid attempts say they had beyond what was observed."""
    elapsed: ElapsedPart = NO_ELAPSED
    unjudged: tuple[Ended, ...] = ()
    """What has ended and the placement's last claim will judge, while this one is partial."""
    partial: bool = False
    seconds: int = 0
    failure_seconds: int = 0
    amount: int = 0

    @property
    def as_paid(self) -> Paid:
        """The part of it that a job's status counts."""
        return Paid(seconds=self.seconds, amount=self.amount, failure_seconds=self.failure_seconds)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What other placements of the job were paid for: no index is paid for a second time.

    By construction there is nothing here that this placement reports too; an agent that changes what it
    reported before could make it so.
    """

    succeeded: IndexRanges = EMPTY
    failed_for_good: IndexRanges = EMPTY
    """Tasks whose own failures have reached what the job pays for."""
    disagreed: IndexRanges = EMPTY
    """Replicated tasks of this placement whose result is not what the majority of copies says."""


def assess(
    placed: Placed,
    *,
    now: int,
    failure_seconds_left: int,
    elsewhere: Elsewhere = Elsewhere(),
    before: Mapping[int, int] = NOTHING,
    partial: bool = False,
) -> Assessment:
    """Judge all ended attempts of a placement, and its elapsed time.

    `now` is the hub's Unix time, `failure_seconds_left` how many seconds of its own failures the job
    still pays for. `before` is up to which second earlier claims charged each index; a `partial` claim
    leaves ended attempts to the last one.
    """
    paid: list[Ended] = []
    disallowed: dict[str, list[Ended]] = {}
    since = max(0, now - placed.created) + OBSERVATION_SLACK_SECONDS
    longest = longest_attempt(
        placed_at=placed.created, seen_until=now, timeout_seconds=placed.timeout_seconds
    )
    node_of = {index: at for at, one in enumerate(placed.assigned) for index in one.tasks}
    node_seconds = [one.slots * since for one in placed.assigned]
    elapsed = judge_elapsed(placed, node_seconds, longest=longest, before=before)
    stops = stops_of(placed.elapsed)
    failures = 0
    broken = placed.gang and _gang_is_broken(placed)
    for one in () if partial else placed.ended:
        seconds = tail_seconds(one, stops, longest=longest)
        reason = _reason(one, placed, broken=broken) or _paid_elsewhere(one, elsewhere)
        at = node_of[one.index]
        if not reason and seconds > node_seconds[at]:
            reason = _CUT
        if not reason and one.outcome.is_own_failure and failures + seconds > failure_seconds_left:
            reason = "FailureLimit"
        if reason:
            disallowed.setdefault(reason, []).append(one)
            continue
        node_seconds[at] -= seconds
        failures += seconds if one.outcome.is_own_failure else 0
        paid.append(one)
    sums = charged(paid, elapsed.charged, longest=longest)
    return Assessment(
        paid=tuple(paid),
        disallowed={reason: tuple(ended) for reason, ended in sorted(disallowed.items())},
        cut_seconds=sums.cut,
        elapsed=elapsed,
        unjudged=placed.ended if partial else (),
        partial=partial,
        seconds=sums.seconds,
        failure_seconds=failures,
        amount=sums.amount(placed.price),
    )


def _reason(one: Ended, placed: Placed, *, broken: bool) -> str:
    """Return why an attempt is not paid, or "" when it is."""
    if one.index in placed.released:
        return "Released"
    if one.outcome not in PAYABLE:
        return one.outcome.word
    if broken:
        return "GangBroken"
    cancelled = one.outcome is Outcome.CANCELLED
    wanted = one.index in placed.preempted or (placed.stopped and placed.stop_reason in SUBMITTERS_REASONS)
    if cancelled and not wanted:
        return "NotCancelled"
    if one.outcome is Outcome.SUCCEEDED and placed.gang and not _all_succeeded(placed):
        # It will run again as part of the gang, and an index is paid for one success only.
        return "GangBroken"
    return ""


def _paid_elsewhere(one: Ended, elsewhere: Elsewhere) -> str:
    if one.outcome is Outcome.SUCCEEDED and one.index in elsewhere.succeeded:
        return "SecondSuccess"
    if one.outcome is Outcome.SUCCEEDED and one.index in elsewhere.disagreed:
        return "Disagreed"
    if one.outcome.is_own_failure and one.index in elsewhere.failed_for_good:
        return "FailureLimit"
    return ""


def _gang_is_broken(placed: Placed) -> bool:
    """Return whether a gang lost a member through no fault of its own: then none of it is paid."""
    return bool(placed.released) or any(one.outcome not in PAYABLE for one in placed.ended)


def _all_succeeded(placed: Placed) -> bool:
    return len(placed.ended) == len(placed.tasks) and all(
        one.outcome is Outcome.SUCCEEDED for one in placed.ended
    )


def receipt_problem(obj: Mapping[str, Any]) -> str:
    """Return why the receipt in a Placement object cannot back a claim, or "" when it can."""
    status = obj.get("status") or {}
    if not status.get("receipt"):
        return "there is no receipt"
    try:
        ended = [Ended.parse(text) for text in status.get("ended") or ()]
        check_receipt(
            SignedReceipt.model_validate(status["receipt"]),
            ended,
            elapsed=parse_all(status.get("elapsed") or ()),
            attempt=obj["spec"]["attempt"],
            terms=Terms.model_validate(obj["spec"]["terms"]),
            job_uid=obj["spec"]["job"]["uid"],
            placement_uid=obj["metadata"]["uid"],
        )
    except (MoneyError, EndedError, ElapsedError, ValueError) as error:
        return str(error)
    return ""


def covered(placed: Placed, texts: Sequence[str], elapsed: Sequence[str] = ()) -> bool:
    """Return whether the report is all about this placement's own tasks: one attempt of each, no stranger."""
    if len(elapsed) != len(placed.elapsed):
        return False
    return len(texts) == len(placed.ended) and {str(one) for one in placed.ended} == set(texts)


def claim_of(
    obj: Mapping[str, Any],
    placed: Placed,
    assessment: Assessment,
    *,
    name: str,
    claim_id: str,
    sequence: int = 0,
    term: int,
    labels: Mapping[str, str],
    first_running: int | None,
    finished: int,
) -> JSON:
    """Return a PaymentClaim for a Placement, ready to be created.

    `finished` is when the hub first heard that all is over; of a partial claim, now.
    """
    spec = obj["spec"]
    observations: JSON = {"placedAt": timestamp(placed.created), "finishedAt": timestamp(finished)}
    if first_running is not None:
        observations["firstRunningAt"] = timestamp(first_running)
    more: JSON = {}
    if placed.per_interval:
        more = {
            "partial": assessment.partial,
            "elapsed": [str(one) for one in assessment.elapsed.charged],
            "unjudged": [str(one) for one in assessment.unjudged],
        }
    return {
        "metadata": {"name": name, "namespace": placed.namespace, "labels": dict(labels)},
        "spec": {
            **more,
            "placement": {"name": placed.name, "uid": placed.uid},
            "tasks": str(placed.tasks),
            "job": spec["job"],
            "attempt": placed.number,
            "sequence": sequence,
            "claimId": claim_id,
            "term": term,
            "ended": [str(one) for one in assessment.paid],
            "disallowed": _disallowed(assessment),
            "receipt": obj["status"]["receipt"],
            "observations": observations,
            "seconds": assessment.seconds,
            "amount": format_amount(assessment.amount, decimals=spec["terms"]["tokenDecimals"]),
            "terms": spec["terms"],
        },
    }


def _disallowed(assessment: Assessment) -> list[JSON]:
    parts: dict[str, JSON] = {
        reason: {"reason": reason, "ended": [str(one) for one in ended]}
        for reason, ended in assessment.disallowed.items()
    }
    for reason, elapsed in assessment.elapsed.unpaid.items():
        part = parts.setdefault(reason, {"reason": reason, "ended": []})
        part["elapsed"] = [str(one) for one in elapsed]
    if assessment.cut_seconds:
        part = parts.setdefault(_CUT, {"reason": _CUT, "ended": []})
        part["seconds"] = assessment.cut_seconds
    return [part for _, part in sorted(parts.items())]


def successes_of(claim: Mapping[str, Any]) -> IndexRanges:
    """Return the indexes whose success a PaymentClaim object charges."""
    ended = (Ended.parse(text) for text in claim["spec"]["ended"])
    return IndexRanges.of(one.index for one in ended if one.outcome is Outcome.SUCCEEDED)


def paid_of(*claims: Mapping[str, Any]) -> Paid:
    """Return what the PaymentClaim objects of a placement charge together."""
    seconds = amount = failures = 0
    for claim in claims:
        spec = claim["spec"]
        seconds += spec["seconds"]
        amount += parse_amount(spec["amount"], decimals=spec["terms"]["tokenDecimals"])
        failures += failure_seconds_of(spec)
    return Paid(seconds=seconds, amount=amount, failure_seconds=failures, claimed=len(claims))


def failure_seconds_of(spec: Mapping[str, Any]) -> int:
    """Return the seconds of own failures that a claim's spec charges; elapsed time is none of them."""
    stops = stops_of(parse_all(spec.get("elapsed") or ()))
    ended = map(Ended.parse, spec["ended"])
    return sum(tail_seconds(one, stops) for one in ended if one.outcome.is_own_failure)
