"""An owner's pod on a full cluster, 50 times: how long beyond the guest's grace until it runs.

By turns a normal pod, which the member's own scheduler preempts for, and one of a class that never preempts,
for which the agent makes room. Guests use all of their grace. FALLOW_BENCH_TIMES changes the number.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from devkit.errors import DevkitError
from devkit.rig import ApiServer, Rig, default_members, up
from devkit.scenario.pod_log import PODS as GUESTS
from devkit.scenario.submitting import Json, a_job, submit

TIMES = 50
GRACE_SECONDS = 2
NODES, GPUS = 2, 8
OWNED = "/api/v1/namespaces/default/pods"
CLASSES = {"normal": None, "never preempting": "never-preempts"}


def run() -> dict[str, Any]:
    """Run on a rig of one member with the hub keeping it full."""
    times = int(os.environ.get("FALLOW_BENCH_TIMES") or TIMES)
    members = default_members(1, nodes=NODES, gpus_per_node=GPUS)
    with (
        tempfile.TemporaryDirectory(prefix="fallow-bench-") as directory,
        up(Path(directory), members=members, payments="ledger") as rig,
    ):
        return _measure(rig, times)


def _measure(rig: Rig, times: int) -> dict[str, Any]:
    member = rig.members["aurora"].client()
    member.post(
        "/apis/scheduling.k8s.io/v1/priorityclasses",
        {"metadata": {"name": "never-preempts"}, "value": 100, "preemptionPolicy": "Never"},
    )
    _demand(rig, NODES * GPUS + 4)
    over: dict[str, list[float]] = {name: [] for name in CLASSES}
    refused = 0
    for number in range(times):
        kind = list(CLASSES)[number % len(CLASSES)]
        _until_full(member)
        seconds = _one(member, f"owner-{number}", CLASSES[kind])
        if seconds is None:
            refused += 1
        else:
            over[kind].append(seconds - GRACE_SECONDS)
        # The hub avoids a provider for a job of which a task could not start there: fresh jobs do not wait.
        _demand(rig, 1)
    every = sorted(x for values in over.values() for x in values)
    if not every:
        raise DevkitError("No owner's pod ever ran.")
    return {
        "times": times,
        "grace_s": GRACE_SECONDS,
        "max_over_grace_s": round(every[-1], 2),
        "median_over_grace_s": {k: round(sorted(v)[len(v) // 2], 2) for k, v in over.items() if v},
        "owner_pods_refused": refused,
        "load_average": os.getloadavg()[0],
    }


def _demand(rig: Rig, tasks: int) -> None:
    job = a_job(tasks, run_seconds=3600, taskTimeoutSeconds=7200)
    template = job["spec"]["template"]
    template["metadata"]["annotations"]["rig.fallow.dev/stop-seconds"] = str(GRACE_SECONDS)
    template["spec"]["terminationGracePeriodSeconds"] = GRACE_SECONDS
    submit(rig, job)


def _until_full(member: ApiServer) -> None:
    def full() -> bool:
        pods = member.get(GUESTS)["items"]
        running = [p for p in pods if p["status"].get("phase") == "Running" and not _going(p)]
        return len(running) == NODES * GPUS

    member.until("guests on every accelerator", full, seconds=120)


def _one(member: ApiServer, name: str, priority_class: str | None) -> float | None:
    """Return the seconds from a pod's creation to its running; None when it was refused."""
    spec: Json = {
        "containers": [{"name": "x", "image": "x", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]
    }
    if priority_class:
        spec["priorityClassName"] = priority_class
    metadata = {"name": name, "annotations": {"rig.fallow.dev/run-seconds": "3600"}}
    started = time.monotonic()
    member.post(OWNED, {"metadata": metadata, "spec": spec})
    path, phase = f"{OWNED}/{name}", ""
    while phase not in ("Running", "Failed") and time.monotonic() < started + 60:
        phase = member.get(path)["status"].get("phase", "")
        time.sleep(0.02)
    seconds = time.monotonic() - started
    member.delete(path, gracePeriodSeconds="0")
    return seconds if phase == "Running" else None


def _going(pod: Json) -> bool:
    return "deletionTimestamp" in pod["metadata"]
