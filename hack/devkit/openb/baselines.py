"""Other ways to choose a node, each written from its description, for the same tasks in the same run.

Every policy but `random` is a score of (free, task), and the smallest wins; ties go to the first node of
the list. `Fleet` keeps, per kind of task, a heap of scores that is brought up to date when it is next
asked, so a policy that looks at every node is compared by what it decides and not by how slowly this file
does it.

`fgd` is fragmentation gradient descent (Weng et al., "Beware of Fragmentation", USENIX ATC '23). To a task
m of the target workload all free GPUs of a node are fragments when m cannot run there or wants no GPU, none
otherwise (no GPU is shared here); a node's fragmentation is the mean of that over the workload, and a task
goes where fragmentation grows least.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Sequence

from devkit.openb.workload import TraceNode, TraceTask

State = tuple[str, int, int, int]
"""What is free on a node: (kind, GPUs, millicores, MiB)."""
Score = Callable[[State, TraceTask, int], float]
"""Of (free, task, position of the node); smallest first."""


class Fleet:
    """Nodes being filled by one policy."""

    def __init__(self, nodes: Sequence[TraceNode], score: Score) -> None:
        self.free: list[State] = [(node.kind, node.gpus, node.cpu, node.memory) for node in nodes]
        self._score = score
        self._versions = [0] * len(nodes)
        self._changed: list[int] = list(range(len(nodes)))
        self._heaps: dict[TraceTask, tuple[list[tuple[float, int, int]], int]] = {}

    def place(self, task: TraceTask) -> int | None:
        """Place a task; returns the node's position, or None when none takes it."""
        heap, seen = self._heaps.get(task, ([], 0))
        for node in sorted(set(self._changed[seen:])):
            if fits(self.free[node], task):
                score = self._score(self.free[node], task, node)
                heapq.heappush(heap, (score, node, self._versions[node]))
        self._heaps[task] = (heap, len(self._changed))
        while heap and self._versions[heap[0][1]] != heap[0][2]:
            heapq.heappop(heap)
        if not heap:
            return None
        self.change(heap[0][1], task, 1)
        return heap[0][1]

    def change(self, node: int, task: TraceTask, count: int) -> None:
        """Take a task's amounts out of a node, or put them back (-1)."""
        kind, gpus, cpu, memory = self.free[node]
        self.free[node] = (
            kind, gpus - task.gpus * count, cpu - task.cpu * count, memory - task.memory * count
        )  # fmt: skip
        self._versions[node] += 1
        self._changed.append(node)


class RandomFleet(Fleet):
    """Any node that takes the task, each as likely."""

    def __init__(self, nodes: Sequence[TraceNode], seed: int) -> None:
        super().__init__(nodes, lambda _free, _task, at: at)
        self._rng = random.Random(seed)

    def place(self, task: TraceTask) -> int | None:
        # Trying at random and then looking at all gives each feasible node the same chance.
        for _ in range(20):
            node = self._rng.randrange(len(self.free))
            if fits(self.free[node], task):
                self.change(node, task, 1)
                return node
        feasible = [node for node, free in enumerate(self.free) if fits(free, task)]
        if not feasible:
            return None
        node = self._rng.choice(feasible)
        self.change(node, task, 1)
        return node


def fits(free: State, task: TraceTask) -> bool:
    """Return whether a node takes a task now."""
    return (
        free[1] >= task.gpus
        and free[2] >= task.cpu
        and free[3] >= task.memory
        and (not task.kinds or free[0] in task.kinds)
    )


def first_fit(_free: State, _task: TraceTask, at: int) -> float:
    """Score by position."""
    return at


def best_fit(nodes: Sequence[TraceNode]) -> Score:
    """Score by the GPUs and CPUs that are left, each relative to the largest node, as in the study."""
    gpus, cpu, _ = _largest(nodes)

    def score(free: State, task: TraceTask, _at: int) -> float:
        return (free[1] - task.gpus) / gpus + (free[2] - task.cpu) / cpu

    return score


def dot_product(nodes: Sequence[TraceNode]) -> Score:
    """Score by the dot product of what is free and what is wanted, relative to the largest node.

    The smallest wins, as in the study that published the yardstick.
    """
    gpus, cpu, memory = _largest(nodes)

    def score(free: State, task: TraceTask, _at: int) -> float:
        return (
            free[1] / gpus * task.gpus / gpus
            + free[2] / cpu * task.cpu / cpu
            + free[3] / memory * task.memory / memory
        )

    return score


def fgd(nodes: Sequence[TraceNode], workload: Sequence[TraceTask]) -> Score:
    """Score by how much the node's fragmentation to the target workload grows."""
    popularity = Counter(task for task in workload if task.gpus)
    by_kind = {
        kind: sorted(
            (task.cpu, task.gpus, task.memory, count / len(workload))
            for task, count in popularity.items()
            if not task.kinds or kind in task.kinds
        )
        for kind in sorted({node.kind for node in nodes})
    }
    known: dict[State, float] = {}

    def fragments(free: State) -> float:
        value = known.get(free)
        if value is None:
            runs = 0.0
            for cpu, gpus, memory, popular in by_kind[free[0]]:
                if cpu > free[2]:
                    break
                if gpus <= free[1] and memory <= free[3]:
                    runs += popular
            value = known[free] = free[1] * (1 - runs)
        return value

    def score(free: State, task: TraceTask, _at: int) -> float:
        after = (free[0], free[1] - task.gpus, free[2] - task.cpu, free[3] - task.memory)
        return round(fragments(after) - fragments(free), 9)

    return score


def _largest(nodes: Sequence[TraceNode]) -> tuple[int, int, int]:
    return max(n.gpus for n in nodes), max(n.cpu for n in nodes), max(n.memory for n in nodes)
