"""What live placements hold of nodes, of guest limits and for whom, kept as they come and go.

Only slots hold capacity, and they hold it until the agent has reported the pods gone: a task that the hub
took away may still run. All sums are of integers, taken out as they were put in: nothing drifts, and a cycle
pays for what changed, not for all that runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain

from fallow.hub.placements import Placed
from fallow.scheduler.snapshot import NATIVE, Running

Place = tuple[str, str]
"""(provider, node)."""


Request = tuple[tuple[str, int], ...]
USE_STEP_SECONDS = 60
"""Use is told apart by when its placement began, in these steps: it decays by how long ago that was."""


class Holdings:
    """Sums over placements; `add` and `remove` must see the same value of each."""

    def __init__(self) -> None:
        self._on_node: dict[Place, Counter[str]] = {}
        self.guests: Counter[str] = Counter()
        """Slots held, by provider."""
        self.held_by: dict[str, Counter[str]] = {}
        """What the placements of an account ("namespace/name") hold, by resource name."""
        self.used_by: dict[str, Counter[tuple[int, Request]]] = {}
        """Payable seconds of an account's present placements, by when they began (in steps) and request."""
        self.accelerators_of: Counter[str] = Counter()
        """Accelerators held, all kinds together, by account ("namespace/name") and by namespace."""
        self._running: dict[tuple[str, str], tuple[Running, ...]] = {}
        """By namespace and name of the placement."""

    def add(self, placed: Placed) -> None:
        """Count a placement in."""
        self._count(placed, 1)
        self._running[placed.namespace, placed.name] = running_of(placed)

    def remove(self, placed: Placed) -> None:
        """Count a placement out, as it was when it was added."""
        self._count(placed, -1)
        self._running.pop((placed.namespace, placed.name), None)

    def running(self) -> Iterator[Running]:
        """Yield what holds capacity, each with the moment at which time-outs have ended it."""
        return chain.from_iterable(self._running.values())

    def on_node(self, provider: str, node: str) -> Counter[str]:
        """Return what is held of a node, by resource name."""
        return self._on_node.get((provider, node), Counter())

    def accelerators_on_node(self, provider: str, node: str) -> int:
        """Return how many accelerators of a node are held, all kinds together."""
        held = self.on_node(provider, node)
        return sum(amount for name, amount in held.items() if name not in NATIVE)

    def _count(self, placed: Placed, sign: int) -> None:
        total = 0
        for node, slots in placed.slots_held().items():
            total += slots
            place = (placed.provider, node)
            held = self._on_node.setdefault(place, Counter())
            for name, amount in placed.request:
                held[name] += sign * slots * amount
            self.guests[placed.provider] += sign * slots
            if not any(held.values()):
                del self._on_node[place]
        if total:
            self._count_slots(placed, sign * total)
        if placed.payable_seconds:
            used = self.used_by.setdefault(placed.account, Counter())
            key = (placed.created // USE_STEP_SECONDS, placed.request)
            used[key] += sign * placed.payable_seconds
            if not used[key]:
                del used[key]

    def _count_slots(self, placed: Placed, slots: int) -> None:
        held = self.held_by.setdefault(placed.account, Counter())
        for name, amount in placed.request:
            held[name] += slots * amount
            if name not in NATIVE:
                self.accelerators_of[placed.account] += slots * amount
                self.accelerators_of[placed.account.partition("/")[0]] += slots * amount


def running_of(placed: Placed) -> tuple[Running, ...]:
    """Return what a placement holds on each node, and when its time-outs have ended that."""
    found = []
    held = placed.slots_held()
    for assigned in placed.assigned:
        slots = held.pop(assigned.node, 0)
        if slots:
            rounds = -(-len(assigned.tasks) // assigned.slots)
            ends_at = placed.created + rounds * placed.timeout_seconds
            found.append(Running(placed.provider, assigned.node, placed.request, slots, ends_at))
    return tuple(found)
