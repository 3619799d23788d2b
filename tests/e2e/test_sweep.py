"""200 tasks over both members: once each, never over a node's GPUs, paid to the unit."""

from __future__ import annotations

from devkit.rig import Rig
from devkit.scenario.invariants import (
    assert_each_index_succeeded_and_was_paid_once,
    assert_money_is_conserved,
)
from devkit.scenario.pod_log import PodLog
from devkit.scenario.submitting import (
    a_job,
    claims_of,
    submit,
    wait_settled,
)


def test_sweep__when_200_tasks_meet_192_gpus__then_each_index_succeeds_once_on_both_members(rig: Rig) -> None:
    with PodLog(rig.members["aurora"]) as aurora, PodLog(rig.members["borealis"]) as borealis:
        job = submit(rig, a_job(200, run_seconds=3))
        job = wait_settled(rig, job)
        uid = job["metadata"]["uid"]
        for log in (aurora, borealis):
            log.catch_up()
            most = log.most_gpus_in_use()
            assert most, "no guest ran here"
            assert max(most.values()) <= 8
        ran = [log.succeeded(uid) for log in (aurora, borealis)]
        assert all(ran), "the job was not split"
        for index in range(200):
            assert sum(len(member.get(index, ())) for member in ran) == 1, f"index {index}"
    assert job["status"]["succeededTasks"] == "0-199"
    assert job["status"]["counts"]["succeeded"] == 200
    assert {share["name"] for share in job["status"]["providers"]} == {"aurora", "borealis"}
    assert_each_index_succeeded_and_was_paid_once(rig, job)
    assert_money_is_conserved(rig)


def test_gang__when_it_fits_one_provider__then_is_never_split(rig: Rig) -> None:
    job = submit(rig, a_job(4, gpus=8, run_seconds=2, gang=True))
    job = wait_settled(rig, job)
    assert len(job["status"]["providers"]) == 1
    claims = claims_of(rig, job)
    assert len(claims) == 1, "one placement, so one claim"
    assert_each_index_succeeded_and_was_paid_once(rig, job)


def test_cpu_job__when_no_accelerator_is_asked_for__then_runs_all_the_same(rig: Rig) -> None:
    job = wait_settled(rig, submit(rig, a_job(12, gpus=0, run_seconds=1)))
    assert job["status"]["succeededTasks"] == "0-11"
    assert_money_is_conserved(rig)


def test_retry__when_tasks_exit_1__then_are_tried_within_their_limit_and_fail(rig: Rig) -> None:
    from devkit.scenario.submitting import condition, wait_for

    job = submit(rig, a_job(3, run_seconds=1, exit_code=1, backoffLimitPerTask=1))
    job = wait_for(rig, job, lambda now: condition(now, "Failed") == "True", seconds=90, what="to fail")
    assert job["status"]["failedTasks"] == "0-2"
    assert job["status"]["failuresByCount"] == [{"count": 2, "tasks": "0-2"}]


def test_results__when_tasks_succeed__then_seconds_are_those_of_the_pods(rig: Rig) -> None:
    job = wait_settled(rig, submit(rig, a_job(2, run_seconds=2)))
    seconds = sum(claim["spec"]["seconds"] for claim in claims_of(rig, job))
    assert 2 * 2 <= seconds <= 2 * 4
