"""What the probe of a node says: the JSON in the annotation `fallow.dev/probe` of its Node.

Only what changes seldom is in it (the figures of every second are metrics), so that it is written
only when something happened. Defaults are left out. A reader ignores what it does not know and
refuses a `version` it does not know; that a node has no report means that nothing is known of its
devices, not that they are fine. Whether the probe itself still lives its pod's readiness says.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import Field

from fallow.resources.base import Model, Text, Timestamp, Uid

PROBE_ANNOTATION = "fallow.dev/probe"
"""Where the report is, on the probe's own Node."""
REPORT_VERSION = 1

Short = Annotated[str, Field(max_length=128)]
Count = Annotated[int, Field(ge=0, le=2**40)]
Activity = Literal["Idle", "Settling", "Busy", "HostUse", "Unknown"]
"""Idle: nothing ran on it for the whole window. Settling: nothing runs, the window is not over. Busy:
pods (or something that ended since) use it. HostUse: a process that belongs to no pod uses it. Unknown:
a figure that idleness needs cannot be had, so it is not called idle."""


class Fault(Model):
    """Why a device is not healthy."""

    reason: Literal["Xid", "Lost", "Unreadable", "UncorrectableEcc", "RowRemapFailure", "RecoveryAction"]
    message: Text


class NvLinks(Model):
    """Active NVLink links of a device."""

    links: Count
    version: Count | None = None
    to_switch: Count = 0
    """How many end in an NVSwitch."""
    peers: Annotated[dict[str, Count], Field(max_length=32)] = {}
    """Links by PCI bus id of a GPU that is connected directly."""


class FabricMembership(Model):
    """The NVLink fabric a device has joined; GPUs with the same cluster and clique reach each other."""

    state: Short
    cluster_uuid: Short = ""
    clique: Count = 0


class Use(Model):
    """Who uses a device, and since when nobody does."""

    activity: Activity = "Unknown"
    idle_since: Timestamp | None = None
    """Start of the present quiet time; set while Idle. A restart of the probe starts it anew."""
    pods: Annotated[tuple[Uid, ...], Field(max_length=64)] = ()
    """UIDs of pods with a process on it, ascending."""


class ProbedInstance(Use):
    """A MIG device."""

    uuid: Short
    profile: Short = ""
    memory_mib: Count | None = None


class ProbedDevice(Use):
    """A GPU."""

    index: Count
    uuid: Short = ""
    """Empty when it was lost before it could be asked."""
    product: Short = ""
    memory_mib: Count | None = None
    compute_capability: Short = ""
    pci_bus_id: Short = ""
    pcie_generation: Count | None = None
    pcie_width: Count | None = None
    power_limit_watts: Count | None = None
    nvlink: NvLinks | None = None
    fabric: FabricMembership | None = None
    mig: bool = False
    """Partitioned: containers get its instances, never the whole."""
    instances: Annotated[tuple[ProbedInstance, ...], Field(max_length=16)] = ()
    healthy: bool = True
    faults: Annotated[tuple[Fault, ...], Field(max_length=8)] = ()


class PodEnergy(Model):
    """What a pod that uses no device any more has drawn."""

    pod: Uid
    joules: Count
    seconds: Count
    """Between the first and the last time it was seen on a device."""


class ProbeReport(Model):
    """All that the probe of one node has to say."""

    version: Literal[1] = 1
    state: Literal["Ready", "CpuOnly", "NotHealthy"]
    """CpuOnly: no NVIDIA library here, and that is fine. NotHealthy: there should be devices and none can
    be looked at: offer none of this node's."""
    message: Text = ""
    driver: Short = ""
    cuda: Short = ""
    """Newest CUDA version the driver runs ("13.0")."""
    cpu_count: Count = 0
    memory_mib: Count = 0
    devices: Annotated[tuple[ProbedDevice, ...], Field(max_length=64)] = ()
    energy: Annotated[tuple[PodEnergy, ...], Field(max_length=32)] = ()
    """Of the pods that ended last, oldest first."""

    def encode(self) -> str:
        """Return the annotation's text; the same report gives the same text."""
        content = self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
        content["version"] = self.version
        return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def decode(cls, text: str) -> ProbeReport:
        """Read an annotation's text. Raises ValueError (pydantic's) when it is no report of this version."""
        return cls.model_validate_json(text)
