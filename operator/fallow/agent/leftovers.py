"""Device memory that a guest left behind: between two tenants it has to be free, as far as a probe can see.

A pod cannot choose its device, so one device that is not clear holds a node back. What is held by a pod that
is there is no leftover, nor is it one to the tenant who left it. Nodes without a probe are not judged. What
is not clear is only waited for at first, since a driver takes its seconds; then the node is closed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from fallow.agent.guests import Guest
from fallow.agent.nodes import Node

PATIENCE_SECONDS = 60.0
WHY = "device memory is not free although no pod uses it"
UNKNOWN = ""
"""Stands for a tenant that nobody remembers."""
_REMEMBERED = 4096


class Leftovers:
    """Who used devices last, and since when some are not clear."""

    def __init__(self, *, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._tenants: dict[str, str] = {}
        """Pod UID → placement UID, of guests seen lately; the longest ago first."""
        self._since: dict[str, float] = {}

    def look(self, nodes: Iterable[Node], guests: Iterable[Guest]) -> dict[str, frozenset[str]]:
        """Return the nodes that are not clear, and to whom the leftovers belong (placement UIDs)."""
        alive = set()
        for guest in guests:
            self._tenants.pop(guest.uid, None)
            self._tenants[guest.uid] = guest.placement_uid
            if not guest.finished:
                alive.add(guest.uid)
        while len(self._tenants) > _REMEMBERED:
            del self._tenants[next(iter(self._tenants))]
        found = {node.name: left for node in nodes if (left := self._left_on(node, alive))}
        now = self._monotonic()
        self._since = {name: self._since.get(name, now) for name in found}
        return found

    def closed(self) -> Mapping[str, str]:
        """Return the nodes that have not been clear for too long, and why that closes them."""
        now = self._monotonic()
        return {name: WHY for name, since in self._since.items() if now - since >= PATIENCE_SECONDS}

    def _left_on(self, node: Node, alive: set[str]) -> frozenset[str]:
        left: set[str] = set()
        for pods in node.devices.users if node.devices is not None else ():
            if not pods:
                left.add(UNKNOWN)
            # A pod that is none of ours holds its device by right: its requests are subtracted already.
            left |= {self._tenants[uid] for uid in pods - alive if uid in self._tenants}
        return frozenset(left)
