"""A job that goes away or is suspended: guests stopped, work until then claimed and paid."""

from __future__ import annotations

import time

from devkit.rig import ApiError, ApiServer, Rig
from devkit.rig.fallow import open_namespace
from devkit.scenario.invariants import assert_money_is_conserved
from devkit.scenario.pod_log import PODS
from devkit.scenario.submitting import (
    GROUP,
    Json,
    a_job,
    claims_of,
    get,
    kubectl,
    running,
    submit,
    wait_for,
    wait_settled,
)


def _guests_of(rig: Rig, uid: str) -> int:
    """Count the job's pods on all members."""
    selector = f"fallow.dev/job-uid={uid}"
    return sum(
        len(member.client().get(PODS, labelSelector=selector)["items"]) for member in rig.members.values()
    )


def test_delete__when_tasks_run__then_guests_stop_and_what_ran_is_paid(rig: Rig) -> None:
    job = submit(rig, a_job(8, run_seconds=300))
    job = wait_for(rig, job, lambda now: running(now) == 8, seconds=60, what="to run")
    assert kubectl(rig, "delete", "computejob", job["metadata"]["name"]).returncode == 0
    client = rig.hub_client()
    client.until("the guests to stop", lambda: _guests_of(rig, job["metadata"]["uid"]) == 0, seconds=60)
    client.until(
        "the claims to settle",
        lambda: (
            bool(claims := claims_of(rig, job))
            and all(claim.get("status", {}).get("state") == "Settled" for claim in claims)
        ),
        seconds=60,
    )
    ended = [text for claim in claims_of(rig, job) for text in claim["spec"]["ended"]]
    assert len(ended) == 8, "each attempt that the submitter cancelled is paid up to then"
    assert all(text.split(":")[3] == "C" for text in ended)
    assert_money_is_conserved(rig)


def test_suspend__when_set_and_lifted__then_everything_stops_and_then_completes(rig: Rig) -> None:
    job = submit(rig, a_job(6, run_seconds=4))
    job = wait_for(rig, job, lambda now: running(now) == 6, seconds=60, what="to run")
    name = job["metadata"]["name"]
    kubectl(rig, "patch", "computejob", name, "--type=merge", "-p", '{"spec":{"suspend":true}}')
    rig.hub_client().until(
        "the guests to stop", lambda: _guests_of(rig, job["metadata"]["uid"]) == 0, seconds=60
    )
    kubectl(rig, "patch", "computejob", name, "--type=merge", "-p", '{"spec":{"suspend":false}}')
    job = wait_settled(rig, job)
    assert get(rig, job)["status"]["succeededTasks"] == "0-5"
    assert_money_is_conserved(rig)


def test_pause__when_the_owner_closes_the_offer__then_unfinished_tasks_move_to_the_other_member(
    rig: Rig,
) -> None:
    job = submit(rig, a_job(8, run_seconds=8, requirements={"maxProviders": 2}))
    job = wait_for(rig, job, lambda now: running(now) == 8, seconds=60, what="to run")
    first = {share["name"] for share in job["status"]["providers"] if share["placed"]}
    assert first == {"aurora"}, "the cheaper provider comes first"
    offer = "/apis/fallow.dev/v1alpha1/offers/default"
    owner = rig.members["aurora"].client()
    owner.merge(offer, {"spec": {"paused": True}})
    try:
        job = wait_settled(rig, job, seconds=120)
    finally:
        owner.merge(offer, {"spec": {"paused": False}})
    used = {share["name"]: share["succeeded"] for share in job["status"]["providers"]}
    assert used.get("borealis") == 8
    assert job["status"].get("failuresByCount", []) == [], "what an owner takes back is not the job's failure"
    assert_money_is_conserved(rig)
    rig.hub_client().until(
        "aurora to be schedulable again",
        lambda: _schedulable(rig, "aurora"),
        seconds=60,
    )


def _schedulable(rig: Rig, name: str) -> bool:
    provider = rig.hub_client().get(f"/apis/fallow.dev/v1alpha1/providers/{name}")
    conditions = provider.get("status", {}).get("conditions", [])
    return any(entry["type"] == "Schedulable" and entry["status"] == "True" for entry in conditions)


def test_namespace__deleted_with_running_jobs_in_it__then_guests_stop_all_is_paid_and_it_goes_away(
    rig: Rig,
) -> None:
    name = "short-lived"
    open_namespace(rig, name, nonce=int(time.time()))
    client = rig.hub_client()
    jobs = [
        client.post(f"{GROUP}/namespaces/{name}/computejobs", a_job(4, run_seconds=300)) for _ in range(2)
    ]
    uids = [job["metadata"]["uid"] for job in jobs]
    client.until("both jobs to run", lambda: sum(_guests_of(rig, uid) for uid in uids) == 8, seconds=90)
    client.delete(f"/api/v1/namespaces/{name}")
    client.until("the guests to stop", lambda: sum(_guests_of(rig, uid) for uid in uids) == 0, seconds=90)
    client.until(
        "the namespace to go away", lambda: _is_gone(client, f"/api/v1/namespaces/{name}"), seconds=90
    )
    for job in jobs:
        client.until("what ran to be paid", lambda job=job: _all_paid(rig, job), seconds=90)  # type: ignore[misc]
        ended = [text for claim in claims_of(rig, job) for text in claim["spec"]["ended"]]
        assert [text.split(":")[3] for text in ended] == ["C"] * 4
    client.until(
        "the placements to be deleted",
        lambda: (
            not [
                one for one in client.get(f"{GROUP}/placements")["items"] if one["spec"]["job"]["uid"] in uids
            ]
        ),
        seconds=60,
    )
    assert_money_is_conserved(rig)


def _all_paid(rig: Rig, job: Json) -> bool:
    claims = claims_of(rig, job)
    return bool(claims) and all(one.get("status", {}).get("state") == "Settled" for one in claims)


def _is_gone(client: ApiServer, path: str) -> bool:
    try:
        client.get(path)
    except ApiError as error:
        return error.status == 404
    return False


def test_budget__shrunk_while_tasks_run__then_those_end_and_are_paid_and_the_rest_waits_for_money(
    rig: Rig,
) -> None:
    job = submit(rig, a_job(40, run_seconds=3, parallelism=4, budget={"maxTotal": "100"}))
    name = job["metadata"]["name"]
    wait_for(rig, job, lambda now: running(now) > 0, seconds=60, what="to run")
    kubectl(rig, "patch", "computejob", name, "--type=merge", "-p", '{"spec":{"budget":{"maxTotal":"0.01"}}}')
    job = wait_for(
        rig,
        job,
        lambda now: (
            now["status"]["counts"]["placed"] + running(now) == 0
            and now["status"]["counts"]["succeeded"] > 0
            and "budget.maxTotal" in now["status"]["message"]
        ),
        seconds=120,
        what="to have run what was placed, and to say what the rest waits for",
    )
    counts = job["status"]["counts"]
    assert counts["failed"] == 0
    assert 0 < counts["succeeded"] < 40
    assert counts["succeeded"] + counts["pending"] == 40
    client = rig.hub_client()
    client.until("what ran to be paid", lambda: _all_paid(rig, job), seconds=90)
    kubectl(rig, "patch", "computejob", name, "--type=merge", "-p", '{"spec":{"budget":{"maxTotal":"100"}}}')
    job = wait_settled(rig, job)
    assert job["status"]["succeededTasks"] == "0-39"
    assert_money_is_conserved(rig)
