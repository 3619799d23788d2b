"""Reads an openb trace: nodes and tasks as published, and samples of the tasks as the protocol draws them.

Only tasks that want whole GPUs or none: a share of a GPU is nothing that Fallow offers.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from devkit.errors import DevkitError

WORKLOADS = ("default", "gpuspec33", "multigpu50")
_WHOLE_GPU = 1000


@dataclass(frozen=True, slots=True)
class TraceNode:
    """A machine of the trace."""

    name: str
    kind: str
    gpus: int
    cpu: int
    """Millicores."""
    memory: int
    """MiB."""


@dataclass(frozen=True, slots=True)
class TraceTask:
    """What a task wants; equal for equal tasks, so that it can be counted."""

    gpus: int
    cpu: int
    """Millicores."""
    memory: int
    """MiB."""
    kinds: tuple[str, ...] = ()
    """GPU kinds that it may run on; empty for any."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A task at its time."""

    task: TraceTask
    at: int
    """Seconds since the trace began."""
    seconds: int
    """How long it ran."""


def nodes(traces: Path) -> list[TraceNode]:
    """Return the fleet. Raises DevkitError when the trace is not there."""
    return [
        TraceNode(row["sn"], row["model"], int(row["gpu"]), int(row["cpu_milli"]), int(row["memory_mib"]))
        for row in _rows(traces / "openb_node_list_gpu_node.csv")
    ]


def tasks(traces: Path, workload: str) -> list[TraceTask]:
    """Return the tasks of a workload, in the trace's order."""
    return [_task(row) for row in _rows(_pods(traces, workload)) if _whole(row)]


def arrivals(traces: Path, workload: str) -> list[Arrival]:
    """Return the tasks of a workload with their times, in order; those that never ran are left out."""
    found = [
        Arrival(_task(row), int(row["creation_time"]), int(row["deletion_time"]) - int(row["scheduled_time"]))
        for row in _rows(_pods(traces, workload))
        if _whole(row) and row["scheduled_time"] and row["deletion_time"]
    ]
    return sorted((one for one in found if one.seconds > 0), key=lambda one: one.at)


def sample(pool: list[TraceTask], *, gpus: float, seed: int) -> list[TraceTask]:
    """Draw tasks with replacement until they want so many GPUs together."""
    rng = random.Random(seed)
    drawn: list[TraceTask] = []
    wanted = 0
    while wanted < gpus:
        task = rng.choice(pool)
        drawn.append(task)
        wanted += task.gpus
    return drawn


def _task(row: dict[str, str]) -> TraceTask:
    # The files name some kinds twice, and the multi-GPU one has no such column.
    kinds = tuple(sorted({kind for kind in (row.get("gpu_spec") or "").split("|") if kind}))
    return TraceTask(int(row["num_gpu"]), int(row["cpu_milli"]), int(row["memory_mib"]), kinds)


def _whole(row: dict[str, str]) -> bool:
    return row["num_gpu"] != "1" or int(row["gpu_milli"]) == _WHOLE_GPU


def _pods(traces: Path, workload: str) -> Path:
    return traces / f"openb_pod_list_{workload}.csv"


def _rows(path: Path) -> Iterator[dict[str, str]]:
    try:
        with path.open(newline="") as file:
            yield from csv.DictReader(file)
    except FileNotFoundError:
        raise DevkitError(f"There is no {path}: --traces wants the folder of the openb traces.") from None
