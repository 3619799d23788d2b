"""What a submitter does, and what the tests then read: kubectl, jobs, claims, the chain."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Callable
from typing import Any

from devkit.rig import Rig

Json = dict[str, Any]
GROUP = "/apis/fallow.dev/v1alpha1"
JOBS = f"{GROUP}/namespaces/default/computejobs"


def a_job(tasks: int, *, gpus: int = 1, run_seconds: float = 1, exit_code: int = 0, **spec: Any) -> Json:
    """Return a ComputeJob whose simulated pods run this long and end like this."""
    annotations = {"rig.fallow.dev/run-seconds": str(run_seconds), "rig.fallow.dev/exit-code": str(exit_code)}
    resources: Json = {"requests": {"cpu": "1", "memory": "1Gi"}}
    if gpus:
        resources["limits"] = {"nvidia.com/gpu": gpus}
    return {
        "apiVersion": "fallow.dev/v1alpha1",
        "kind": "ComputeJob",
        "metadata": {"name": f"job-{uuid.uuid4().hex[:8]}"},
        "spec": {
            "tasks": tasks,
            "taskTimeoutSeconds": 600,
            "template": {
                "metadata": {"annotations": annotations},
                "spec": {
                    "containers": [{"name": "main", "image": "registry.example/x:1", "resources": resources}]
                },
            },
            **spec,
        },
    }


def kubectl(rig: Rig, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run kubectl as the submitter."""
    return subprocess.run(
        [str(rig.programs["kubectl"]), *words],
        env={**os.environ, "KUBECONFIG": str(rig.identities["submitter"])},
        input=stdin if stdin is not None else "",
        capture_output=True,
        text=True,
        timeout=60,
    )


def submit(rig: Rig, job: Json) -> Json:
    """Apply a job with kubectl; return it as the API server has it."""
    done = kubectl(rig, "apply", "-f", "-", stdin=json.dumps(job))
    assert done.returncode == 0, done.stderr
    return get(rig, job)


def get(rig: Rig, job: Json) -> Json:
    """Read a job."""
    return rig.client("submitter").get(f"{JOBS}/{job['metadata']['name']}")


def condition(job: Json, kind: str) -> str:
    """Return a condition's status, "" when it is absent."""
    entries = job.get("status", {}).get("conditions", [])
    return next((str(entry["status"]) for entry in entries if entry["type"] == kind), "")


def wait_for(rig: Rig, job: Json, done: Callable[[Json], bool], *, seconds: float, what: str) -> Json:
    """Wait until `done` holds of the job; return it."""
    rig.client("submitter").until(
        f"{job['metadata']['name']} {what}", lambda: done(get(rig, job)), seconds=seconds
    )
    return get(rig, job)


def wait_settled(rig: Rig, job: Json, *, seconds: float = 120) -> Json:
    """Wait until a job is paid."""
    return wait_for(
        rig, job, lambda now: condition(now, "Settled") == "True", seconds=seconds, what="to settle"
    )


def running(job: Json) -> int:
    """Return how many tasks the job's status says are running."""
    return int(job.get("status", {}).get("counts", {}).get("running", 0))


def claims_of(rig: Rig, job: Json) -> list[Json]:
    """Return a job's claims."""
    items = rig.client("hub_admin").get(f"{GROUP}/paymentclaims")["items"]
    return [item for item in items if item["spec"]["job"]["uid"] == job["metadata"]["uid"]]
