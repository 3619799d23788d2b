"""Jobs whose guests are real containers with a shell script, and what the member knows of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from devkit.rig import ApiError, Rig
from devkit.rig.members import REAL_MEMBER
from devkit.rig.real.images import BUSYBOX
from devkit.scenario.submitting import Json, a_job

REAL_NODE = f"{REAL_MEMBER}-real"
GUESTS = "/api/v1/namespaces/fallow-guests/pods"
WAIT_SECONDS = 240.0


def a_real_job(tasks: int, script: str, *, gpus: int = 1, **spec: Any) -> Json:
    """Return a ComputeJob for the real member whose tasks run a shell script."""
    job = a_job(tasks, gpus=gpus, **spec)
    job["spec"]["template"] = {"spec": {"containers": [shell(script, gpus=gpus)]}}
    job["spec"].setdefault("requirements", {})["providers"] = [REAL_MEMBER]
    return job


def shell(script: str, *, gpus: int = 0) -> Json:
    """Return a container that runs a shell script, small enough that eight fit on a small machine."""
    limits: Json = {"memory": "64Mi", "ephemeral-storage": "64Mi"}
    if gpus:
        limits["nvidia.com/gpu"] = gpus
    resources = {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": limits}
    return {"name": "main", "image": BUSYBOX, "command": ["sh", "-c", script], "resources": resources}


def guests(rig: Rig, job: Json) -> list[Json]:
    """Return the guests of a job that the real member knows."""
    selector = f"fallow.dev/job-uid={job['metadata']['uid']}"
    return list(rig.members[REAL_MEMBER].client().get(GUESTS, labelSelector=selector)["items"])


def running_guests(rig: Rig, job: Json) -> list[Json]:
    """Return those that run."""
    return [pod for pod in guests(rig, job) if pod["status"].get("phase") == "Running"]


def wait_until(what: str, done: Callable[[], bool], *, seconds: float = WAIT_SECONDS) -> None:
    """Return once `done` holds; refusals mean not yet."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if done():
                return
        except ApiError:
            pass
        assert time.monotonic() < deadline, f"Waited {seconds:.0f} s for {what} in vain."
        time.sleep(0.1)
