"""Replicated tasks on three members of three owners: an honest majority, no majority, and what is paid.

The rig's simulated pods write what the job's annotation says; on the nodes of a liar they write something
else. Everything between the pods and the money is real.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import pytest

from devkit.rig import Member, Rig, up
from devkit.scenario.submitting import (
    GROUP,
    Json,
    a_job,
    claims_of,
    condition,
    submit,
    wait_for,
    wait_settled,
)
from fallow.resources.ended import Ended, Outcome

MEMBERS = [
    Member(name="aurora", prices={"gpu": "2.00", "cpu": "0.01", "memory_gib": "0.001"}),
    Member(name="borealis", prices={"gpu": "2.20", "cpu": "0.01", "memory_gib": "0.001"}),
    Member(name="corona", prices={"gpu": "2.40", "cpu": "0.01", "memory_gib": "0.001"}),
]


@pytest.fixture(scope="module")
def rig3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Three members of three owners, in ledger mode."""
    with up(tmp_path_factory.mktemp("replication"), members=MEMBERS, payments="ledger") as rig:
        yield rig


def a_replicated_job(tasks: int, *, copies: int, result: str, liar: str = "") -> Json:
    job = a_job(tasks, run_seconds=1, verification={"type": "Replicate", "copies": copies})
    annotations = job["spec"]["template"]["metadata"]["annotations"]
    annotations["rig.fallow.dev/result"] = result
    if liar:
        annotations["rig.fallow.dev/lying-nodes"] = f"{liar}-"
    return job


def paid_owners(claims: list[Json]) -> dict[int, list[str]]:
    """Return by index whose successes are paid."""
    owners: dict[int, list[str]] = defaultdict(list)
    for claim in claims:
        for ended in map(Ended.parse, claim["spec"]["ended"]):
            if ended.outcome is Outcome.SUCCEEDED:
                owners[ended.index].append(claim["spec"]["terms"]["ownerId"])
    return owners


def refused(claims: list[Json]) -> set[str]:
    return {
        claim["spec"]["terms"]["provider"]
        for claim in claims
        for part in claim["spec"].get("disallowed") or ()
        if part["reason"] == "Disagreed"
    }


def test_replicate__when_all_are_honest__then_each_of_n_owners_is_paid_once_an_index(rig3: Rig) -> None:
    job = submit(rig3, a_replicated_job(6, copies=3, result="answer $(JOB_COMPLETION_INDEX)"))
    job = wait_settled(rig3, job)
    assert job["status"]["succeededTasks"] == "0-5"
    claims = claims_of(rig3, job)
    everybody = sorted(f"owner-of-{member.name}" for member in MEMBERS)
    assert {index: sorted(owners) for index, owners in paid_owners(claims).items()} == dict.fromkeys(
        range(6), everybody
    )
    assert all(claim["status"]["state"] == "Settled" for claim in claims)


def test_replicate__when_one_of_two_lies__then_a_third_owner_decides_and_the_liar_is_not_paid(
    rig3: Rig,
) -> None:
    job = submit(rig3, a_replicated_job(4, copies=2, result="answer $(JOB_COMPLETION_INDEX)", liar="aurora"))
    job = wait_settled(rig3, job)
    assert job["status"]["succeededTasks"] == "0-3"
    assert condition(job, "NonDeterministic") == ""
    claims = claims_of(rig3, job)
    assert {index: sorted(owners) for index, owners in paid_owners(claims).items()} == {
        index: ["owner-of-borealis", "owner-of-corona"] for index in range(4)
    }

    def record() -> Json:
        status = rig3.client("hub_admin").get(f"{GROUP}/providers/aurora")["status"]
        return status.get("record") or {}

    rig3.client("hub_admin").until("the liar's record", lambda: record().get("disagreed", 0) >= 4, seconds=60)


def test_replicate__when_no_two_agree__then_says_so_and_pays_all_copies(rig3: Rig) -> None:
    job = submit(rig3, a_replicated_job(2, copies=3, result="seen on $(NODE_NAME)"))
    job = wait_for(
        rig3, job, lambda now: condition(now, "NonDeterministic") == "True", seconds=120, what="to disagree"
    )
    job = wait_settled(rig3, job)
    assert job["status"]["failedTasks"] == "0-1"
    claims = claims_of(rig3, job)
    assert {index: len(set(owners)) for index, owners in paid_owners(claims).items()} == {0: 3, 1: 3}
    assert refused(claims) == set()
