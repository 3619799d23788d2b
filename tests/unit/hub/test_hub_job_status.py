"""What `kubectl get cj` and `describe` say, in each situation; nothing new to say means nothing to write."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from fallow.hub.folding import Folded, Paid, Share, absorb, read_folded, standing
from fallow.hub.job_status import Outside, status_of
from fallow.hub.jobs import JobRecord, read_wish
from fallow.hub.placements import Placed
from fallow.resources.computejob import ComputeJobStatus
from fallow.resources.ranges import IndexRanges
from fallow.scheduler.explain import Wait
from unit.hub.builders import a_job, ended, placed

JSON = dict[str, Any]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
DONE = [ended(n) for n in range(4)]
PAID = Paid(seconds=40, amount=40_000, claimed=True)


def status(
    *live: Placed,
    folded: Folded | None = None,
    wait: Wait | None = None,
    before: JSON | None = None,
    spec: JSON | None = None,
    **outside: Any,
) -> JSON:
    job = a_job(**(spec or {}))
    if before is not None:
        job["status"] = before
    record = JobRecord(read_wish(job, decimals=6), next_number=0, folded=folded or Folded(), wait=wait)
    record.account_problem = outside.get("account_problem", "")
    if record.wish.spec is not None:
        record.standing = standing(record.folded, [(one, PAID) for one in live], tasks=4, backoff_limit=0)
    found = status_of(
        job,
        record,
        Outside(**{"now": NOW, "decimals": 6, "live": len(live), "symbol": "USDC", **outside}),
        folded=record.folded,
        reserved_numbers=64,
    )
    ComputeJobStatus.model_validate(found)
    return found


def conditions(found: JSON) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in found["conditions"]}


ALL_DONE = absorb(Folded(), placed("0-3", reports=DONE, state="Finished"), PAID)
FAILED = absorb(
    Folded(),
    placed("0-3", reports=[ended(0, "F"), *DONE[1:]], state="Finished"),
    PAID,
)

CASES: dict[str, tuple[JSON, dict[str, tuple[str, str]], str]] = {
    "just accepted": (
        status(),
        {"Accepted": ("True", "Accepted"), "Scheduled": ("False", "Pending")},
        "0 of 4 tasks done.",
    ),
    "waits, and says why": (
        status(wait=Wait("4 tasks wait: no provider meets X.", "RequirementUnmet")),
        {"Accepted": ("True", "Accepted"), "Scheduled": ("False", "RequirementUnmet")},
        "0 of 4 tasks done. 4 tasks wait: no provider meets X.",
    ),
    "runs": (
        status(placed("0-3", reports=DONE[:1], running=3)),
        {"Accepted": ("True", "Accepted"), "Scheduled": ("True", "AllPlaced")},
        "1 of 4 tasks done, 3 running on aurora.",
    ),
    "suspended": (
        status(spec={"suspend": True}),
        {"Accepted": ("True", "Accepted"), "Scheduled": ("False", "Suspended")},
        "Suspended: 0 of 4 tasks done.",
    ),
    "account cannot pay": (
        status(account_problem="Account default does not exist."),
        {"Accepted": ("False", "AccountNotUsable")},
        "Account default does not exist.",
    ),
    "refused": (
        status(spec={"gang": True, "parallelism": 1}),
        {"Accepted": ("False", "Invalid")},
        "spec.parallelism of a gang must not be below spec.tasks: all its tasks run at once.",
    ),
    "succeeded, not claimed yet": (
        status(placed("0-3", reports=DONE, state="Finished")),
        {
            "Accepted": ("True", "Accepted"),
            "Scheduled": ("True", "Complete"),
            "Succeeded": ("True", "AllSucceeded"),
            "Settled": ("False", "Waiting"),
        },
        "All 4 tasks succeeded; 0.04 USDC, 0 of 0 claims settled.",
    ),
    "succeeded, claim open": (
        status(folded=ALL_DONE, claims=1),
        {
            "Accepted": ("True", "Accepted"),
            "Scheduled": ("True", "Complete"),
            "Succeeded": ("True", "AllSucceeded"),
            "Settled": ("False", "Waiting"),
        },
        "All 4 tasks succeeded; 0.04 USDC, 0 of 1 claims settled.",
    ),
    "succeeded and settled": (
        status(folded=ALL_DONE, claims=1, settled=1),
        {
            "Accepted": ("True", "Accepted"),
            "Scheduled": ("True", "Complete"),
            "Succeeded": ("True", "AllSucceeded"),
            "Settled": ("True", "Settled"),
        },
        "All 4 tasks succeeded; 0.04 USDC, settled.",
    ),
    "succeeded, a claim refused": (
        status(folded=ALL_DONE, claims=1, refused=1),
        {
            "Accepted": ("True", "Accepted"),
            "Scheduled": ("True", "Complete"),
            "Succeeded": ("True", "AllSucceeded"),
            "Settled": ("False", "ClaimRefused"),
        },
        "All 4 tasks succeeded; 0.04 USDC, 0 of 1 claims settled.",
    ),
    "failed": (
        status(folded=FAILED, claims=1, settled=1, last_words="task 0 Failed with exit code 1"),
        {
            "Accepted": ("True", "Accepted"),
            "Scheduled": ("True", "Complete"),
            "Failed": ("True", "TasksFailed"),
            "Settled": ("True", "Settled"),
        },
        "1 of 4 tasks failed for good; 0.04 USDC, settled.",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_status(case: str) -> None:
    found, wanted, message = CASES[case]
    assert conditions(found) == wanted
    assert found["message"] == message
    counts = found["counts"]
    assert sum(counts.values()) == 4


def test_status__nothing_changed__is_equal_to_what_is_there() -> None:
    for arguments in ({}, {"folded": ALL_DONE, "claims": 1}, {"account_problem": "no"}):
        first = status(**arguments)
        again = status(before=first, now=datetime(2027, 1, 1, tzinfo=UTC), **arguments)
        assert again == first


def test_status__accepted_once__an_account_that_runs_dry_does_not_take_it_back() -> None:
    before = status()
    after = status(before=before, account_problem="Account default cannot pay: it is empty.")
    assert conditions(after)["Accepted"] == ("True", "Accepted")
    assert "cannot pay" in after["message"]


def test_status__budget_changed_into_nonsense_while_tasks_run__says_so_and_follows_on() -> None:
    running = placed("0-3", reports=DONE[:1], running=3)
    found = status(running, spec={"budget": {"maxTotal": "0.0000001"}})
    assert conditions(found)["Accepted"] == ("False", "Invalid")
    assert found["message"].startswith("spec.budget.maxTotal")
    assert (found["counts"]["running"], found["counts"]["succeeded"]) == (3, 1)


def test_status__last_words_forgotten_by_a_restart__condition_keeps_them() -> None:
    before = status(folded=FAILED, last_words="task 0 Failed with exit code 1")
    after = status(folded=FAILED, before=before)
    assert after == before
    failed = next(one for one in after["conditions"] if one["type"] == "Failed")
    assert failed["message"] == "1 task failed for good: 0. Last: task 0 Failed with exit code 1."


def test_status__settled_claims_deleted_later__stays_settled() -> None:
    before = status(folded=ALL_DONE, claims=1, settled=1)
    assert conditions(status(folded=ALL_DONE, claims=1, settled=0, before=before))["Settled"][0] == "True"


def test_status__reserved_numbers__never_fall() -> None:
    assert status(before={"placementsReserved": 128})["placementsReserved"] == 128


def test_status__hundred_thousand_tasks_that_ended_in_no_order_at_all__fits_into_an_object() -> None:
    """The worst there is: every other task succeeded, the rest failed up to 21 times, at 1000 providers."""
    tasks = 100_000
    failures = {count: IndexRanges.of(range(2 * count - 1, tasks, 42)) for count in range(1, 22)}
    shares = {
        f"{name:04}" + 59 * "x": Share(placed=99, succeeded=99_999, seconds=10**9, amount=10**15)
        for name in range(1000)
    }
    folded = Folded(
        placements=IndexRanges.of(range(0, 4000, 2)),
        succeeded=IndexRanges.of(range(0, tasks, 2)),
        failures=failures,
        shares=shares,
    )
    job = a_job(tasks=tasks, backoffLimitPerTask=20)
    record = JobRecord(read_wish(job, decimals=6), next_number=4000, folded=folded)
    record.standing = standing(folded, [], tasks=tasks, backoff_limit=20)
    found = status_of(job, record, Outside(now=NOW, decimals=6), folded=folded, reserved_numbers=4064)
    ComputeJobStatus.model_validate(found)
    assert len(json.dumps(found)) < 1_200_000, "etcd takes 1.5 MiB"
    again = read_folded(found, decimals=6)
    assert (again.succeeded, again.failures) == (folded.succeeded, folded.failures)
