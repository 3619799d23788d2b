"""What the agent keeps of a member's node, and of a foreign pod: requests, node, state, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fallow.agent.devices import Devices, read_devices
from fallow.receipts.requests import Requests, effective_requests
from fallow.resources.quantities import MIB, parse_quantity

PRODUCT_LABELS = ("nvidia.com/gpu.product", "amd.com/gpu.product-name", "fallow.dev/product")
MEMORY_LABELS = ("nvidia.com/gpu.memory", "fallow.dev/accelerator-memory-mib")
INTERCONNECT_LABEL = "fallow.dev/interconnect"
DRIVER_LABELS = ("nvidia.com/cuda.driver-version.full", "fallow.dev/driver")

# Taints that every guest tolerates for a while, or that `ready` and `cordoned` say in other words.
_KNOWN_TAINTS = (
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/unschedulable",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """Capacity in whole units. Negative where owners hold more than there is."""

    cpu_millicores: int = 0
    memory_mib: int = 0
    ephemeral_storage_mib: int = 0
    pods: int = 0
    accelerators: Mapping[str, int] = field(default_factory=dict)
    """Count by extended resource."""

    def minus(self, requests: Requests) -> Amounts:
        """Return what is left beside one more pod with these requests."""
        taken = requests.devices
        return Amounts(
            cpu_millicores=self.cpu_millicores - requests.cpu_millicores,
            memory_mib=self.memory_mib - requests.memory_mib,
            ephemeral_storage_mib=self.ephemeral_storage_mib,
            pods=self.pods - 1,
            accelerators={
                name: self.accelerators.get(name, 0) - taken.get(name, 0)
                for name in self.accelerators.keys() | taken.keys()
            },
        )

    def plus(self, requests: Requests) -> Amounts:
        """Return what is left once a pod with these requests has gone."""
        given = requests.devices
        return Amounts(
            cpu_millicores=self.cpu_millicores + requests.cpu_millicores,
            memory_mib=self.memory_mib + requests.memory_mib,
            ephemeral_storage_mib=self.ephemeral_storage_mib,
            pods=self.pods + 1,
            accelerators={
                name: self.accelerators.get(name, 0) + given.get(name, 0)
                for name in self.accelerators.keys() | given.keys()
            },
        )

    def fits(self, requests: Requests) -> bool:
        """Whether one more pod with these requests fits."""
        return (
            requests.cpu_millicores <= self.cpu_millicores
            and requests.memory_mib <= self.memory_mib
            and self.pods >= 1
            and all(count <= self.accelerators.get(name, 0) for name, count in requests.devices.items())
        )


@dataclass(frozen=True, slots=True)
class Taint:
    """A taint that keeps pods away."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node of the member."""

    name: str
    labels: Mapping[str, str]
    allocatable: Amounts
    product: str = ""
    accelerator_memory_mib: int = 0
    interconnect: str = ""
    driver: str = ""
    ready: bool = True
    not_ready_since: datetime | None = None
    """When its Ready condition last changed, while it is not True."""
    cordoned: bool = False
    taints: tuple[str, ...] = ()
    """Keys of taints that keep guests away."""
    devices: Devices | None = None
    """What its probe says, where there is one."""
    all_taints: tuple[Taint, ...] = ()
    """Every taint that keeps any pod away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerPod:
    """A pod that is none of ours and holds resources of a node."""

    node: str
    requests: Requests


def read_node(raw: Mapping[str, Any]) -> Node:
    """Return the facts of one node."""
    metadata = raw["metadata"]
    spec = raw.get("spec") or {}
    status = raw.get("status") or {}
    labels: Mapping[str, str] = metadata.get("labels") or {}
    allocatable = _amounts(status.get("allocatable") or {})
    conditions = status.get("conditions") or ()
    ready: Mapping[str, Any] = next((c for c in conditions if c.get("type") == "Ready"), {})
    since = ready.get("lastTransitionTime")
    is_ready = ready.get("status") == "True"
    memory = _first(labels, MEMORY_LABELS)
    devices = read_devices(metadata.get("annotations") or {})
    probed = devices or Devices()
    taints = tuple(
        Taint(taint["key"], taint.get("value") or "", taint["effect"])
        for taint in spec.get("taints") or ()
        if taint.get("effect") in ("NoSchedule", "NoExecute")
    )
    return Node(
        name=metadata["name"],
        labels=dict(labels),
        allocatable=allocatable,
        # The labels' spelling is the one that Offers and jobs use; a probe knows the rest better.
        product=_first(labels, PRODUCT_LABELS) or probed.product.replace(" ", "-"),
        accelerator_memory_mib=probed.memory_mib or (int(memory) if memory.isdecimal() else 0),
        interconnect=probed.interconnect or labels.get(INTERCONNECT_LABEL, ""),
        driver=probed.driver or _first(labels, DRIVER_LABELS),
        devices=devices,
        ready=is_ready,
        not_ready_since=datetime.fromisoformat(since) if since and not is_ready else None,
        cordoned=bool(spec.get("unschedulable")),
        taints=tuple(
            taint.key
            for taint in taints
            if taint.key not in _KNOWN_TAINTS and taint.key not in allocatable.accelerators
        ),
        all_taints=taints,
    )


def read_owner_pod(raw: Mapping[str, Any]) -> OwnerPod | None:
    """Return what a foreign pod holds; None when it holds nothing (not bound yet, or finished)."""
    spec = raw.get("spec") or {}
    node = spec.get("nodeName")
    if not node or (raw.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return None
    return OwnerPod(node=node, requests=effective_requests(spec))


def _amounts(allocatable: Mapping[str, str]) -> Amounts:
    """Round down: what is offered must be there."""
    return Amounts(
        cpu_millicores=int(parse_quantity(allocatable.get("cpu", "0")) * 1000),
        memory_mib=int(parse_quantity(allocatable.get("memory", "0")) / MIB),
        ephemeral_storage_mib=int(parse_quantity(allocatable.get("ephemeral-storage", "0")) / MIB),
        pods=int(parse_quantity(allocatable.get("pods", "0"))),
        accelerators={
            name: int(parse_quantity(amount)) for name, amount in allocatable.items() if _is_accelerator(name)
        },
    )


def _is_accelerator(name: str) -> bool:
    domain, slash, _ = name.partition("/")
    return bool(slash) and not (domain == "kubernetes.io" or domain.endswith(".kubernetes.io"))


def _first(labels: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((labels[name] for name in names if labels.get(name)), "")
