"""How long a scheduling cycle takes: 20,000 GPUs, 100,000 tasks waiting in 10,000 jobs; and ten times that.

Synthetic and seeded: 50 providers, 2,500 nodes of 8 GPUs, 10 products at 10 prices, 20 accounts. One job in
five is a gang; tasks want 1, 2, 4 or 8 GPUs, a few only CPUs; half of the jobs name products. `cycle` is
from a snapshot to all decisions, first on the empty fleet, then (`full_`) on the fleet as the first cycle
left it: almost everything waits and is explained. `idle` is the cycle after, when nothing changed: with the
same objects, and (`idle_rebuilt_`) with equal ones made anew, which have to be compared. Each size runs in
a process of its own, since peak memory never goes down.
"""

from __future__ import annotations

import copy
import json
import random
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from devkit.errors import DevkitError
from fallow.receipts.pricing import UnitPrices
from fallow.resources.ranges import IndexRanges
from fallow.scheduler.cycle import Decisions, Scheduler
from fallow.scheduler.snapshot import (
    Account,
    Job,
    Limits,
    Node,
    Pool,
    Provider,
    Purse,
    Requirements,
    Running,
    Shape,
    Snapshot,
)

GOALS = {"cycle_seconds": 1.0, "idle_cycle_ms": 5.0, "peak_rss_mb": 600}
GOAL_TASKS_PER_SECOND = 20_000
GPU = "nvidia.com/gpu"
_PRODUCTS = ("B200", "H200", "H100-SXM", "H100-PCIe", "A100-80GB", "A100-40GB", "L40S", "A40", "A10", "L4")
_NODE = {"cpu": 128_000, "memory": 1024 * 1024, "ephemeral-storage": 4096 * 1024, "pods": 110, GPU: 8}
_NOW = 1_900_000_000


def run() -> dict[str, Any]:
    """Measure both sizes."""
    figures = _measured(1)
    figures |= {f"x10_{key}": value for key, value in _measured(10).items()}
    missed = [key for key, goal in GOALS.items() if figures[key] > goal]
    if figures["tasks_placed_per_second"] < GOAL_TASKS_PER_SECOND:
        missed.append("tasks_placed_per_second")
    return figures | {"missed": missed}


