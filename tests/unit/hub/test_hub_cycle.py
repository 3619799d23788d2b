"""What one cycle writes, and what it does not: statuses that would soon be written again wait."""

from __future__ import annotations

from typing import Any

import pytest

from fallow.hub.carrying import claim_key, job_key, provider_key
from fallow.hub.cycle import Cycle
from fallow.hub.desk import Desk
from unit.hub.builders import CREATED, a_job, a_placement, ended
from unit.hub.desks import PAYER, Outbox, Time, a_desk, a_lease, answer, furnish
from unit.hub.test_hub_snapshots import a_node

JSON = dict[str, Any]


@pytest.fixture
def furnished() -> tuple[Desk, Outbox, Time, Cycle]:
    desk, outbox, time = a_desk()
    furnish(desk)
    return desk, outbox, time, Cycle(desk)


def reasons(status: JSON) -> dict[str, str]:
    return {one["type"]: one["status"] for one in status["conditions"]}


def test_job__seen_first__is_placed_and_accepted_with_one_status_write(
    furnished: tuple[Desk, Outbox, Time, Cycle],
) -> None:
    desk, outbox, time, cycle = furnished
    desk.view.jobs.apply(a_job(tasks=1))
    cycle.run()
    (placement,) = outbox.placements
    assert placement["spec"]["attempt"] == 0
    assert not outbox.jobs, "a short job has its whole say in one write"
    time.passed = 1
    cycle.run()
    (status,) = outbox.jobs
    assert reasons(status) == {"Accepted": "True", "Scheduled": "True"}
    assert status["counts"]["placed"] == 1
    assert status["placementsReserved"] == 0, "its first placement needs no number of those that are reserved"


def test_job__larger_than_a_placement__gets_its_second_one_only_from_a_reservation(
    furnished: tuple[Desk, Outbox, Time, Cycle],
) -> None:
    desk, outbox, time, cycle = furnished
    job = a_job(tasks=1200)
    container = job["spec"]["template"]["spec"]["containers"][0]
    container["resources"] = {"requests": {"cpu": "1m", "memory": "1Mi"}}
    _, node = a_node("n0")
    node["metadata"]["resourceVersion"] = "2"
    node["spec"]["offerable"] |= {"memoryMiB": 64_000, "ephemeralStorageMiB": 64_000, "pods": 5000}
    desk.view.nodes.apply(node)
    desk.view.jobs.apply(job)
    cycle.run()
    assert [one["spec"]["attempt"] for one in outbox.placements] == [0]
    answer(desk, outbox, job, outbox.jobs[-1], key=job_key("uid-of-job"), view="jobs")
    time.passed = 1
    cycle.run()
    assert [one["spec"]["attempt"] for one in outbox.placements] == [0, 1]


@pytest.mark.parametrize("left", ["live", "claimed", "absorbed"])
def test_job__whose_first_number_was_used_before_a_restart__never_uses_it_again(
    furnished: tuple[Desk, Outbox, Time, Cycle], left: str
) -> None:
    desk, outbox, time, cycle = furnished
    job = a_job(tasks=4)
    if left == "live":
        desk.view.placements.apply(a_placement("0-2"))
    elif left == "claimed":
        spec = {"job": {"uid": "uid-of-job"}, "placement": {"uid": "gone"}, "attempt": 0, "amount": "1"}
        spec["terms"] = {"account": {"payer": PAYER}, "accountNamespace": "x", "accountName": "x"}
        spec["seconds"], spec["ended"] = 1, []
        meta = {"name": "c", "namespace": "provider-aurora", "uid": "c", "resourceVersion": "1"}
        desk.view.claims.apply({"metadata": {**meta, "creationTimestamp": CREATED}, "spec": spec})
    else:
        job["status"] = {"folded": {"placements": "0"}}
    desk.view.jobs.apply(job)
    cycle.run()
    assert not outbox.placements  # not before the next numbers are reserved
    answer(desk, outbox, job, outbox.jobs[-1], key=job_key("uid-of-job"), view="jobs")
    time.passed = 1
    cycle.run()
    assert [one["spec"]["attempt"] for one in outbox.placements] == [1]


def test_status__claim_is_being_written__waits_for_it_but_not_for_ever(
    furnished: tuple[Desk, Outbox, Time, Cycle],
) -> None:
    desk, outbox, time, cycle = furnished
    job = a_job(tasks=1)
    job["status"] = {"placementsReserved": 64}
    desk.view.jobs.apply(job)
    desk.view.placements.apply(a_placement("0", running=1))
    cycle.run()
    answer(desk, outbox, job, outbox.jobs[-1], key=job_key("uid-of-job"), view="jobs")
    time.passed = 20
    outbox.under_way.add(claim_key("uid-0"))
    done = a_placement("0", reports=[ended(0)], state="Finished")
    done["metadata"]["resourceVersion"] = "2"
    desk.view.placements.apply(done)
    cycle.run()
    assert len(outbox.jobs) == 1
    assert 0 < cycle.due_in(desk.clock.monotonic(), at_most=5) <= 1
    time.passed = 20.5
    cycle.run()
    assert len(outbox.jobs) == 1
    time.passed = 21.5  # the API server may be refusing claims: what is known is said all the same
    cycle.run()
    assert outbox.jobs[-1]["counts"]["succeeded"] == 1


