"""What live placements hold of nodes and of guest limits, kept as they come and go.

Only slots hold capacity, and they hold it until the agent has reported the pods gone: a task that the hub
took away may still run.
"""

from __future__ import annotations

from collections import Counter

from fallow.hub.placements import Placed
from fallow.scheduler.snapshot import NATIVE

Place = tuple[str, str]
"""(provider, node)."""


class Holdings:
    """Sums over placements; `add` and `remove` must see the same value of each."""

    def __init__(self) -> None:
        self._on_node: dict[Place, Counter[str]] = {}
        self.guests: Counter[str] = Counter()
        """Slots held, by provider."""

    def add(self, placed: Placed) -> None:
        """Count a placement in."""
        self._count(placed, 1)

    def remove(self, placed: Placed) -> None:
        """Count a placement out, as it was when it was added."""
        self._count(placed, -1)

    def on_node(self, provider: str, node: str) -> Counter[str]:
        """Return what is held of a node, by resource name."""
        return self._on_node.get((provider, node), Counter())

    def accelerators_on_node(self, provider: str, node: str) -> int:
        """Return how many accelerators of a node are held, all kinds together."""
        held = self.on_node(provider, node)
        return sum(amount for name, amount in held.items() if name not in NATIVE)

    def _count(self, placed: Placed, sign: int) -> None:
        for node, slots in placed.slots_held().items():
            place = (placed.provider, node)
            held = self._on_node.setdefault(place, Counter())
            for name, amount in placed.request:
                held[name] += sign * slots * amount
            self.guests[placed.provider] += sign * slots
            if not any(held.values()):
                del self._on_node[place]
