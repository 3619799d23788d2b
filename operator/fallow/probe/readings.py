"""What one look at a node's accelerators showed: facts without judgement.

`fallow.probe.nvml` makes these; everything else of the probe decides on them. None means that the
figure could not be had (not supported, an older driver, one failed query): an absent figure never
counts as zero.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process with a compute context on a device; `pid` is the host's."""

    pid: int
    memory_mib: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NvLink:
    """A device's active NVLink links."""

    links: int
    version: int | None = None
    to_switch: int = 0
    """How many of them end in an NVSwitch."""
    peers: tuple[tuple[str, int], ...] = ()
    """(PCI bus id, links) of each GPU that is connected directly, ascending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fabric:
    """The NVLink fabric a device has joined: GPUs of one cluster and clique reach each other."""

    state: str
    """NotStarted, InProgress or Completed."""
    cluster_uuid: str = ""
    clique: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What of a device does not change while the driver runs."""

    index: int
    uuid: str = ""
    """"GPU-…"; empty when the device was lost before it could be asked."""
    product: str = ""
    pci_bus_id: str = ""
    minor: int | None = None
    """N of /dev/nvidiaN."""
    memory_mib: int | None = None
    compute_capability: str = ""
    pcie_generation: int | None = None
    pcie_width: int | None = None
    power_limit_watts: int | None = None
    nvlink: NvLink | None = None
    fabric: Fabric | None = None

    @property
    def key(self) -> str:
        """How the probe remembers the device: its UUID, or its index where that is unknown."""
        return self.uuid or f"#{self.index}"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceReading:
    """A MIG device: what a container gets of a partitioned GPU."""

    uuid: str
    """"MIG-…"."""
    profile: str = ""
    """Such as "1g.10gb"."""
    gpu_instance: int | None = None
    memory_mib: int | None = None
    used_mib: int | None = None
    processes: tuple[Process, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthFigures:
    """The figures that tell a sick device; asked less often than the rest."""

    ecc_uncorrected: int | None = None
    """Uncorrectable memory errors since the last reset or driver load."""
    remapped_correctable: int | None = None
    remapped_uncorrectable: int | None = None
    remap_pending: bool | None = None
    remap_failure: bool | None = None
    recovery_action: int | None = None
    """nvmlDeviceGpuRecoveryAction_t; 0 is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceReading:
    """One device at one moment."""

    identity: Identity
    lost: str = ""
    """Why the device cannot be used at all (the driver's words), or empty."""
    unreadable: bool = False
    """Its memory query failed in a way that says nothing about the device."""
    utilization_percent: int | None = None
    memory_utilization_percent: int | None = None
    used_mib: int | None = None
    used_includes_reserved: bool = False
    """The driver is too old to count its own reserve apart (no nvmlMemory_v2)."""
    reserved_mib: int | None = None
    temperature_celsius: int | None = None
    memory_temperature_celsius: int | None = None
    power_milliwatts: int | None = None
    energy_millijoules: int | None = None
    """Since the driver was loaded."""
    processes: tuple[Process, ...] | None = None
    """Under MIG those of all instances together; the instances have their own."""
    mig: bool = False
    instances: tuple[InstanceReading, ...] = ()
    health: HealthFigures = HealthFigures()
    absent: frozenset[str] = frozenset()
    """Names of the NVML functions that gave no figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Xid:
    """A driver's error event. `key` is that of the device's Identity, empty when it cannot be told."""

    key: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """All devices at one moment, and what happened since the sample before."""

    driver: str = ""
    cuda: str = ""
    devices: tuple[DeviceReading, ...] = ()
    xids: tuple[Xid, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The machine around the devices."""

    cpu_count: int
    memory_mib: int
