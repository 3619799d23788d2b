"""A ComputeJob's status, as a pure function of what the hub knows: the whole object, every time.

It is written only where it differs from what is there, so nothing in it may change by itself: no times but
those of transitions, no rates.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from fallow.hub.folding import Folded, Standing, write_failures, write_folded, write_shares
from fallow.hub.jobs import JobRecord
from fallow.hub.placements import JSON
from fallow.kube.conditions import condition, merged, rfc3339
from fallow.resources.money import format_amount


@dataclass(frozen=True, slots=True)
class Outside:
    """What a status says beyond the fold."""

    now: datetime
    decimals: int
    account_problem: str = ""
    """Why the account cannot pay, or ""."""
    live: int = 0
    """Placements that are not yet absorbed."""
    claims: int = 0
    """Claims written so far, absorbed ones included."""
    settled: int = 0
    refused: int = 0
    """Claims that the settler will not settle; they say why themselves."""
    last_words: str = ""
    symbol: str = ""
    """What people call the token."""


def status_of(
    job: JSON, record: JobRecord, outside: Outside, *, folded: Folded, reserved_numbers: int
) -> JSON:
    """Return the whole status that a job should have.

    `folded` is what it is to say of absorbed placements, `reserved_numbers` the placement numbers that
    may be used from then on; the latter never falls.
    """
    before = job.get("status") or {}
    generation = job["metadata"].get("generation") or 0
    wish, standing = record.wish, record.standing
    conditions = before.get("conditions")
    was_accepted = _status(conditions, "Accepted") == "True"

    verdict_reason, verdict_message, accepted = (
        wish.verdict.reason,
        wish.verdict.message,
        wish.verdict.accepted,
    )
    if accepted and outside.account_problem and not was_accepted:
        verdict_reason, verdict_message, accepted = "AccountNotUsable", outside.account_problem, False
    changes = [
        condition(
            "Accepted",
            accepted,
            reason=verdict_reason,
            message=verdict_message,
            observed_generation=generation,
        )
    ]
    status: JSON = {
        **before,
        "observedGeneration": generation,
        "placementsReserved": max(reserved_numbers, before.get("placementsReserved") or 0),
    }
    if standing is None or wish.spec is None or (not accepted and not standing.begun):
        tasks = job["spec"].get("tasks")
        status["counts"] = _counts(pending=tasks if isinstance(tasks, int) else 0)
        status["message"] = verdict_message
        status["conditions"] = merged(conditions, changes, now=outside.now)
        return status

    if folded.split:
        said = f"Copies of {_tasks(len(folded.split))} gave different results, none of them to a majority: "
        said += f"{_short(str(folded.split))}. All copies are paid. A result has to depend on the input only."
        changes.append(condition("NonDeterministic", True, reason="NoMajority", message=said))
    changes += _progress(record, standing, outside, suspended=wish.spec.suspend)
    if _status(conditions, "Failed") == "True":
        # Its message quotes last words that are gone by now: it stays as it was said first.
        changes = [one for one in changes if one["type"] != "Failed"]
    settled = standing.complete and outside.live == 0 and outside.settled >= outside.claims
    # Claims are deleted long after they settled: what was said stays said.
    settled = settled or _status(conditions, "Settled") == "True"
    if standing.complete:
        changes.append(_settled(outside, settled=settled))
    status |= {
        "conditions": merged(conditions, changes, now=outside.now),
        "message": _message(job, record, standing, outside, settled=settled),
        "counts": _counts(
            pending=len(standing.pending),
            placed=len(standing.held) - standing.running,
            running=standing.running,
            succeeded=len(standing.succeeded),
            failed=len(standing.failed),
        ),
        "succeededTasks": standing.succeeded.compact(),
        "failedTasks": standing.failed.compact(),
        "failuresByCount": write_failures(standing.failures),
        "providers": write_shares(standing.shares, decimals=outside.decimals),
        "cost": format_amount(standing.amount, decimals=outside.decimals),
        "folded": write_folded(
            folded,
            # NB: never less than was said: claims are deleted long after they settled.
            settled_claims=max(
                min(outside.settled, folded.claims), (before.get("folded") or {}).get("settledClaims") or 0
            ),
            decimals=outside.decimals,
        ),
    }
    if "startTime" not in status and (standing.held or standing.succeeded or standing.failed):
        status["startTime"] = rfc3339(outside.now)
    if standing.complete and "completionTime" not in status:
        status["completionTime"] = rfc3339(outside.now)
    return status


def _counts(*, pending: int, placed: int = 0, running: int = 0, succeeded: int = 0, failed: int = 0) -> JSON:
    return {
        "pending": pending,
        "placed": placed,
        "running": running,
        "succeeded": succeeded,
        "failed": failed,
    }


def _progress(record: JobRecord, standing: Standing, outside: Outside, *, suspended: bool) -> list[JSON]:
    if standing.complete:
        failed = len(standing.failed)
        scheduled = condition("Scheduled", True, reason="Complete", message="Every task has run.")
        if not failed:
            done = condition("Succeeded", True, reason="AllSucceeded", message="All tasks succeeded.")
        else:
            said = f"{_tasks(failed)} failed for good: {_short(str(standing.failed))}."
            if outside.last_words:
                said += f" Last: {outside.last_words}."
            done = condition("Failed", True, reason="TasksFailed", message=said)
        return [scheduled, done]
    if suspended:
        said = "spec.suspend is true: nothing starts."
        return [condition("Scheduled", False, reason="Suspended", message=said)]
    if not standing.pending and not standing.wants:
        return [condition("Scheduled", True, reason="AllPlaced", message="Every task has a place.")]
    if record.wait is not None:
        return [condition("Scheduled", False, reason=record.wait.reason, message=record.wait.sentence)]
    return [
        condition("Scheduled", False, reason="Pending", message="The scheduler has not looked at it yet.")
    ]


def _settled(outside: Outside, *, settled: bool) -> JSON:
    if settled:
        said = f"All {outside.claims} claims are settled." if outside.claims else "Nothing was payable."
        return condition("Settled", True, reason="Settled", message=said)
    if outside.live:
        said = f"{outside.live} placements are not claimed yet."
    else:
        said = f"{outside.settled} of {outside.claims} claims are settled."
    if outside.refused:
        said = f"The settler refused {outside.refused} of {outside.claims} claims; their status says why."
        return condition("Settled", False, reason="ClaimRefused", message=said)
    return condition("Settled", False, reason="Waiting", message=said)


def _message(job: JSON, record: JobRecord, standing: Standing, outside: Outside, *, settled: bool) -> str:
    """Return where the job stands, in one sentence (or two when something waits)."""
    assert record.wish.spec is not None
    if not record.wish.verdict.accepted:
        return record.wish.verdict.message
    tasks = record.wish.spec.tasks
    cost = f"{format_amount(standing.amount, decimals=outside.decimals)} {outside.symbol}".rstrip()
    if standing.complete:
        money = (
            f"{cost}, settled" if settled else f"{cost}, {outside.settled} of {outside.claims} claims settled"
        )
        if standing.failed:
            return f"{len(standing.failed)} of {_tasks(tasks)} failed for good; {money}."
        return f"{'All ' if tasks > 1 else ''}{_tasks(tasks)} succeeded; {money}."
    done = f"{len(standing.succeeded)} of {_tasks(tasks)} done"
    if record.wish.spec.suspend:
        return f"Suspended: {done}."
    places = [name for name, share in standing.shares.items() if share.placed]
    if standing.held:
        done += f", {standing.running} running on {', '.join(places[:4])}"
        done += f" and {len(places) - 4} more" if len(places) > 4 else ""
    if outside.account_problem:
        return f"{done}. {outside.account_problem}"[:1024]
    if (standing.pending or standing.wants) and record.wait is not None:
        return f"{done}. {record.wait.sentence}"[:1024]
    return f"{done}."


def _status(conditions: list[JSON] | None, type_: str) -> str:
    return next((str(one["status"]) for one in conditions or () if one["type"] == type_), "")


def _tasks(count: int) -> str:
    return f"{count} task{'s' if count != 1 else ''}"


def _short(ranges: str) -> str:
    return ranges if len(ranges) <= 200 else ranges[:200].rsplit(",", 1)[0] + ",…"
