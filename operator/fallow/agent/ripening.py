"""How long accelerators have been without an owner's pod, where the Offer wants them idle for a while first.

Per node and resource the agent remembers what owners used lately; the most they used within the wanted time
is what counts as theirs still. Of the time before this process began it knows only what guests held, and
what a probe says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from datetime import datetime

from fallow.agent.guests import Guest
from fallow.agent.nodes import Node, OwnerPod

_Key = tuple[str, str]


class Ripening:
    """Owners' use of each node's accelerators over the wanted time."""

    def __init__(self) -> None:
        self._seen: dict[_Key, deque[tuple[float, int]]] = {}

    def unripe(
        self,
        nodes: Iterable[Node],
        owners: Iterable[OwnerPod],
        guests: Iterable[Guest],
        *,
        idle_for_seconds: float,
        monotonic: float,
        now: datetime,
    ) -> tuple[dict[str, dict[str, int]], float]:
        """Return devices that have not been idle for long enough (node → resource → count).

        And the seconds until the first of them has been. `idle_for_seconds` 0 wants nothing.
        """
        if not idle_for_seconds:
            self._seen.clear()
            return {}, float("inf")
        used: dict[_Key, int] = {}
        for pod in owners:
            for resource, count in pod.requests.devices.items():
                used[pod.node, resource] = used.get((pod.node, resource), 0) + count
        held: dict[_Key, int] = {}
        for guest in guests:
            for resource, count in guest.requests.devices.items():
                key = (guest.node or guest.pinned_to, resource)
                held[key] = held.get(key, 0) + count
        found: dict[str, dict[str, int]] = {}
        wait = float("inf")
        keys = set()
        for node in nodes:
            for resource, total in node.allocatable.accelerators.items():
                key = (node.name, resource)
                keys.add(key)
                inuse = used.get(key, 0)
                if key not in self._seen:
                    ripe = held.get(key, 0) + _ripe(node, idle_for_seconds=idle_for_seconds, now=now)
                    self._seen[key] = deque([(monotonic, max(inuse, total - ripe))])
                until, most = _note(self._seen[key], inuse, monotonic=monotonic, keep=idle_for_seconds)
                if most > inuse:
                    found.setdefault(node.name, {})[resource] = most - inuse
                    wait = min(wait, until)
        self._seen = {key: seen for key, seen in self._seen.items() if key in keys}
        return found, wait


def _ripe(node: Node, *, idle_for_seconds: float, now: datetime) -> int:
    """Count devices that the probe has seen idle for so long."""
    since: Mapping[int, str] = dict(enumerate(node.devices.idle_since)) if node.devices else {}
    return sum(
        1
        for moment in since.values()
        if moment and (now - datetime.fromisoformat(moment)).total_seconds() >= idle_for_seconds
    )


def _note(seen: deque[tuple[float, int]], inuse: int, *, monotonic: float, keep: float) -> tuple[float, int]:
    """Take in the use now; return the seconds until the maximum may fall, and the maximum.

    The deque falls from left to right. Each entry is a use and the moment when it was last seen; the last
    entry is the use at the latest look, so that it held until now.
    """
    if seen:
        seen[-1] = (monotonic, seen[-1][1])
    while seen and seen[-1][1] <= inuse:
        seen.pop()
    seen.append((monotonic, inuse))
    while len(seen) > 1 and seen[0][0] + keep <= monotonic:
        seen.popleft()
    return seen[0][0] + keep - monotonic, seen[0][1]