def _measured(times: int) -> dict[str, Any]:
    paths = [str(Path(__file__).parents[2]), *sys.path]
    program = f"import sys; sys.path[:0] = {paths!r}; from devkit.benches import scheduler; "
    program += f"scheduler.measure({times})"
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise DevkitError(f"the measuring process ended with status {done.returncode}")
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def measure(times: int) -> None:
    """Print the figures of one size as JSON; `times` scales providers, nodes, jobs and tasks."""
    snapshot = a_snapshot(times)
    scheduler = Scheduler()
    seconds, cpu, decisions = _timed(scheduler, snapshot)
    placed = sum(len(place.tasks) for place in decisions.places)
    later = after(snapshot, decisions)
    full_seconds, full_cpu, _ = _timed(scheduler, later)
    # Until nothing moves any more.
    while scheduler.schedule(later).places:
        later = after(later, scheduler.schedule(later))
    waits = scheduler.schedule(later).waits
    idle_seconds, _, _ = _timed(scheduler, later)
    rebuilt_seconds, _, _ = _timed(scheduler, copy.deepcopy(later))
    print(
        json.dumps(
            {
                "cycle_seconds": round(seconds, 3),
                "cycle_cpu_seconds": round(cpu, 3),
                "tasks_placed": placed,
                "slots_taken": sum(a.slots for place in decisions.places for a in place.assignments),
                "placements": len(decisions.places),
                "tasks_placed_per_second": round(placed / seconds),
                "tasks_placed_per_cpu_second": round(placed / cpu),
                "full_cycle_seconds": round(full_seconds, 3),
                "full_cycle_cpu_seconds": round(full_cpu, 3),
                "waiting_jobs_explained": len(waits),
                "longest_sentence": max((len(wait.sentence) for wait in waits.values()), default=0),
                "idle_cycle_ms": round(idle_seconds * 1000, 2),
                "idle_rebuilt_cycle_ms": round(rebuilt_seconds * 1000, 2),
                "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            }
        )
    )


def _timed(scheduler: Scheduler, snapshot: Snapshot) -> tuple[float, float, Decisions]:
    wall, cpu = time.perf_counter(), time.process_time()
    decisions = scheduler.schedule(snapshot)
    return time.perf_counter() - wall, time.process_time() - cpu, decisions


def a_snapshot(times: int) -> Snapshot:
    """Return the question, the same for the same size."""
    rng = random.Random(times)
    accounts = tuple(Account(f"account-{n:02}", weight=rng.choice((1, 1, 2, 4))) for n in range(20))
    return Snapshot(
        jobs=tuple(_jobs(rng, count=10_000 * times, tasks=100_000 * times, accounts=accounts)),
        providers=tuple(_provider(number, rng) for number in range(50 * times)),
        purses=tuple(Purse(account.key, 10**18) for account in accounts),
        limits=Limits(),
        accounts=accounts,
        now=_NOW,
    )


def _provider(number: int, rng: random.Random) -> Provider:
    """Return 50 nodes of one product; every tenth provider has the same."""
    product = number % 10
    price = 4_000_000 - 350_000 * product
    nodes = []
    for at in range(50):
        free = dict(_NODE)
        if rng.random() < 0.2:  # the owner uses some
            taken = rng.randrange(1, 8)
            free |= {GPU: 8 - taken, "cpu": 128_000 - 12_000 * taken}
        nodes.append(Node(f"node-{at:03}", _NODE, free))
    prices = UnitPrices(cpu_core_hour=10_000, memory_gib_hour=1_000, device_hour={GPU: price})
    pool = Pool(_PRODUCTS[product], tuple(nodes), prices, accelerator_memory_mib=8192 * (10 - product))
    return Provider(f"provider-{number:03}", (pool,), region=("eu", "us", "asia")[number % 3])


def _jobs(rng: random.Random, *, count: int, tasks: int, accounts: tuple[Account, ...]) -> list[Job]:
    sizes = [1 + int(rng.expovariate(1 / 8.7)) for _ in range(count)]
    sizes[-1] += max(0, tasks - sum(sizes))
    jobs = []
    shapes: dict[tuple[object, ...], Shape] = {}
    for number, size in enumerate(sizes):
        gpus = rng.choices((0, 1, 2, 4, 8), weights=(5, 60, 15, 10, 10))[0]
        cpu = rng.choice((4_000, 8_000, 12_000)) * max(1, gpus)
        products = rng.choices(((), ("H*",), ("A100*",), (rng.choice(_PRODUCTS),)), weights=(50, 20, 10, 20))[
            0
        ]
        regions = rng.choices(((), ("eu",)), weights=(80, 20))[0]
        key = (gpus, cpu, products, regions)
        if key not in shapes:
            request = {"cpu": cpu, "memory": cpu * 4, "pods": 1, GPU: gpus}
            shapes[key] = Shape(
                request=tuple(sorted((name, amount) for name, amount in request.items() if amount)),
                requirements=Requirements(products=products, regions=regions),
            )
        account = rng.choice(accounts).key
        jobs.append(
            Job(
                uid=f"{number:08}",
                name=f"team/{number}",
                shape=shapes[key],
                pending=IndexRanges.span(0, size),
                purses=(account,),
                account=account,
                created=number,
                priority=rng.choice((0, 0, 0, 10)),
                gang=rng.random() < 0.2,
                timeout_seconds=rng.choice((600, 3600, 4 * 3600)),
            )
        )
    return jobs


def after(snapshot: Snapshot, decisions: Decisions) -> Snapshot:
    """Return the snapshot with the decisions carried out."""
    requests = {job.uid: job.shape.request for job in snapshot.jobs}
    taken: dict[tuple[str, str], dict[str, int]] = {}
    gone: dict[str, IndexRanges] = {}
    running = list(snapshot.running)
    for place in decisions.places:
        request = requests[place.job_uid]
        gone[place.job_uid] = gone.get(place.job_uid, IndexRanges()) | place.tasks
        for assignment in place.assignments:
            held = taken.setdefault((place.provider, assignment.node), {})
            for name, amount in request:
                held[name] = held.get(name, 0) + amount * assignment.slots
            rounds = -(-len(assignment.tasks) // assignment.slots)
            ends_at = snapshot.now + rounds * place.run_seconds
            running.append(Running(place.provider, assignment.node, request, assignment.slots, ends_at))
    return Snapshot(
        jobs=tuple(_without(job, gone.get(job.uid)) for job in snapshot.jobs),
        providers=tuple(_with_less(provider, taken) for provider in snapshot.providers),
        purses=snapshot.purses,
        limits=snapshot.limits,
        accounts=snapshot.accounts,
        running=tuple(running),
        now=snapshot.now,
    )


def _without(job: Job, gone: IndexRanges | None) -> Job:
    return job if gone is None else replace(job, pending=job.pending - gone)


def _with_less(provider: Provider, taken: dict[tuple[str, str], dict[str, int]]) -> Provider:
    pools = []
    for pool in provider.pools:
        nodes = []
        for node in pool.nodes:
            held = taken.get((provider.name, node.name), {})
            free = {name: amount - held.get(name, 0) for name, amount in node.free.items()}
            nodes.append(replace(node, free=free))
        pools.append(replace(pool, nodes=tuple(nodes)))
    return replace(provider, pools=tuple(pools))
