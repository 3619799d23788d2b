"""The agent on 3 members of 100 nodes: how fast 500 tasks become pods and their ends news, and what it takes.

Placement and pod are timed when the API servers' own watches tell of them, in one process with one clock.
"""

from __future__ import annotations

import http.client
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from devkit.errors import DevkitError
from devkit.rig import ApiError, ApiServer, Rig, default_members, up
from devkit.scenario.pod_log import PODS
from devkit.scenario.submitting import GROUP, JOBS, Json, a_job, condition, submit, wait_for
from fallow.resources.ranges import IndexRanges

TASKS = 500
RUN_SECONDS = 15
IDLE_SECONDS = 30
LIMIT_SECONDS = 300.0
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_BROKEN = (OSError, http.client.HTTPException, ApiError)


def run() -> dict[str, Any]:
    """Run on a rig of its own, with hub, settler in ledger mode and one agent a member."""
    members = default_members(3, nodes=100, gpus_per_node=8)
    with (
        tempfile.TemporaryDirectory(prefix="fallow-bench-") as directory,
        up(Path(directory), members=members, payments="ledger") as rig,
    ):
        return _measure(rig)


def _measure(rig: Rig) -> dict[str, Any]:
    rig.hub_client().until("every node to be advertised", lambda: _advertised(rig) == 300, seconds=120)
    placed: dict[str, float] = {}
    created: dict[str, tuple[str, float]] = {}
    ended: dict[int, float] = {}
    told: dict[int, float] = {}

    def on_placement(obj: Json, now: float) -> None:
        placed.setdefault(obj["metadata"]["uid"], now)

    def on_pod(obj: Json, now: float) -> None:
        labels = obj["metadata"]["labels"]
        created.setdefault(obj["metadata"]["uid"], (labels["fallow.dev/placement-uid"], now))
        if obj["status"].get("phase") == "Succeeded":
            ended.setdefault(int(labels["fallow.dev/index"]), now)

    def on_job(obj: Json, now: float) -> None:
        for index in IndexRanges.parse(obj.get("status", {}).get("succeededTasks") or ""):
            told.setdefault(index, now)

    hub = rig.client("hub_admin")
    agents = {role: rig.processes.identity(name) for role, name in rig.fallow.items() if "agent" in role}
    pids = {role: identity.pid for role, identity in agents.items() if identity is not None}
    with (
        _Timed(hub, f"{GROUP}/placements", on_placement),
        _Timed(rig.client("submitter"), JOBS, on_job),
        _Timed(rig.members["aurora"].client(), PODS, on_pod),
        _Timed(rig.members["borealis"].client(), PODS, on_pod),
        _Timed(rig.members["member-3"].client(), PODS, on_pod),
    ):
        job = submit(rig, a_job(TASKS, run_seconds=RUN_SECONDS))
        wait_for(
            rig, job, lambda j: condition(j, "Succeeded") == "True", seconds=LIMIT_SECONDS, what="to end"
        )
        try:
            hub.until("every end to be seen", lambda: len(told) == TASKS == len(ended), seconds=30)
        except DevkitError as error:
            seen = f"{len(created)} pods, {len(ended)} ends, {len(told)} told"
            raise DevkitError(f"{error} Seen: {seen}.") from error
    hub.until("all to be settled", lambda: not hub.get(f"{GROUP}/placements")["items"], seconds=120)
    create = sorted(now - placed[uid] for uid, now in created.values())
    report = sorted(told[index] - ended[index] for index in told)
    return {
        "tasks": TASKS,
        "placements": len(placed),
        "create_p50_s": round(create[len(create) // 2], 2),
        "create_p95_s": round(_p95(create), 2),
        "report_p50_s": round(report[len(report) // 2], 2),
        "report_p95_s": round(_p95(report), 2),
        "idle_core_percent": _idle_percent(pids),
        "peak_rss_mb": max(_peak_rss_mib(pid) for pid in pids.values()),
        "load_average": os.getloadavg()[0],
    }


def _advertised(rig: Rig) -> int:
    return len(rig.client("hub_admin").get(f"{GROUP}/providernodes")["items"])


def _p95(values: list[float]) -> float:
    """Return the 95th percentile of sorted values."""
    return values[min(len(values) - 1, int(len(values) * 0.95))]


def _idle_percent(pids: Mapping[str, int]) -> float:
    """Return the largest share of a core that one agent used while nothing changed."""
    before = {pid: _cpu_seconds(pid) for pid in pids.values()}
    time.sleep(IDLE_SECONDS)  # the measurement itself: what is used while nothing happens
    used = max(_cpu_seconds(pid) - seconds for pid, seconds in before.items())
    return round(100 * used / IDLE_SECONDS, 2)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def _peak_rss_mib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) // 1024


class _Timed:
    """Tells of every object of a list, and of its changes, when the API server does."""

    def __init__(self, client: ApiServer, path: str, tell: Callable[[Json, float], None]) -> None:
        self._client = client
        self._path = path
        self._tell = tell
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Self:
        self._position = self._client.get(self._path)["metadata"]["resourceVersion"]
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()

    def _follow(self) -> None:
        while not self._stopping.is_set():
            try:
                for event in self._client.watch(
                    self._path, resourceVersion=self._position, timeoutSeconds="25"
                ):
                    if event["type"] == "ERROR":
                        raise DevkitError(f"A watch of {self._path} broke: {event['object']}")
                    self._position = event["object"]["metadata"]["resourceVersion"]
                    self._tell(event["object"], time.monotonic())
                    if self._stopping.is_set():
                        return
            except _BROKEN:
                time.sleep(0.05)  # a stream that broke goes on from where it was
