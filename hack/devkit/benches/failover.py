"""60 long tasks, one member's agent and planes killed with -9: how long until its tasks run elsewhere.

And what happens when it comes back: released guests stop, nothing counts or is paid twice.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from devkit.rig import Rig, default_members, up
from devkit.scenario.pod_log import PODS, PodLog
from devkit.scenario.submitting import a_job, claims_of, running, submit, wait_for, wait_settled
from fallow.resources.ended import Ended, Outcome

TASKS = 60
RUN_SECONDS = 60
LIMIT_SECONDS = 300.0


def run() -> dict[str, Any]:
    """Run on a rig of three members, each large enough for all tasks."""
    members = default_members(3, nodes=20, gpus_per_node=8)
    with (
        tempfile.TemporaryDirectory(prefix="fallow-bench-") as directory,
        up(Path(directory), members=members) as rig,
        PodLog(rig.members["borealis"]) as elsewhere,
    ):
        return _measure(rig, elsewhere)


def _measure(rig: Rig, elsewhere: PodLog) -> dict[str, Any]:
    job = submit(rig, a_job(TASKS, run_seconds=RUN_SECONDS))
    job = wait_for(rig, job, lambda now: running(now) == TASKS, seconds=LIMIT_SECONDS, what="to run")
    uid = job["metadata"]["uid"]
    first = {share["name"]: share["placed"] for share in job["status"]["providers"]}
    lost = [name for name in rig.processes.names() if name.split(".")[0] == "aurora"]
    lost.append(rig.fallow["agent-aurora"])
    killed_at = time.monotonic()
    for name in lost:
        rig.processes.kill(name)
    others = [rig.members[name].client() for name in rig.members if name != "aurora"]
    moved: dict[str, float] = {}

    def all_run_elsewhere() -> bool:
        for client in others:
            for pod in client.get(PODS, labelSelector=f"fallow.dev/job-uid={uid}")["items"]:
                if pod["status"].get("phase") == "Running":
                    index = pod["metadata"]["labels"]["fallow.dev/index"]
                    moved.setdefault(index, time.monotonic() - killed_at)
        return bool(len(moved) >= first["aurora"])

    rig.hub_client().until("the tasks to run elsewhere", all_run_elsewhere, seconds=LIMIT_SECONDS)
    for name in lost:
        rig.processes.start_again(name)
    wait_settled(rig, job, seconds=LIMIT_SECONDS)
    attempts: Counter[tuple[int, int]] = Counter()
    successes: Counter[int] = Counter()
    for claim in claims_of(rig, job):
        for ended in map(Ended.parse, claim["spec"]["ended"]):
            attempts[ended.index, ended.attempt] += 1
            successes[ended.index] += ended.outcome is Outcome.SUCCEEDED
    seconds = sorted(moved.values())
    return {
        "tasks": TASKS,
        "on_the_killed_member": first["aurora"],
        "seconds_to_running_elsewhere": {"first": round(seconds[0], 1), "max": round(seconds[-1], 1)},
        "indexes_with_two_counted_successes": sum(1 for count in successes.values() if count > 1),
        "attempts_paid_twice": sum(1 for count in attempts.values() if count > 1),
        "pods_elsewhere": sum(len(uids) for uids in elsewhere.pods_of(uid).values()),
    }
