"""Kill -9 of each program in the middle of a run: it completes, nothing runs or is paid twice."""

from __future__ import annotations

import pytest

from devkit.rig import Rig
from devkit.scenario.invariants import (
    assert_each_index_succeeded_and_was_paid_once,
    assert_money_is_conserved,
)
from devkit.scenario.pod_log import PodLog
from devkit.scenario.submitting import (
    Json,
    a_job,
    get,
    running,
    submit,
    wait_for,
    wait_settled,
)


def test_kills__when_hub_agents_and_settler_die_in_turn__then_every_task_runs_and_is_paid_once(
    rig: Rig,
) -> None:
    with PodLog(rig.members["aurora"]) as aurora, PodLog(rig.members["borealis"]) as borealis:
        job = submit(rig, a_job(200, run_seconds=5))
        wait_for(rig, job, lambda now: running(now) > 0, seconds=60, what="to run")
        for role in ("hub", "agent-aurora", "settler", "agent-borealis", "hub"):
            name = rig.fallow[role]
            rig.processes.kill(name)
            rig.processes.start_again(name)
        job = wait_settled(rig, job, seconds=180)
        uid = job["metadata"]["uid"]
        for log in (aurora, borealis):
            log.catch_up()
            assert max(log.most_gpus_in_use().values()) <= 8
        pods = [log.pods_of(uid) for log in (aurora, borealis)]
        for index in range(200):
            assert sum(len(member.get(index, ())) for member in pods) == 1, f"index {index} had several pods"
    assert_each_index_succeeded_and_was_paid_once(rig, job)
    assert_money_is_conserved(rig)


@pytest.mark.parametrize("role", ["hub", "agent-aurora", "settler"])
def test_kill__when_one_stays_away_for_a_while__then_the_job_completes_after_its_return(
    rig: Rig, role: str
) -> None:
    name = rig.fallow[role]
    with PodLog(rig.members["aurora"]) as aurora, PodLog(rig.members["borealis"]) as borealis:
        job = submit(rig, a_job(24, run_seconds=4))
        # On a busy machine the first may have ended before the last one runs.
        wait_for(rig, job, lambda now: _started(now) == 24, seconds=120, what="to run")
        rig.processes.kill(name)
        # Away until every pod has ended by itself: outcomes must wait where they are.
        uid = job["metadata"]["uid"]
        rig.hub_client().until(
            "the pods to end",
            lambda: sum(len(log.succeeded(uid)) for log in (aurora, borealis)) == 24,
            seconds=60,
        )
        rig.processes.start_again(name)
        job = wait_settled(rig, job, seconds=120)
        for log in (aurora, borealis):
            log.catch_up()
        pods = [log.pods_of(uid) for log in (aurora, borealis)]
        assert all(sum(len(member.get(index, ())) for member in pods) == 1 for index in range(24))
    assert get(rig, job)["status"]["succeededTasks"] == "0-23"
    assert_each_index_succeeded_and_was_paid_once(rig, job)
    assert_money_is_conserved(rig)


def _started(job: Json) -> int:
    return running(job) + int(job.get("status", {}).get("counts", {}).get("succeeded", 0))
