"""One ComputeJob of very many tasks, really run: every object stays small, nothing is run or paid twice.

Default 100,000 tasks that take no time on three members of 40 nodes; FALLOW_SOAK_TASKS changes the number.
While it runs, the sizes of all of its objects and the memory of all programs are looked at every few seconds.
What outcomes in no order make of a status is shown by a unit test.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devkit.errors import DevkitError
from devkit.rig import ApiServer, Rig, default_members, up
from devkit.scenario.invariants import assert_money_is_conserved, assert_nothing_is_paid_twice
from devkit.scenario.submitting import GROUP, Json, a_job, condition, get, submit

LIMIT_SECONDS = 6 * 3600.0
LOOK_SECONDS = 5.0
OBJECT_BYTES = 1_000_000
"""No object may be larger: etcd takes 1.5 MiB."""
PLACEMENT_TASKS = 1024


def run() -> dict[str, Any]:
    """Run on a rig of its own; raises DevkitError with the bound that was broken."""
    tasks = int(os.environ.get("FALLOW_SOAK_TASKS") or 100_000)
    state = Path(tempfile.mkdtemp(prefix="fallow-large-job-"))
    with up(state, members=default_members(3, nodes=40, gpus_per_node=8), say=print) as rig:
        try:
            return _run(rig, tasks)
        except AssertionError as error:
            raise DevkitError(f"{error}\nLogs: {state / 'logs'}") from error


def _run(rig: Rig, tasks: int) -> dict[str, Any]:
    seen = Seen(rig)
    job = a_job(tasks, gpus=0, run_seconds=0)
    container = job["spec"]["template"]["spec"]["containers"][0]
    container["resources"] = {"requests": {"cpu": "10m", "memory": "10Mi"}}
    started = time.monotonic()
    job = submit(rig, job)
    while condition(job, "Succeeded") != "True" or condition(job, "Settled") != "True":
        assert time.monotonic() - started < LIMIT_SECONDS, f"not done after {LIMIT_SECONDS:.0f} s"
        assert condition(job, "Failed") != "True", job["status"]["message"]
        time.sleep(LOOK_SECONDS)
        job = get(rig, job)
        seen.look()
        counts = job.get("status", {}).get("counts", {})
        print(f"{time.monotonic() - started:.0f} s: {counts}", flush=True)
    seconds = time.monotonic() - started
    assert job["status"]["succeededTasks"] == f"0-{tasks - 1}", job["status"]["succeededTasks"]
    assert_nothing_is_paid_twice(rig)
    assert_money_is_conserved(rig)
    return {
        "tasks": tasks,
        "seconds": round(seconds, 1),
        "tasks_per_second": round(tasks / seconds, 2),
        **seen.figures(),
    }


@dataclass
class Seen:
    """The largest of everything that was seen."""

    rig: Rig
    bytes_of: Counter[str] = field(default_factory=Counter)
    """Largest object, by kind."""
    count_of: Counter[str] = field(default_factory=Counter)
    """Most objects at once, by kind."""
    rss_mb: Counter[str] = field(default_factory=Counter)
    """Peak memory by program, as the kernel counts it."""

    def look(self) -> None:
        """Look at everything now; raises AssertionError where something is too large."""
        client = self.rig.hub_client()
        for kind in ("computejobs", "placements", "paymentclaims", "settlements"):
            self._look_at(kind, _items(client, f"{GROUP}/{kind}"))
        for name, member in self.rig.members.items():
            self._look_at("guestsets", _items(member.client(), f"{GROUP}/guestsets"))
            self._measure(f"agent-{name}")
        for role in ("hub", "settler"):
            self._measure(role)

    def _look_at(self, kind: str, items: list[Json]) -> None:
        self.count_of[kind] = max(self.count_of[kind], len(items))
        for item in items:
            size = len(json.dumps(item))
            self.bytes_of[kind] = max(self.bytes_of[kind], size)
            assert size <= OBJECT_BYTES, f"{kind} {item['metadata']['name']} has {size} bytes"
            ended = (item.get("status") or {}).get("ended") or ()
            assert len(ended) <= PLACEMENT_TASKS, f"{kind} {item['metadata']['name']} has {len(ended)} tasks"

    def _measure(self, role: str) -> None:
        identity = self.rig.processes.identity(self.rig.fallow[role])
        assert identity is not None, f"{role} has ended"
        pid = identity.pid
        peak = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        assert peak is not None
        self.rss_mb[role] = int(peak[1]) // 1024

    def figures(self) -> dict[str, Any]:
        """Return all of it."""
        return {
            "largest_bytes": dict(sorted(self.bytes_of.items())),
            "most_at_once": dict(sorted(self.count_of.items())),
            "peak_rss_mb": dict(sorted(self.rss_mb.items())),
        }


def _items(client: ApiServer, path: str) -> list[Json]:
    items: list[Json] = []
    query = {"limit": "200"}
    while True:
        page = client.get(path, **query)
        items += page["items"]
        token = page["metadata"].get("continue")
        if not token:
            return items
        query["continue"] = token
