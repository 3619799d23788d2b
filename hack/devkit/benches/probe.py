"""probe: memory and processor time of a node's probe with 8 H100, at its default period.

The real process with the real NVML binding, its own token and a real API server; the hardware is the fake
library's, so the driver's own time for a query is not in it. Half of the GPUs are busy with processes whose
control groups it reads, and it is scraped every 15 s as a Prometheus would.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from devkit.errors import RigError
from devkit.fake_nvml import Hardware, build
from devkit.fake_nvml.daemon import Daemon
from devkit.rig import default_members, up

SECONDS = 180
_SCRAPE_SECONDS = 15
_WARM_SECONDS = 15


def run() -> dict[str, Any]:
    """Return the figures; MB are 10⁶ bytes, the peak is the kernel's VmHWM."""
    with tempfile.TemporaryDirectory(prefix="fallow-bench-") as name:
        directory = Path(name)
        library = build(directory / "fake-nvml")
        members = default_members(1, nodes=1, gpus_per_node=8)
        with up(directory / "rig", members=members, with_fallow=False) as rig:
            (member,) = rig.members.values()
            node = member.client().get("/api/v1/nodes")["items"][0]["metadata"]["name"]
            return _measure(Daemon(member.kubeconfig, node, directory / "probe"), library)


def _measure(daemon: Daemon, library: Path) -> dict[str, Any]:
    hardware = Hardware.h100s(8)
    for index in range(4):
        hardware.gpu(index, util=97, used=60_000, processes=f"{os.getpid()}:59000,1:300")
    hardware.write(daemon.script)
    running = daemon.start(library)
    try:
        running.url()
        time.sleep(_WARM_SECONDS)
        pid = running.process.pid
        before, started = _cpu_seconds(pid), time.monotonic()
        for _ in range(SECONDS // _SCRAPE_SECONDS):
            time.sleep(_SCRAPE_SECONDS)
            running.ask("/metrics")
        spent, wall = _cpu_seconds(pid) - before, time.monotonic() - started
        peak_kib, now_kib = _memory_kib(pid, "VmHWM"), _memory_kib(pid, "VmRSS")
    finally:
        code = running.stop()
    if code != 0:
        raise RigError(f"The probe ended with {code}:\n{running.said()[-2000:]}")
    report = daemon.client.get(f"/api/v1/nodes/{daemon.node}")["metadata"]["annotations"]["fallow.dev/probe"]
    return {
        "gpus": 8,
        "period_seconds": 5,
        "measured_seconds": round(wall),
        "rss_mb": round(now_kib * 1024 / 1e6, 1),
        "peak_rss_mb": round(peak_kib * 1024 / 1e6, 1),
        "core_percent": round(100 * spent / wall, 3),
        "report_bytes": len(report),
        "reports_written": running.said().count('"report written"'),
    }


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory_kib(pid: int, what: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))
