"""How soon the hub decides when something changes while 10,000 jobs wait.

A full fleet (20 providers, a node of eight accelerators each, with heartbeats) and thousands of waiting jobs.
Then, again and again, one node offers one accelerator more. A decision is the Placement that follows, as a
watch of the API server shows it; the time counts from the answer to the change, and one create is part of it.
FALLOW_BENCH_JOBS changes the number of jobs.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from devkit.errors import DevkitError
from devkit.rig import ApiServer, Rig, default_members, up
from devkit.scenario.fleet import Fleet, hub_command, hub_environ
from devkit.scenario.submitting import GROUP, JOBS

PROVIDERS = 20
CHANGES = 30
SETTLED_SECONDS = 600.0
ANSWER_SECONDS = 30.0
GOAL_MS = 100.0


def run() -> dict[str, Any]:
    """Fill a hub's API server, start a hub, wait until it is quiet, and change one thing at a time."""
    jobs = int(os.environ.get("FALLOW_BENCH_JOBS") or 10_000) + 8 * PROVIDERS
    members = default_members(1, nodes=1, gpus_per_node=1)
    with (
        tempfile.TemporaryDirectory(prefix="fallow-bench-") as directory,
        up(Path(directory), members=members, with_fallow=False) as rig,
    ):
        fleet = Fleet(rig, PROVIDERS)
        fleet.fill(jobs, 0)
        return _measure(rig, fleet)


def _measure(rig: Rig, fleet: Fleet) -> dict[str, Any]:
    log = rig.state / "logs" / "hub.log"
    over = threading.Event()

    def beats() -> None:
        while not over.wait(3.0):
            fleet.beat()

    heart = threading.Thread(target=beats)
    heart.start()
    with log.open("wb") as out:
        hub = subprocess.Popen(hub_command(), env=hub_environ(rig), stdout=out, stderr=out)
        try:
            waiting = _quiet(rig.hub_client(), hub)
            before = _cpu_seconds(hub.pid)
            took = [_reaction(rig, fleet, number) * 1000 for number in range(CHANGES)]
            cpu = _cpu_seconds(hub.pid) - before
        finally:
            over.set()
            heart.join()
            hub.kill()
            hub.wait()
    return {
        "pending_jobs": waiting,
        "changes": CHANGES,
        "change_to_decision_ms": round(statistics.median(took), 1),
        "change_to_decision_max_ms": round(max(took), 1),
        "cpu_ms_per_change": round(cpu / CHANGES * 1000, 1),
        "missed": ["change_to_decision_ms"] if statistics.median(took) > GOAL_MS else [],
    }


def _quiet(client: ApiServer, hub: subprocess.Popen[bytes]) -> int:
    """Wait until the fleet is full and every job says where it stands; return how many wait."""
    seen = [0, 0]

    def told() -> bool:
        placed = len(client.get(f"{GROUP}/placements", limit="1000")["items"])
        seen[:] = [placed, _silent_jobs(client)]
        return placed == 8 * PROVIDERS and seen[1] == 0

    def alive() -> None:
        if hub.poll() is not None:
            raise DevkitError(f"The hub ended with status {hub.returncode}.")
        time.sleep(2.0)

    client.until("the hub to be quiet", told, seconds=SETTLED_SECONDS, alive=alive)
    return _jobs(client) - 8 * PROVIDERS


def _silent_jobs(client: ApiServer) -> int:
    return sum(1 for job in _all_jobs(client) if not (job.get("status") or {}).get("conditions"))


def _jobs(client: ApiServer) -> int:
    return len(_all_jobs(client))


def _all_jobs(client: ApiServer) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = client.get(JOBS)["items"]
    return items


def _reaction(rig: Rig, fleet: Fleet, number: int) -> float:
    """Let one node offer one more; return the seconds until a placement uses it."""
    client, path = rig.hub_client(), f"{GROUP}/placements"
    position = client.get(path, limit="1")["metadata"]["resourceVersion"]
    found = threading.Event()
    at: list[float] = []

    def look() -> None:
        seconds = str(int(ANSWER_SECONDS))
        for event in rig.hub_client().watch(path, resourceVersion=position, timeoutSeconds=seconds):
            if event["type"] == "ADDED":
                at.append(time.monotonic())
                found.set()
                return

    looking = threading.Thread(target=look)
    looking.start()
    time.sleep(0.2)  # a moment without changes, so that each counts by itself
    fleet.grow(fleet.names[number % PROVIDERS], gpus=9 + number // PROVIDERS)
    changed = time.monotonic()
    looking.join()
    if not at:
        raise DevkitError(f"No decision within {ANSWER_SECONDS:.0f} s of a change.")
    return max(0.0, at[0] - changed)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
