"""The trace's fleet and tasks as the scheduler sees them: 20 providers at one price, each task a job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from devkit.openb.workload import TraceNode, TraceTask
from fallow.receipts.pricing import UnitPrices
from fallow.resources.ranges import IndexRanges
from fallow.scheduler.snapshot import Job, Limits, Node, Pool, Provider, Purse, Requirements, Shape, Snapshot

PROVIDERS = 20
GPU = "nvidia.com/gpu"
PODS_PER_NODE = 250
_PRICES = UnitPrices(cpu_core_hour=0, memory_gib_hour=0, device_hour={GPU: 1_000_000})
_ONE = IndexRanges.span(0, 1)


def providers(nodes: Sequence[TraceNode]) -> tuple[Provider, ...]:
    """Deal the nodes over the providers like cards; a provider's nodes of one kind are a pool."""
    return tuple(
        Provider(name=f"provider-{dealt:02}", pools=_pools(nodes[dealt::PROVIDERS]))
        for dealt in range(PROVIDERS)
    )


def shape(task: TraceTask, known: dict[TraceTask, Shape]) -> Shape:
    """Return a task as a shape, the same object for equal tasks."""
    if task not in known:
        request = {"cpu": task.cpu, "memory": task.memory, "pods": 1, GPU: task.gpus}
        known[task] = Shape(
            request=tuple(sorted((name, amount) for name, amount in request.items() if amount)),
            requirements=Requirements(products=task.kinds),
        )
    return known[task]


def job(uid: str, of: Shape, *, created: int, **fields: Any) -> Job:
    """Return a job of one task."""
    return Job(uid=uid, name=uid, shape=of, pending=_ONE, purses=("purse",), created=created, **fields)


def snapshot(
    fleet: tuple[Provider, ...], jobs: Iterable[Job], workload: Iterable[tuple[Shape, int]], **fields: Any
) -> Snapshot:
    """Return a snapshot with money for all of it."""
    return Snapshot(
        jobs=tuple(jobs),
        providers=fleet,
        purses=(Purse("purse", 10**18),),
        workload=tuple(workload),
        **fields,
    )


def filling(nodes: Sequence[TraceNode], drawn: Sequence[TraceTask], pool: Sequence[TraceTask]) -> Snapshot:
    """Return the protocol's question: these tasks in this order, for a fleet that nothing ever leaves."""
    known: dict[TraceTask, Shape] = {}
    jobs = [job(f"{at:06}", shape(task, known), created=at) for at, task in enumerate(drawn)]
    workload = [(shape(task, known), count) for task, count in Counter(pool).items()]
    # Nothing ends, so there is no moment to reserve for.
    return snapshot(providers(nodes), jobs, workload, limits=Limits(queue_per_slot=0, reservations=0))


def _pools(nodes: Sequence[TraceNode]) -> tuple[Pool, ...]:
    by_kind: dict[str, list[Node]] = {}
    for node in nodes:
        amounts = {"cpu": node.cpu, "memory": node.memory, "pods": PODS_PER_NODE, GPU: node.gpus}
        by_kind.setdefault(node.kind, []).append(Node(node.name, amounts, amounts))
    return tuple(Pool(kind, tuple(some), _PRICES) for kind, some in sorted(by_kind.items()))
