"""What a provider is owed for a placement: each ended attempt is paid or disallowed with a reason.

The provider's word (the receipt) is the upper bound; what the hub saw itself bounds it from the other side:
no attempt runs longer than since the placement was made, and no node's slots run more than their time. Pure:
the same placement and tally give the same claim, so a claim decided twice is the same claim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fallow.errors import EndedError, MoneyError
from fallow.hub.folding import Paid
from fallow.hub.placements import JSON, Placed
from fallow.receipts.attempts import PAYABLE
from fallow.receipts.pricing import cumulative_amount
from fallow.receipts.statements import check_receipt, timestamp
from fallow.resources.ended import Ended, Outcome
from fallow.resources.money import format_amount, parse_amount
from fallow.resources.ranges import EMPTY, IndexRanges
from fallow.resources.receipt import SignedReceipt
from fallow.resources.terms import Terms

CLOCK_SLACK_SECONDS = 5
"""How far the hub's clock and its API server's may be apart, and whole seconds are rounded."""
SUBMITTERS_REASONS = frozenset({"JobDeleted", "JobSuspended", "JobFinished", "BudgetSpent"})
"""Stops that the submitter caused: what ran until then is paid."""


@dataclass(frozen=True, slots=True)
class Assessment:
    """Which ended attempts are paid, which are not and why, and what that comes to."""

    paid: tuple[Ended, ...] = ()
    disallowed: Mapping[str, tuple[Ended, ...]] = field(default_factory=dict)
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
    placed: Placed, *, now: int, failure_seconds_left: int, elsewhere: Elsewhere = Elsewhere()
) -> Assessment:
    """Judge all ended attempts of a placement.

    `now` is the hub's Unix time, `failure_seconds_left` how many seconds of its own failures the job
    still pays for.
    """
    paid: list[Ended] = []
    disallowed: dict[str, list[Ended]] = {}
    elapsed = max(0, now - placed.created) + CLOCK_SLACK_SECONDS
    node_of = {index: at for at, one in enumerate(placed.assigned) for index in one.tasks}
    node_seconds = [one.slots * elapsed for one in placed.assigned]
    failures = 0
    broken = placed.gang and _gang_is_broken(placed)
    for one in placed.ended:
        reason = _reason(one, placed, broken=broken, longest=min(elapsed, placed.timeout_seconds))
        reason = reason or _paid_elsewhere(one, elsewhere)
        at = node_of[one.index]
        if not reason and one.seconds > node_seconds[at]:
            reason = "LongerThanObserved"
        if not reason and one.outcome.is_own_failure and failures + one.seconds > failure_seconds_left:
            reason = "FailureLimit"
        if reason:
            disallowed.setdefault(reason, []).append(one)
            continue
        node_seconds[at] -= one.seconds
        failures += one.seconds if one.outcome.is_own_failure else 0
        paid.append(one)
    seconds = sum(one.seconds for one in paid)
    return Assessment(
        paid=tuple(paid),
        disallowed={reason: tuple(ended) for reason, ended in sorted(disallowed.items())},
        seconds=seconds,
        failure_seconds=failures,
        amount=cumulative_amount(total_seconds=seconds, price_per_task_hour=placed.price),
    )


def _reason(one: Ended, placed: Placed, *, broken: bool, longest: int) -> str:
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
    if one.seconds > longest:
        return "LongerThanObserved"
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
            terms=Terms.model_validate(obj["spec"]["terms"]),
            job_uid=obj["spec"]["job"]["uid"],
            placement_uid=obj["metadata"]["uid"],
        )
    except (MoneyError, EndedError, ValueError) as error:
        return str(error)
    return ""


def covered(placed: Placed, texts: Sequence[str]) -> bool:
    """Return whether the report is all about this placement's own tasks: one attempt of each, no stranger."""
    return len(texts) == len(placed.ended) and {str(one) for one in placed.ended} == set(texts)


def claim_of(
    obj: Mapping[str, Any],
    placed: Placed,
    assessment: Assessment,
    *,
    name: str,
    claim_id: str,
    term: int,
    labels: Mapping[str, str],
    first_running: int | None,
    finished: int,
) -> JSON:
    """Return the PaymentClaim (sequence 0) for a Placement, ready to be created."""
    spec = obj["spec"]
    observations: JSON = {"placedAt": timestamp(placed.created), "finishedAt": timestamp(finished)}
    if first_running is not None:
        observations["firstRunningAt"] = timestamp(first_running)
    return {
        "metadata": {"name": name, "namespace": placed.namespace, "labels": dict(labels)},
        "spec": {
            "placement": {"name": placed.name, "uid": placed.uid},
            "job": spec["job"],
            "attempt": placed.number,
            "sequence": 0,
            "claimId": claim_id,
            "term": term,
            "ended": [str(one) for one in assessment.paid],
            "disallowed": [
                {"reason": reason, "ended": [str(one) for one in ended]}
                for reason, ended in assessment.disallowed.items()
            ],
            "receipt": obj["status"]["receipt"],
            "observations": observations,
            "seconds": assessment.seconds,
            "amount": format_amount(assessment.amount, decimals=spec["terms"]["tokenDecimals"]),
            "terms": spec["terms"],
        },
    }


def successes_of(claim: Mapping[str, Any]) -> IndexRanges:
    """Return the indexes whose success a PaymentClaim object charges."""
    ended = (Ended.parse(text) for text in claim["spec"]["ended"])
    return IndexRanges.of(one.index for one in ended if one.outcome is Outcome.SUCCEEDED)


def paid_of(claim: Mapping[str, Any]) -> Paid:
    """Return what a PaymentClaim object charges."""
    spec = claim["spec"]
    failures = sum(one.seconds for one in map(Ended.parse, spec["ended"]) if one.outcome.is_own_failure)
    return Paid(
        seconds=spec["seconds"],
        amount=parse_amount(spec["amount"], decimals=spec["terms"]["tokenDecimals"]),
        failure_seconds=failures,
        claimed=True,
    )
