"""Builders of what the probe sees: `a_device(1, utilization_percent=7)`, idle unless told otherwise."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from fallow.probe.judging import Judge, Rules
from fallow.probe.readings import (
    DeviceReading,
    HealthFigures,
    Host,
    Identity,
    InstanceReading,
    Process,
    Sample,
    Xid,
)
from fallow.resources.probe_report import ProbeReport

START = datetime(2026, 1, 5, 12, 0, 0, tzinfo=UTC)
POD, OTHER_POD = "0a1b2c3d-1111-4222-8333-444455556666", "ffffffff-1111-4222-8333-444455556666"


def a_device(index: int = 0, *, health: HealthFigures | None = None, **figures: Any) -> DeviceReading:
    identity = Identity(index=index, uuid=f"GPU-{index}", product="NVIDIA H100 80GB HBM3", memory_mib=81559)
    figures = {"utilization_percent": 0, "used_mib": 4, "reserved_mib": 550, "processes": (), **figures}
    return DeviceReading(identity=identity, health=health or HealthFigures(), **figures)


def an_instance(uuid: str = "MIG-a", *pids: int, used_mib: int | None = 20) -> InstanceReading:
    return InstanceReading(
        uuid=uuid, profile="1g.10gb", memory_mib=9984, used_mib=used_mib, processes=processes(*pids)
    )


def processes(*pids: int) -> tuple[Process, ...]:
    return tuple(Process(pid=pid, memory_mib=100) for pid in pids)


class Owners:
    """Explains processes by a table; who is not in it belongs to the host."""

    def __init__(self, table: dict[int, str | None] | None = None) -> None:
        self.table = table or {}

    def pod_of(self, pid: int, *, device: str) -> str | None:
        return self.table.get(pid, "")


class Watched:
    """A judge with a clock of its own: `at(seconds, device, …)` is one look."""

    def __init__(self, owners: dict[int, str | None] | None = None, **rules: Any) -> None:
        rules = {
            "idle_window_seconds": 60,
            "gap_seconds": 15,
            "recovery_seconds": 600,
            "memory_floor_mib": 128,
            **rules,
        }
        host = Host(cpu_count=96, memory_mib=2_000_000)
        self.judge = Judge(Rules(**rules), host=host, owners=Owners(owners))

    def at(self, seconds: float, *devices: DeviceReading, xids: tuple[Xid, ...] = ()) -> ProbeReport:
        sample = Sample(driver="580.95.05", cuda="13.0", devices=devices, xids=xids)
        return self.judge.report(sample, now=1000 + seconds, time=START + timedelta(seconds=seconds))
