"""1000 one-GPU jobs over three members: jobs a second from the first create to the last Succeeded on the hub.

The rig has 3 members × 20 nodes × 8 GPUs; pods end at once; jobs are created over 8 connections. Each
job goes the whole way: accepted, placed, one pod on a member, outcome, receipt, claim; settling goes on
behind. What that costs up to the last Settled is counted too, and told apart.
FALLOW_BENCH_JOBS changes the number of jobs.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from devkit.errors import DevkitError
from devkit.rig import ApiServer, Rig, default_members, up
from devkit.scenario.measuring import Meter
from devkit.scenario.submitting import JOBS, Json, a_job, condition

CONNECTIONS = 8
LIMIT_SECONDS = 900.0


def run() -> dict[str, Any]:
    """Run the benchmark on a rig of its own; raises DevkitError when a job does not succeed."""
    count = int(os.environ.get("FALLOW_BENCH_JOBS") or 1000)
    members = default_members(3, nodes=20, gpus_per_node=8)
    with (
        tempfile.TemporaryDirectory(prefix="fallow-bench-") as directory,
        up(Path(directory), members=members) as rig,
    ):
        return measure(rig, count)


def measure(rig: Rig, count: int) -> dict[str, Any]:
    """Submit `count` jobs and follow them to their end."""
    before = Meter.read(rig)
    watcher = _Watcher(rig, count)
    watcher.start()
    started = time.monotonic()
    client = rig.client("submitter")
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        shares = [range(first, count, CONNECTIONS) for first in range(CONNECTIONS)]
        list(pool.map(lambda numbers: _create(client, numbers, watcher), shares))
    created_seconds = time.monotonic() - started
    watcher.join(LIMIT_SECONDS)
    if len(watcher.done) < count:
        raise DevkitError(f"{len(watcher.done)} of {count} jobs succeeded in {LIMIT_SECONDS:.0f} s.")
    seconds = max(watcher.done.values()) - started
    used = Meter.read(rig).since(before)
    client.until("the last job to be Settled", lambda: _settled(client) >= count, seconds=LIMIT_SECONDS)
    settled_seconds = time.monotonic() - started
    in_all = Meter.read(rig).since(before)
    latencies = sorted(at - watcher.created[name] for name, at in watcher.done.items())
    by_program = used.cpu_ms_per(count)
    return {
        "jobs": count,
        "seconds": round(seconds, 2),
        "created_seconds": round(created_seconds, 2),
        "jobs_per_second": round(count / seconds, 2),
        "latency_p50_s": round(statistics.median(latencies), 2),
        "latency_p95_s": round(latencies[int(len(latencies) * 0.95)], 2),
        "cpu_ms_per_job": round(sum(by_program.values()), 2),
        "cpu_ms_per_job_by_program": by_program,
        "settled_seconds": round(settled_seconds, 2),
        "cpu_ms_per_job_to_settled": round(sum(in_all.cpu_ms_per(count).values()), 2),
        "writes_per_job_to_settled": round(sum(in_all.writes.values()) / count, 2),
        "writes_per_job": round(sum(used.writes.values()) / count, 2),
        "writes_per_job_by_kind": used.writes_per(count),
    }


def _settled(client: ApiServer) -> int:
    """Count the settled jobs; a look a second is nothing beside what it waits for."""
    time.sleep(1)
    return sum(condition(job, "Settled") == "True" for job in client.get(JOBS)["items"])


def _create(client: ApiServer, numbers: Iterable[int], watcher: _Watcher) -> None:
    """Create jobs one after the other over one connection."""
    with client.kept_open() as connection:
        for number in numbers:
            job = a_job(1, run_seconds=0)
            name = job["metadata"]["name"] = f"bench-{number}"
            watcher.created[name] = time.monotonic()
            connection.post(JOBS, job)


class _Watcher(threading.Thread):
    """Notes when each job's Succeeded condition is first seen, by a watch on the hub."""

    def __init__(self, rig: Rig, count: int) -> None:
        super().__init__(daemon=True)
        self._client = rig.client("submitter")
        self._count = count
        self._position = self._client.get(JOBS)["metadata"]["resourceVersion"]
        self.created: dict[str, float] = {}
        self.done: dict[str, float] = {}

    def run(self) -> None:
        while len(self.done) < self._count:
            for event in self._client.watch(JOBS, resourceVersion=self._position, timeoutSeconds="25"):
                job: Json = event["object"]
                self._position = job["metadata"]["resourceVersion"]
                if condition(job, "Succeeded") == "True":
                    self.done.setdefault(job["metadata"]["name"], time.monotonic())
                    if len(self.done) == self._count:
                        return
