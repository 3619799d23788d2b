"""How full a real fleet gets: the openb traces, Fallow's scheduler next to five other policies.

The protocol is the published one (Weng et al., USENIX ATC '23): tasks drawn with replacement until they
want 130 % of the fleet's GPUs, placed one by one in that order, nothing leaves; the figure is the share of
all GPUs placed when demand has reached 100 % and 130 %, the mean of seeds 42 to 51. Only whole-GPU and CPU
tasks, so the figures compare within this table and not with the paper's. Fallow and FGD know the same
target workload: how often each task occurs in the trace.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from devkit.openb import baselines, fleet, replay, workload
from devkit.openb.workload import TraceNode, TraceTask
from fallow.scheduler.cycle import schedule

SEEDS = range(42, 52)
LEVELS = (1.0, 1.3)
GOAL_PLACEMENTS_PER_SECOND = 20_000

Shares = tuple[float, float]
"""Percent of all GPUs placed at each level of demand."""


def options(parser: argparse.ArgumentParser) -> None:
    """Declare what the bench needs beside its name."""
    parser.add_argument(
        "--traces", type=Path, required=True, metavar="DIR", help="folder of the openb traces"
    )
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many seeds, from 42 on")


def run(*, traces: Path, seeds: int) -> dict[str, Any]:
    """Fill the fleet by each policy; then replay the trace's arrivals against FIFO."""
    nodes = workload.nodes(traces)
    figures: dict[str, Any] = {}
    placed, wall, cpu = 0, 0.0, 0.0
    rates = []
    for name in workload.WORKLOADS:
        pool = workload.tasks(traces, name)
        gpus = sum(node.gpus for node in nodes)
        draws = [workload.sample(pool, gpus=gpus * LEVELS[-1], seed=seed) for seed in SEEDS[:seeds]]
        ours = []
        for drawn in draws:
            shares, count, took_wall, took_cpu = _fallow(nodes, drawn, pool)
            ours.append(shares)
            placed, wall, cpu = placed + count, wall + took_wall, cpu + took_cpu
            rates.append(count / took_wall)
        figures |= _means("fallow", name, ours)
        for policy, make in _policies(nodes, pool).items():
            figures |= _means(policy, name, [_filled(make(seed), nodes, d) for seed, d in enumerate(draws)])
    figures["placements_per_second"] = round(placed / wall)
    # On a machine that others use too, these two say more about the scheduler than the one above.
    figures["placements_per_cpu_second"] = round(placed / cpu)
    figures["placements_per_second_best_run"] = round(max(rates))
    figures |= replay.run(nodes, workload.arrivals(traces, "default"))
    return figures | {"missed": _missed(figures)}


def _fallow(
    nodes: Sequence[TraceNode], drawn: Sequence[TraceTask], pool: Sequence[TraceTask]
) -> tuple[Shares, int, float, float]:
    """Return shares, tasks placed, and seconds on the wall and of CPU that one cycle took."""
    snapshot = fleet.filling(nodes, drawn, pool)
    wall, cpu = time.perf_counter(), time.process_time()
    decisions = schedule(snapshot)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    done = {int(place.job_uid) for place in decisions.places}
    return _shares(nodes, drawn, [at in done for at in range(len(drawn))]), len(done), wall, cpu


def _policies(
    nodes: Sequence[TraceNode], pool: Sequence[TraceTask]
) -> dict[str, Callable[[int], baselines.Fleet]]:
    best, dot, fgd = baselines.best_fit(nodes), baselines.dot_product(nodes), baselines.fgd(nodes, pool)
    return {
        "random": lambda seed: baselines.RandomFleet(nodes, seed),
        "first_fit": lambda _: baselines.Fleet(nodes, baselines.first_fit),
        "best_fit": lambda _: baselines.Fleet(nodes, best),
        "dot_product": lambda _: baselines.Fleet(nodes, dot),
        "fgd": lambda _: baselines.Fleet(nodes, fgd),
    }


def _filled(into: baselines.Fleet, nodes: Sequence[TraceNode], drawn: Sequence[TraceTask]) -> Shares:
    return _shares(nodes, drawn, [into.place(task) is not None for task in drawn])


def _shares(nodes: Sequence[TraceNode], drawn: Sequence[TraceTask], done: Sequence[bool]) -> Shares:
    """Add up the GPUs placed until demand reaches each level."""
    capacity = sum(node.gpus for node in nodes)
    placed, wanted, at_full = 0, 0, None
    for task, was_placed in zip(drawn, done, strict=True):
        wanted += task.gpus
        if at_full is None and wanted > capacity:
            at_full = placed
        placed += task.gpus if was_placed else 0
    return 100 * (placed if at_full is None else at_full) / capacity, 100 * placed / capacity


def _means(policy: str, name: str, shares: Sequence[Shares]) -> dict[str, float]:
    return {
        f"{policy}_{round(level * 100)}_{name}": round(fmean(share[at] for share in shares), 2)
        for at, level in enumerate(LEVELS)
    }


def _missed(figures: dict[str, Any]) -> list[str]:
    missed = [
        key
        for key in figures
        if key.startswith("fallow_1") and figures[key] < figures["fgd" + key.removeprefix("fallow")]
    ]
    if figures["placements_per_second"] < GOAL_PLACEMENTS_PER_SECOND:
        missed.append("placements_per_second")
    return missed
