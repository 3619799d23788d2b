"""One ComputeJob of 10,000 tasks over three members, next to one plain Indexed Job of as many on one plane.

Both run on the same rig, one after the other, their pods end at once. The ratio compares tasks per processor
second of all processes that took part: on our side all there are, chain and settler included; on the plain
Job's only its own plane and etcd, which the idle planes beside it share.
FALLOW_BENCH_TASKS changes the number of tasks.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from devkit.rig import Rig, default_members, up
from devkit.scenario.measuring import Meter
from devkit.scenario.submitting import Json, a_job, condition, submit, wait_for

LIMIT_SECONDS = 1500.0
_JOBS = "/apis/batch/v1/namespaces/default/jobs"


def run() -> dict[str, Any]:
    """Run both on a rig of its own."""
    tasks = int(os.environ.get("FALLOW_BENCH_TASKS") or 10_000)
    members = default_members(3, nodes=20, gpus_per_node=8)
    with (
        tempfile.TemporaryDirectory(prefix="fallow-bench-") as directory,
        up(Path(directory), members=members) as rig,
    ):
        fallow = _fallow(rig, tasks)
        plain = _plain(rig, tasks)
    return {
        "tasks": tasks,
        "tasks_per_second": fallow["tasks_per_second"],
        "ratio_to_plain_job": round(fallow["tasks_per_cpu_second"] / plain["tasks_per_cpu_second"], 3),
        "fallow": fallow,
        "plain_job": plain,
    }


def _fallow(rig: Rig, tasks: int) -> dict[str, Any]:
    before, started = Meter.read(rig), time.monotonic()
    job = submit(rig, a_job(tasks, run_seconds=0))
    wait_for(
        rig,
        job,
        lambda now: condition(now, "Succeeded") == "True",
        seconds=LIMIT_SECONDS,
        what="to succeed",
    )
    return _figures(rig, before, tasks=tasks, seconds=time.monotonic() - started)


def _plain(rig: Rig, tasks: int) -> dict[str, Any]:
    """Run an Indexed Job of the same pods on the first member, all its nodes' GPUs at once."""
    member = next(iter(rig.members.values()))
    client = member.client()
    template = a_job(1, run_seconds=0)["spec"]["template"]
    template["spec"] |= {"restartPolicy": "Never"}
    spec: Json = {
        "completions": tasks,
        "parallelism": member.spec.nodes * member.spec.gpus_per_node,
        "completionMode": "Indexed",
        "template": template,
    }
    before, started = Meter.read(rig), time.monotonic()
    client.post(_JOBS, {"metadata": {"name": "plain"}, "spec": spec})
    client.until(
        "the plain Job to complete",
        lambda: client.get(f"{_JOBS}/plain")["status"].get("succeeded", 0) == tasks,
        seconds=LIMIT_SECONDS,
    )
    return _figures(
        rig,
        before,
        tasks=tasks,
        seconds=time.monotonic() - started,
        took_part=lambda process: process == "etcd" or process.startswith(f"{member.name}."),
    )


def _figures(
    rig: Rig,
    before: Meter,
    *,
    tasks: int,
    seconds: float,
    took_part: Callable[[str], bool] = lambda process: True,
) -> dict[str, Any]:
    used = Meter.read(rig).since(before)
    used = replace(
        used, cpu_seconds={name: spent for name, spent in used.cpu_seconds.items() if took_part(name)}
    )
    cpu_seconds = sum(used.cpu_seconds.values())
    return {
        "seconds": round(seconds, 2),
        "tasks_per_second": round(tasks / seconds, 2),
        "tasks_per_cpu_second": round(tasks / cpu_seconds, 2),
        "cpu_ms_per_task_by_program": used.cpu_ms_per(tasks),
        "writes_per_task": round(sum(used.writes.values()) / tasks, 2),
        "writes_per_task_by_kind": used.writes_per(tasks),
    }
