"""Bounds on what a guest may write: its disk, and its volumes on disk or in memory.

A kubelet evicts a pod that uses more than the sum of its containers' limits, volumes and logs included. So
every container gets a limit, and together they are the Offer's. What the template asks for in requests stays:
limits alone would reserve disk that nobody uses. No volume is added: `kubectl drain` stops at a pod that has
one (decision 410); /dev/shm is the runtime's 64 MiB, or a bounded volume of the template's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fallow.resources.quantities import MIB, parse_quantity

STORAGE = "ephemeral-storage"
_LEAST_MEMORY_MIB = 64
"""For a volume in memory of a guest that names no memory: what a runtime gives /dev/shm."""


def too_much_storage(pod: Mapping[str, Any], *, most_mib: int) -> str:
    """Say why a template's own limits do not fit into the Offer's; "" when they do."""
    asked = sum(_mib(c, "limits") or _mib(c, "requests") for c in pod["containers"])
    if asked > most_mib:
        return f"it wants {asked} MiB of ephemeral storage, the Offer allows a guest {most_mib} MiB"
    return ""


def bound(pod: dict[str, Any], *, most_mib: int) -> None:
    """Bound a pod in place: containers and volumes."""
    _bound_containers(pod, most_mib=most_mib)
    memory = _memory_mib(pod)
    for volume in pod.get("volumes") or ():
        volume["emptyDir"] = _bounded(volume.get("emptyDir") or {}, memory_mib=memory, most_mib=most_mib)


def _bound_containers(pod: dict[str, Any], *, most_mib: int) -> None:
    """Give each container a limit; those that name none share what the others leave."""
    containers = pod["containers"]
    named = sum(_mib(c, "limits") or _mib(c, "requests") for c in containers)
    unnamed = sum(1 for c in containers if not (_mib(c, "limits") or _mib(c, "requests")))
    share = max(1, (most_mib - named) // max(1, unnamed))
    for container in [*pod.get("initContainers", ()), *containers]:
        resources = container.setdefault("resources", {})
        limits, requests = dict(resources.get("limits") or {}), dict(resources.get("requests") or {})
        limits.setdefault(STORAGE, requests.get(STORAGE) or f"{share}Mi")
        # Without a request of its own it would follow the limit up, and reserve that much of the disk.
        requests.setdefault(STORAGE, (resources.get("limits") or {}).get(STORAGE) or "0")
        resources["limits"], resources["requests"] = limits, requests


def _bounded(empty_dir: Mapping[str, Any], *, memory_mib: int, most_mib: int) -> dict[str, Any]:
    most = max(_LEAST_MEMORY_MIB, memory_mib) if empty_dir.get("medium") == "Memory" else most_mib
    asked = empty_dir.get("sizeLimit")
    if asked is not None and parse_quantity(asked) <= most * MIB:
        return dict(empty_dir)
    return {**empty_dir, "sizeLimit": f"{most}Mi"}


def _memory_mib(pod: Mapping[str, Any]) -> int:
    return sum(_mib(c, "limits", "memory") or _mib(c, "requests", "memory") for c in pod["containers"])


def _mib(container: Mapping[str, Any], kind: str, resource: str = STORAGE) -> int:
    amount = ((container.get("resources") or {}).get(kind) or {}).get(resource)
    return 0 if amount is None else -int(-parse_quantity(amount) // MIB)
