"""Folding the archive into a restored job: what the backup forgot, once, and nothing that it knows."""

from __future__ import annotations

from typing import Any

import pytest

from fallow.cli.refolding import Archived, missing, refolded
from fallow.hub.folding import read_folded
from unit.cli.proof_cases import a_spec


def an_archived(
    number: int,
    *ended: str,
    disallowed: tuple[str, str] | None = None,
    settled: bool = True,
    sequence: int = 0,
) -> Archived:
    """The claim of placement `number`, UID included, with these attempts paid."""
    wire = a_spec(number, ended=ended, attempt=number).wire()
    wire["sequence"] = sequence
    if disallowed is not None:
        wire["disallowed"] = [{"reason": disallowed[0], "ended": [disallowed[1]]}]
    return Archived(
        namespace="provider-aurora",
        name=f"claim-{number}-{sequence}",
        spec=wire,
        epoch=1,
        commitment="0x" + "11" * 32 if settled else None,
    )


def a_job(*, tasks: int = 10, gang: bool = False, **status: Any) -> dict[str, Any]:
    return {"metadata": {"uid": "job"}, "spec": {"tasks": tasks, "gang": gang}, "status": status}


def fold(job: dict[str, Any], *claims: Archived, live: frozenset[str] = frozenset()) -> dict[str, Any] | None:
    return refolded(job, claims, live=set(live), decimals=6)


def test_refolded__claims_after_the_backup__add_successes_failures_and_cost() -> None:
    job = a_job(
        placementsReserved=1,
        folded={"placements": "0", "succeeded": "0", "claims": 1, "settledClaims": 1},
        message="kept",
    )
    status = fold(job, an_archived(1, "1:1:3600:S:", "2:1:1800:F:"), an_archived(2, "2:2:3600:S:"))
    assert status is not None
    folded = status["folded"]
    assert (folded["placements"], folded["succeeded"], folded["claims"]) == ("0-2", "0-2", 3)
    assert folded["failuresByCount"] == [{"count": 1, "tasks": "2"}]
    assert (folded["paidFailureSeconds"], folded["settledClaims"]) == (1800, 3)
    (share,) = folded["providers"]
    assert (share["succeeded"], share["seconds"], share["cost"]) == (2, 9000, "4.5")
    assert (status["placementsReserved"], status["message"]) == (3, "kept")


def test_refolded__again__changes_nothing() -> None:
    job = a_job()
    status = fold(job, an_archived(1, "1:1:3600:S:"))
    assert status is not None
    assert fold({**job, "status": status}, an_archived(1, "1:1:3600:S:")) is None


def test_refolded__a_placement_that_the_hub_still_has__is_left_to_the_hub() -> None:
    claim = an_archived(1, "1:1:3600:S:")
    job = a_job(placementsReserved=8)
    assert fold(job, claim, live=frozenset({claim.placement_uid})) is None
    assert missing(job, [claim], live={claim.placement_uid}) == [claim]


def test_refolded__its_number_only__is_never_used_again() -> None:
    claim = an_archived(5, "1:5:3600:S:")
    status = fold(a_job(placementsReserved=2), claim, live=frozenset({claim.placement_uid}))
    assert status is not None
    assert status["placementsReserved"] == 6


def test_missing__absorbed_before_the_backup__is_not_given_back() -> None:
    job = a_job(folded={"placements": "1"})
    assert missing(job, [an_archived(1), an_archived(2, "2:2:60:S:")], live=set()) == [
        an_archived(2, "2:2:60:S:")
    ]


@pytest.mark.parametrize(
    ("reason", "counts"), [("Released", ""), ("LongerThanObserved", "7"), ("SecondSuccess", "7")]
)
def test_refolded__disallowed_success__counts_as_it_did_for_the_hub(reason: str, counts: str) -> None:
    status = fold(a_job(), an_archived(1, "3:1:60:F:", disallowed=(reason, "7:1:60:S:")))
    assert status is not None
    assert status["folded"]["succeeded"] == counts


def test_refolded__several_claims_of_one_placement__are_one_placement() -> None:
    # Interval billing: the same attempt is in both, with further seconds.
    status = fold(
        a_job(), an_archived(1, "1:1:3600:S:"), an_archived(1, "1:1:3600:S:", sequence=1, settled=False)
    )
    assert status is not None
    folded = read_folded(status, decimals=6)
    assert (str(folded.placements), len(folded.succeeded), folded.claims) == ("1", 1, 2)
    assert status["folded"]["settledClaims"] == 1


def test_refolded__gang__succeeds_or_fails_as_one() -> None:
    whole = fold(a_job(tasks=2, gang=True), an_archived(0, "0:0:60:S:", "1:0:60:S:"))
    broken = fold(a_job(tasks=2, gang=True), an_archived(0, "0:0:60:F:"))
    assert whole is not None
    assert broken is not None
    assert whole["folded"]["succeeded"] == "0-1"
    assert broken["folded"]["succeeded"] == ""
    assert broken["folded"]["failuresByCount"] == [{"count": 1, "tasks": "0-1"}]


def test_refolded__placement_with_partial_claims__costs_all_of_them_and_its_open_tasks_run_again() -> None:
    partial, closing = an_archived(1), an_archived(1, "1:1:900:F:", sequence=1)
    partial.spec.update(  # type: ignore[attr-defined]
        partial=True, ended=[], elapsed=["0-600:1-2"], unjudged=["1:1:900:F:"], seconds=1200, amount="0.6"
    )
    only_begun = fold(a_job(), partial)
    assert only_begun is not None
    folded = only_begun["folded"]
    assert (folded["placements"], folded["succeeded"], folded["claims"]) == ("1", "", 1)
    assert folded["failuresByCount"] == []
    assert (folded["providers"][0]["seconds"], folded["paidFailureSeconds"]) == (1200, 0)

    closing.spec.update(elapsed=["600-600:1-2"], seconds=300, amount="0.15")  # type: ignore[attr-defined]
    status = fold(a_job(), partial, closing)
    assert status is not None
    folded = status["folded"]
    assert (folded["claims"], folded["failuresByCount"]) == (2, [{"count": 1, "tasks": "1"}])
    # What had elapsed is no failure; what came after it is.
    assert (folded["providers"][0]["seconds"], folded["paidFailureSeconds"]) == (1500, 300)
    assert folded["providers"][0]["cost"] == "0.75"
