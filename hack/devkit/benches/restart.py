"""A hub starts where 10,000 jobs, 1000 providers and 5,000 placements already are, and has to decide.

The bench writes all of that straight into the hub's API server, as if a hub had died in the middle of work:
half of the jobs run (one placement each, by the dead hub), the other half waits, and each provider has a node
of eight accelerators. Then one hub starts. Its first decision is the first new placement in the API server;
what ran before must be left alone. Nobody renews the agents' leases, so the look ends before their silence
would mean anything.
FALLOW_BENCH_JOBS, FALLOW_BENCH_PROVIDERS and FALLOW_BENCH_PLACEMENTS change the sizes.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from devkit.errors import DevkitError
from devkit.rig import ApiServer, Rig, default_members, up
from devkit.scenario.fleet import Fleet, hub_command, hub_environ
from devkit.scenario.submitting import GROUP

WATCHED_SECONDS = 15.0
"""How long the hub is looked at after its first decision: less than the silence that means something."""
LEASE = "/apis/coordination.k8s.io/v1/namespaces/fallow-system/leases/fallow-hub"
LIMIT_SECONDS = 300.0


def run() -> dict[str, Any]:
    """Fill a hub's API server, start a hub, and look."""
    jobs = int(os.environ.get("FALLOW_BENCH_JOBS") or 10_000)
    providers = int(os.environ.get("FALLOW_BENCH_PROVIDERS") or max(1, jobs // 10))
    placements = int(os.environ.get("FALLOW_BENCH_PLACEMENTS") or jobs // 2)
    members = default_members(1, nodes=1, gpus_per_node=1)
    with (
        tempfile.TemporaryDirectory(prefix="fallow-bench-") as directory,
        up(Path(directory), members=members, with_fallow=False) as rig,
    ):
        started = time.monotonic()
        running = Fleet(rig, providers).fill(jobs, placements)
        filled = time.monotonic() - started
        return {
            "jobs": jobs,
            "providers": providers,
            "placements": placements,
            "seconds_to_fill": round(filled, 1),
            **_measure(rig, running),
        }


def _measure(rig: Rig, running: set[str]) -> dict[str, Any]:
    """Start a hub and watch what it does; `running` are the UIDs of jobs with a placement."""
    client = rig.hub_client()
    path = f"{GROUP}/placements"
    position = client.get(path, limit="1")["metadata"]["resourceVersion"]
    log = rig.state / "logs" / "restarted-hub.log"
    with log.open("wb") as out:
        started = time.monotonic()
        hub = subprocess.Popen(
            hub_command(),
            env=hub_environ(rig),
            stdout=out,
            stderr=out,
        )
        try:
            decided = _first_new(client, path, position, hub) - started
            time.sleep(WATCHED_SECONDS)
            held = _longest_slice(log)
            status = Path(f"/proc/{hub.pid}/status").read_text()
            fields = Path(f"/proc/{hub.pid}/stat").read_text().rpartition(")")[2].split()
            cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        finally:
            hub.kill()
            hub.wait()
    peak = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    assert peak is not None
    seen = client.get(path)["items"]
    again = [one for one in seen if one["spec"]["attempt"] > 0 and one["spec"]["job"]["uid"] in running]
    moved = [one for one in seen if one["spec"].get("released") or one["spec"]["desired"] != "Run"]
    return {
        "seconds_to_first_decision": round(decided, 2),
        "peak_rss_mb": round(int(peak[1]) / 1024, 1),
        "redispatched_tasks": len(again) + len(moved),
        "placed_in_the_first_seconds": len(seen) - len(running),
        "cpu_seconds": round(cpu, 2),
        # How long the cycle ever kept lease, watches and writes waiting; and terms that came after the first.
        "longest_slice_seconds": round(held, 3),
        "leases_lost": client.get(LEASE)["spec"]["leaseTransitions"] - 2,
    }


def _longest_slice(log: Path) -> float:
    """Ask the hub's own metrics, which it serves where its log says."""
    address = re.search(r'"url": "([^"]+)"', log.read_text())
    assert address is not None
    with urllib.request.urlopen(f"{address[1]}/metrics") as answer:
        told = re.search(r"^fallow_hub_longest_slice_seconds (\S+)$", answer.read().decode(), re.MULTILINE)
    assert told is not None
    return float(told[1])


def _first_new(client: ApiServer, path: str, position: str, hub: subprocess.Popen[bytes]) -> float:
    """Return when the first new placement was seen."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        for event in client.watch(path, resourceVersion=position, timeoutSeconds="20"):
            position = event["object"]["metadata"]["resourceVersion"]
            if event["type"] == "ADDED":
                return time.monotonic()
        if hub.poll() is not None:
            raise DevkitError(f"The hub ended with status {hub.returncode}.")
    raise DevkitError(f"The hub decided nothing in {LIMIT_SECONDS:.0f} s.")