def test_provider__conditions_change__are_written_at_once_and_counters_later(
    furnished: tuple[Desk, Outbox, Time, Cycle],
) -> None:
    desk, outbox, time, cycle = furnished
    cycle.run()
    provider = desk.view.providers.get("aurora")
    assert provider is not None
    assert reasons(outbox.providers[-1])["Schedulable"] == "True"
    provider = answer(
        desk, outbox, provider, outbox.providers[-1], key=provider_key("aurora"), view="providers"
    )
    time.passed = 0.5
    desk.view.placements.apply(a_placement("0", number=5, job_uid="uid-of-job"))
    desk.view.nodes.apply(a_node("n1")[1])
    cycle.run()
    assert len(outbox.providers) == 1
    closed = {**provider, "spec": {**provider["spec"], "desired": "Drain"}}
    closed["metadata"] = {**provider["metadata"], "resourceVersion": "9"}
    desk.view.providers.apply(closed)
    cycle.run()
    assert len(outbox.providers) == 2
    assert reasons(outbox.providers[-1])["Schedulable"] == "False"


def test_provider__falls_silent_again_and_again__gets_no_work_for_a_while_and_says_why(
    furnished: tuple[Desk, Outbox, Time, Cycle],
) -> None:
    desk, _, time, cycle = furnished

    def pass_time(seconds: float, *, version: int | None = None) -> None:
        for _ in range(int(seconds)):
            time.passed += 1
            cycle.run()
        if version is not None:
            desk.view.leases.apply(a_lease(str(version)))
            time.passed += 1
            cycle.run()

    cycle.run()
    for version in (2, 3):
        pass_time(25, version=version)
        assert desk.memory.standings["aurora"].refuses != "Flapping"
    pass_time(25, version=4)
    known = desk.memory.standings["aurora"]
    assert (known.refuses, known.schedulable["status"]) == ("Flapping", "False")
    assert "3 times" in known.schedulable["message"]
    for version in range(5, 70):
        desk.view.leases.apply(a_lease(str(version)))
        time.passed += 1
        cycle.run()
    assert desk.memory.standings["aurora"].refuses != "Flapping"


DAY = 86_400


def a_settled_claim(**status: Any) -> JSON:
    spec = {"job": {"uid": "uid-of-job"}, "placement": {"uid": "gone"}, "attempt": 0, "amount": "1"}
    spec["terms"] = {"account": {"payer": PAYER}, "accountNamespace": "x", "accountName": "x"}
    condition = {"type": "Settled", "status": "True", "reason": "Settled", "lastTransitionTime": CREATED}
    return {
        "apiVersion": "fallow.dev/v1alpha1",
        "kind": "PaymentClaim",
        "metadata": {
            "name": "claim",
            "namespace": "provider-aurora",
            "uid": "c",
            "resourceVersion": "1",
            "creationTimestamp": CREATED,
        },
        "spec": spec,
        "status": {"state": "Settled", "block": 1, "conditions": [condition], **status},
    }


def test_claim__settled_and_past_its_time__is_deleted() -> None:
    desk, outbox, time = a_desk()
    desk.view.claims.apply(a_settled_claim())
    cycle = Cycle(desk)
    time.passed = 7 * DAY - 1
    cycle.run()
    assert outbox.deleted == []
    time.passed = 7 * DAY + 31
    cycle.run()
    assert outbox.deleted == ["claim"]


@pytest.mark.parametrize("state", ["Pending", "Submitted", "Refused"])
def test_claim__not_settled__is_kept_for_ever(state: str) -> None:
    desk, outbox, time = a_desk()
    desk.view.claims.apply(a_settled_claim(state=state))
    time.passed = 70 * DAY
    Cycle(desk).run()
    assert outbox.deleted == []


@pytest.mark.parametrize(("settled", "deleted"), [("False", []), ("True", ["claim"])])
def test_claim__of_a_job_that_counts_it_still__stays_until_the_job_has_settled(
    settled: str, deleted: list[str]
) -> None:
    desk, outbox, time = a_desk()
    desk.view.claims.apply(a_settled_claim())
    job = a_job(ttlSecondsAfterFinished=100 * DAY)
    job["status"] = {"conditions": [{"type": "Settled", "status": settled}]}
    desk.view.jobs.apply(job)
    time.passed = 8 * DAY
    Cycle(desk).run()
    assert outbox.deleted == deleted


@pytest.mark.parametrize(
    ("ttl", "settled", "passed", "deleted"),
    [
        (60, "True", 61, ["job"]),
        (60, "True", 59, []),
        (60, "False", 9 * DAY, []),
        (None, "True", 7 * DAY - 1, []),
        (None, "True", 7 * DAY, ["job"]),
    ],
    ids=["past its own", "before it", "not paid", "before the hub's default", "past the hub's default"],
)
def test_job__finished__is_deleted_after_its_time(
    ttl: int | None, settled: str, passed: int, deleted: list[str]
) -> None:
    desk, outbox, time = a_desk()
    job = a_job(tasks=1, **({} if ttl is None else {"ttlSecondsAfterFinished": ttl}))
    condition = {"type": "Settled", "status": settled}
    job["status"] = {
        "conditions": [condition],
        "completionTime": CREATED,
        "folded": {"placements": "0", "succeeded": "0"},
    }
    desk.view.jobs.apply(job)
    time.passed = passed
    Cycle(desk).run()
    assert outbox.deleted == deleted
