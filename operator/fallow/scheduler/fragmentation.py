"""What free capacity is worth to the work that usually comes: placing should cost as little of it as it can.

The worth of a node is summed over the workload's shapes m with accelerators: w(m) · (0.3 · the accelerators
that copies of m could still use there + 0.7 · all free ones, if at least one m fits). The second term is what
fragmentation gradient descent counts (Weng et al., "Beware of Fragmentation", USENIX ATC '23: free
accelerators that m cannot use are its fragments); the first looks further than one task, so that a node whose
CPUs run out before its accelerators is seen in time. w(m) is how often m is asked for, divided by the share
of the fleet that could take it: tasks that run only on a scarce kind make that kind dear to everybody else.

Tasks go where the worth falls least. Both terms, their mix and the weights were chosen on the traces of
`hack/bench trace`, where docs/performance.md has the figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MAX_SHAPES = 400
"""Most shapes of a workload that are weighed; the most frequent ones."""
MAX_KINDS = 24
"""Most kinds that a pool's capacity is worth something to: more changed no figure on the traces by 0.1."""
_LOOK_AHEAD = 0.3
_SCALE = 10**9
"""Worth is counted in whole numbers, so that equal places compare as equal."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A shape of the workload as a pool sees it."""

    accelerator: int
    """Which accelerator it requests: its position in `accelerators` of `Worth.of`."""
    count: int
    cpu: int
    """Millicores, at least 1."""
    memory: int
    """MiB, at least 1."""
    weight: float


class Worth:
    """The worth of free capacity to a set of kinds; remembers what it worked out."""

    def __init__(self, kinds: Sequence[Kind]) -> None:
        # Shapes that differ only in where else they may run are one kind here.
        weights: dict[int, dict[tuple[int, int, int], float]] = {}
        for kind in kinds:
            some = weights.setdefault(kind.accelerator, {})
            key = (kind.cpu, kind.memory, kind.count)
            some[key] = some.get(key, 0.0) + kind.weight
        # Ascending in CPU: the rest of the list is skipped at the first that wants too much.
        self._kinds = [
            (
                at,
                [
                    (
                        cpu,
                        memory,
                        count,
                        round(weight * count * _LOOK_AHEAD * _SCALE),
                        round(weight * (1 - _LOOK_AHEAD) * _SCALE),
                    )
                    for (cpu, memory, count), weight in sorted(_heaviest(some))
                ],
            )
            for at, some in sorted(weights.items())
        ]
        self._known: dict[tuple[int, int, tuple[int, ...]], int] = {}

    def of(self, cpu: int, memory: int, accelerators: tuple[int, ...]) -> int:
        """Return the worth of a node with this much free: 0 for one without free accelerators."""
        key = (cpu, memory, accelerators)
        known = self._known.get(key)
        if known is not None:
            return known
        worth = 0
        for at, kinds in self._kinds:
            free = accelerators[at]
            if free <= 0:
                continue
            for kind_cpu, kind_memory, count, ahead, now in kinds:
                if kind_cpu > cpu:
                    break
                if count > free or kind_memory > memory:
                    continue
                copies = free // count
                if kind_cpu * copies > cpu:
                    copies = cpu // kind_cpu
                if kind_memory * copies > memory:
                    copies = memory // kind_memory
                worth += ahead * copies + now * free
        self._known[key] = worth
        return worth


def _heaviest(weights: dict[tuple[int, int, int], float]) -> list[tuple[tuple[int, int, int], float]]:
    """Return the kinds that matter most: (CPU, memory, count) and weight."""
    return sorted(weights.items(), key=lambda one: (-one[1] * one[0][2], one[0]))[:MAX_KINDS]
