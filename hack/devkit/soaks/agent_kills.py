"""An agent killed at random 50 times during a job of 500 tasks: every index once, no guest restarted by it.

Killed with SIGKILL at any instruction and started again at once, as a kubelet would. FALLOW_SOAK_SEED chooses
the seed (else random, printed), FALLOW_SOAK_KILLS and FALLOW_SOAK_TASKS how many of each.
"""

from __future__ import annotations

import os
import random
import secrets
import tempfile
import time
from pathlib import Path
from typing import Any

from devkit.errors import DevkitError
from devkit.rig import Member, Rig, up
from devkit.scenario.invariants import (
    assert_each_index_succeeded_and_was_paid_once,
    assert_no_node_was_ever_overfull,
)
from devkit.scenario.pod_log import PodLog
from devkit.scenario.submitting import a_job, condition, get, submit, wait_settled

NODES, GPUS = 3, 8
RUN_SECONDS = 8
LIMIT_SECONDS = 600.0
LEASES = "/apis/coordination.k8s.io/v1"


def run() -> dict[str, Any]:
    """Run on a rig of one member; raises DevkitError with the broken promise and the seed."""
    seed = int(os.environ.get("FALLOW_SOAK_SEED") or secrets.randbelow(2**32))
    kills = int(os.environ.get("FALLOW_SOAK_KILLS") or 50)
    tasks = int(os.environ.get("FALLOW_SOAK_TASKS") or 10 * kills)
    state = Path(tempfile.mkdtemp(prefix="fallow-agent-kills-"))
    member = Member(name="aurora", nodes=NODES, gpus_per_node=GPUS)
    print(f"agent-kills seed {seed}")
    with up(state, members=[member], payments="ledger", say=print) as rig:
        try:
            return {"seed": seed, **_killed(rig, random.Random(seed), kills=kills, tasks=tasks)}
        except AssertionError as error:
            raise DevkitError(
                f"{error}\nAgain with: FALLOW_SOAK_SEED={seed} hack/soak agent-kills\nLogs: {state / 'logs'}"
            ) from error


def _wait_until_it_acts(rig: Rig) -> None:
    """Wait for the next heartbeat: from then on the agent reads, decides and writes."""
    hub, lease = rig.hub_client(), f"{LEASES}/namespaces/provider-aurora/leases/agent"
    before = hub.get(lease)["spec"].get("renewTime")
    hub.until("the agent to act", lambda: hub.get(lease)["spec"].get("renewTime") != before, seconds=120)


def _killed(rig: Rig, dice: random.Random, *, kills: int, tasks: int) -> dict[str, Any]:
    agent = next(name for role, name in rig.fallow.items() if role.startswith("agent"))
    with PodLog(rig.members["aurora"]) as log:
        started = time.monotonic()
        # Patient: a provider that is silent while it is killed again and again loses no task for that.
        job = submit(rig, a_job(tasks, run_seconds=RUN_SECONDS, unreachableSeconds=3600))
        during = 0
        for _ in range(kills):
            if dice.random() < 0.7:  # the others die before they have begun
                _wait_until_it_acts(rig)
            time.sleep(dice.uniform(0.0, 3.0))  # the moment of the kill is the fault, not a wait
            rig.processes.kill(agent)
            during += condition(get(rig, job), "Succeeded") != "True"
            rig.processes.start_again(agent)
        job = wait_settled(rig, job, seconds=LIMIT_SECONDS)
        seconds = time.monotonic() - started
        log.catch_up()
        pods = log.pods_of(job["metadata"]["uid"])
        assert_no_node_was_ever_overfull(log, gpus_per_node=GPUS)
    assert job["status"]["counts"]["succeeded"] == tasks, f"I1: {job['status']}"
    again = {index: uids for index, uids in pods.items() if len(uids) > 1}
    assert not again, f"guests were started again: {dict(list(again.items())[:3])}"
    assert sorted(pods) == list(range(tasks)), "some index never had a pod"
    assert_each_index_succeeded_and_was_paid_once(rig, job)
    return {
        "tasks": tasks,
        "kills": kills,
        "kills_before_the_job_had_ended": during,
        "pods": sum(len(uids) for uids in pods.values()),
        "seconds": round(seconds, 1),
        "load_average": os.getloadavg()[0],
    }
