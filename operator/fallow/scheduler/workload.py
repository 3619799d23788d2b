"""What work usually comes, and how much of the fleet could take it: the weights of `fragmentation`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from fallow.scheduler.cells import FIRST_ACCELERATOR
from fallow.scheduler.fitting import Free, copies
from fallow.scheduler.fragmentation import MAX_SHAPES, Kind
from fallow.scheduler.snapshot import Job, Shape

if TYPE_CHECKING:
    from fallow.scheduler.capacity import Capacity


def asked_for(jobs: Iterable[Job]) -> tuple[tuple[Shape, int], ...]:
    """Return the shapes of waiting jobs with their numbers of tasks."""
    # NB: hashing a shape takes longer than all the rest, and many jobs share the very same one.
    shapes: dict[int, Shape] = {}
    tasks: dict[int, int] = {}
    for job in jobs:
        key = id(job.shape)
        if key in shapes:
            tasks[key] += len(job.pending)
        else:
            shapes[key], tasks[key] = job.shape, len(job.pending)
    counts: Counter[Shape] = Counter()
    for key, shape in shapes.items():
        counts[shape] += tasks[key]
    return tuple(counts.items())


def weigh(capacity: Capacity, workload: Iterable[tuple[Shape, int]]) -> list[tuple[frozenset[int], Kind]]:
    """Return the workload's shapes with the pools that take them, dearer where few do."""
    sizes: dict[int, Counter[Free]] = {
        place.key: Counter(capacity.free_of(node.offerable) for node in place.pool.nodes)
        for place in capacity.places
    }
    fleet = sum(
        sum(size[FIRST_ACCELERATOR:]) * count for some in sizes.values() for size, count in some.items()
    )
    common = sorted(
        ((shape, count) for shape, count in workload if shape.accelerators and count > 0),
        key=lambda one: (-one[1], one[0].request, repr(one[0].requirements)),
    )[:MAX_SHAPES]
    total = sum(count for _, count in common)
    kinds = []
    for shape, count in common:
        try:
            request = capacity.demand(shape.request)
        except KeyError:
            continue  # asks for a kind of accelerator that nobody offers any more
        amounts = dict(request)
        at, number = max(
            ((d, amount) for d, amount in request if d >= FIRST_ACCELERATOR), key=lambda one: one[1]
        )
        keys = frozenset(candidate.place.key for candidate in capacity.outlook(shape).candidates())
        supply = number * sum(
            copies(size, request) * nodes for key in keys for size, nodes in sizes[key].items()
        )
        kind = Kind(
            accelerator=at - FIRST_ACCELERATOR,
            count=number,
            cpu=amounts.get(0, 1),
            memory=amounts.get(1, 1),
            weight=count / total * fleet / max(1, supply),
        )
        kinds.append((keys, kind))
    return kinds
