"""The trace's own arrivals, replayed faster, by Fallow and by a FIFO queue: how long who waits.

All the trace's tasks together ask for less than the fleet has, so every 32nd node is taken, and the
arrivals are moved closer together until the work that arrives is 130 % of what these nodes can do in that
time. The order and relative times are the trace's from its first per cent of arrivals on (before, months
pass between them); run times stay, cut at 24 h, Fallow's default time-out. The trace names no users: ten
accounts of very different appetite (the n-th sends in proportion to 1/n) are drawn, seeded. FIFO starts
tasks strictly in order of arrival, best fit, and waits when the first does not fit. Both decide at the same
moments.

Jain's index is over what each account got of what it was entitled to: GPU time until the last arrival,
against a max-min fair division of the fleet's GPU time over what the accounts asked for until then.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from devkit.openb import baselines, fleet
from devkit.openb.workload import Arrival, TraceNode, TraceTask
from fallow.scheduler.cycle import Scheduler
from fallow.scheduler.snapshot import Account, Limits, Provider, Running, Shape

ACCOUNTS = 10
LOAD = 1.3
EVERY_NODE = 32
MOST_SECONDS = 86_400
STEPS = 100
"""Decisions until the last task arrives."""
MOST_STEPS = 6 * STEPS
SEED = 42


@dataclass(slots=True)
class Task:
    """One arrival in the replay."""

    uid: int
    task: TraceTask
    account: str
    arrives: float
    seconds: int
    started: float | None = None


Start = Callable[[Sequence[Task], float], Iterator[tuple[Task, int]]]
"""Given who waits and the time, yields who starts on which node."""


@dataclass(slots=True)
class Machines:
    """The fleet over time."""

    nodes: Sequence[TraceNode]
    fleet: baselines.Fleet
    running: list[tuple[float, int, int, Task]] = field(default_factory=list)
    """A heap of (end, uid, node, task)."""

    def end_until(self, now: float) -> None:
        """Free what has ended."""
        while self.running and self.running[0][0] <= now:
            _, _, node, task = heapq.heappop(self.running)
            self.fleet.change(node, task.task, -1)

    def start(self, task: Task, node: int, now: float) -> None:
        """Note that a task runs; its amounts are already taken."""
        task.started = now
        heapq.heappush(self.running, (now + task.seconds, task.uid, node, task))


def run(nodes: Sequence[TraceNode], arrivals: Sequence[Arrival]) -> dict[str, Any]:
    """Replay by both and return the figures."""
    nodes = nodes[::EVERY_NODE]
    arrivals = [
        replace(one, seconds=min(one.seconds, MOST_SECONDS)) for one in arrivals[len(arrivals) // 100 :]
    ]
    gpus = sum(node.gpus for node in nodes)
    work = sum(one.task.gpus * one.seconds for one in arrivals)
    window = work / (LOAD * gpus)
    first, span = arrivals[0].at, arrivals[-1].at - arrivals[0].at
    figures: dict[str, Any] = {
        "replay_tasks": len(arrivals),
        "replay_speed": round(span / window, 2),
        "replay_step_seconds": round(window / STEPS),
    }
    for name, policy in (("fallow", _fallow), ("fifo", _fifo)):
        rng = random.Random(SEED)
        names = [f"account-{n}" for n in range(ACCOUNTS)]
        senders = rng.choices(names, weights=[1 / (n + 1) for n in range(ACCOUNTS)], k=len(arrivals))
        tasks = [
            Task(at, one.task, sender, (one.at - first) * window / span, one.seconds)
            for at, (one, sender) in enumerate(zip(arrivals, senders, strict=True))
        ]
        machines = Machines(nodes, baselines.Fleet(nodes, baselines.best_fit(nodes)))
        end = _replay(tasks, machines, policy(machines), step=window / STEPS)
        waits = [(end if task.started is None else task.started) - task.arrives for task in tasks]
        figures |= {
            f"{name}_jain_index": round(_jain(tasks, window, gpus), 3),
            f"{name}_mean_wait_seconds": round(fmean(waits)),
            f"{name}_never_started": sum(task.started is None for task in tasks),
        }
    figures["mean_wait_ratio"] = round(
        figures["fallow_mean_wait_seconds"] / figures["fifo_mean_wait_seconds"], 3
    )
    return figures


def _replay(tasks: Sequence[Task], machines: Machines, start: Start, *, step: float) -> float:
    """Decide at every step until all have started, or nothing helps; return the last moment."""
    arriving, waiting, now = 0, [], 0.0
    for number in range(1, MOST_STEPS + 1):
        now = number * step
        machines.end_until(now)
        while arriving < len(tasks) and tasks[arriving].arrives <= now:
            waiting.append(tasks[arriving])
            arriving += 1
        for task, node in start(waiting, now):
            machines.start(task, node, now)
        waiting = [task for task in waiting if task.started is None]
        if not waiting and arriving == len(tasks):
            break
    return now


def _fifo(machines: Machines) -> Start:
    def start(waiting: Sequence[Task], _now: float) -> Iterator[tuple[Task, int]]:
        for task in waiting:
            node = machines.fleet.place(task.task)
            if node is None:
                return
            yield task, node

    return start


def _fallow(machines: Machines) -> Start:
    scheduler, shapes = Scheduler(), dict[TraceTask, Shape]()
    providers = fleet.providers(machines.nodes)
    position = {node.name: at for at, node in enumerate(machines.nodes)}
    owner = {node.name: p.name for p in providers for pool in p.pools for node in pool.nodes}

    def start(waiting: Sequence[Task], now: float) -> Iterator[tuple[Task, int]]:
        jobs = [
            fleet.job(
                f"{task.uid:06}",
                fleet.shape(task.task, shapes),
                created=task.uid,
                account=task.account,
                timeout_seconds=task.seconds,
            )
            for task in waiting
        ]
        held: dict[str, Counter[str]] = {}
        running = []
        for end, _, node, task in machines.running:
            request = fleet.shape(task.task, shapes).request
            held.setdefault(task.account, Counter()).update(dict(request))
            name = machines.nodes[node].name
            running.append(Running(owner[name], name, request, 1, int(end) + 1))
        snapshot = fleet.snapshot(
            tuple(_as_free(provider, machines, position) for provider in providers),
            jobs,
            (),
            limits=Limits(queue_per_slot=0),
            accounts=tuple(
                Account(key, held=tuple(sorted(some.items()))) for key, some in sorted(held.items())
            ),
            running=tuple(running),
            now=int(now),
        )
        by_uid = {f"{task.uid:06}": task for task in waiting}
        for place in scheduler.schedule(snapshot).places:
            node = position[place.assignments[0].node]
            machines.fleet.change(node, by_uid[place.job_uid].task, 1)
            yield by_uid[place.job_uid], node

    return start


def _as_free(provider: Provider, machines: Machines, position: dict[str, int]) -> Provider:
    pools = []
    for pool in provider.pools:
        nodes = []
        for node in pool.nodes:
            _, gpus, cpu, memory = machines.fleet.free[position[node.name]]
            free = {"cpu": cpu, "memory": memory, "pods": fleet.PODS_PER_NODE, fleet.GPU: gpus}
            nodes.append(replace(node, free=free))
        pools.append(replace(pool, nodes=tuple(nodes)))
    return replace(provider, pools=tuple(pools))


def _jain(tasks: Sequence[Task], window: float, gpus: int) -> float:
    """Return (Σx)² / (n Σx²) of what each account got of what it was entitled to; 1 is perfectly fair."""
    asked: dict[str, float] = defaultdict(float)
    got: dict[str, float] = defaultdict(float)
    for task in tasks:
        asked[task.account] += task.task.gpus * min(task.seconds, max(0.0, window - task.arrives))
        if task.started is not None:
            got[task.account] += task.task.gpus * min(task.seconds, max(0.0, window - task.started))
    entitled = _max_min(asked, gpus * window)
    parts = [got[account] / amount for account, amount in entitled.items() if amount > 0]
    return sum(parts) ** 2 / (len(parts) * sum(part * part for part in parts))


def _max_min(asked: dict[str, float], total: float) -> dict[str, float]:
    """Divide a total: nobody gets more than asked, and what is left is shared equally."""
    entitled: dict[str, float] = {}
    for at, (account, amount) in enumerate(sorted(asked.items(), key=lambda one: one[1])):
        entitled[account] = min(amount, total / (len(asked) - at))
        total -= entitled[account]
    return entitled
