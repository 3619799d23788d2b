"""Which NVML functions give which figure, with the way round for older drivers.

Every function takes an `Ask`: a figure that cannot be had is None, a lost device raises DeviceGone.
Sources: nvml.h and the NVML API reference; units are NVML's unless a name says otherwise.
"""

from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import Any

import pynvml as nv

from fallow.probe.asking import Ask
from fallow.probe.readings import (
    DeviceReading,
    Fabric,
    HealthFigures,
    Identity,
    InstanceReading,
    NvLink,
    Process,
)

_MIB = 1024 * 1024
_FABRIC_STATES = {1: "NotStarted", 2: "InProgress", 3: "Completed"}


def address(handle: Any) -> int | None:
    """Return what a handle points to: the same device, the same address."""
    return ctypes.cast(handle, ctypes.c_void_p).value


def identity(handle: Any, index: int) -> Identity:
    """Ask for all that stays. Raises DeviceGone."""
    ask = Ask()
    pci = ask(nv.nvmlDeviceGetPciInfo, handle)
    capability = ask(nv.nvmlDeviceGetCudaComputeCapability, handle)
    memory = _memory(ask, handle)
    found = Identity(
        index=index,
        uuid=ask(nv.nvmlDeviceGetUUID, handle) or "",
        product=ask(nv.nvmlDeviceGetName, handle) or "",
        pci_bus_id=pci.busId if pci is not None else "",
        minor=ask(nv.nvmlDeviceGetMinorNumber, handle),
        memory_mib=memory[0] if memory else None,
        compute_capability=f"{capability[0]}.{capability[1]}" if capability else "",
        pcie_generation=ask(nv.nvmlDeviceGetMaxPcieLinkGeneration, handle),
        pcie_width=ask(nv.nvmlDeviceGetMaxPcieLinkWidth, handle),
        nvlink=_nvlink(ask, handle),
    )
    return what_may_change(ask, handle, found)


def what_may_change(ask: Ask, handle: Any, found: Identity) -> Identity:
    """Ask again for what a person or the fabric manager changes while the driver runs."""
    milliwatts = ask(nv.nvmlDeviceGetEnforcedPowerLimit, handle)
    return replace(
        found,
        power_limit_watts=None if milliwatts is None else round(milliwatts / 1000),
        fabric=_fabric(ask, handle),
    )


def figures(ask: Ask, handle: Any, of: Identity, *, mig: bool) -> DeviceReading:
    """Ask for what changes all the time. Under MIG the driver knows no utilisation."""
    memory = _memory(ask, handle)
    rates = None if mig else ask(nv.nvmlDeviceGetUtilizationRates, handle)
    return DeviceReading(
        identity=of,
        utilization_percent=rates.gpu if rates is not None else None,
        memory_utilization_percent=rates.memory if rates is not None else None,
        used_mib=memory[1] if memory else None,
        reserved_mib=memory[2] if memory else None,
        used_includes_reserved=memory is not None and memory[2] is None,
        temperature_celsius=ask(nv.nvmlDeviceGetTemperature, handle, nv.NVML_TEMPERATURE_GPU),
        memory_temperature_celsius=_field(ask, handle, nv.NVML_FI_DEV_MEMORY_TEMP),
        power_milliwatts=ask(nv.nvmlDeviceGetPowerUsage, handle),
        energy_millijoules=ask(nv.nvmlDeviceGetTotalEnergyConsumption, handle),
        processes=_processes(ask, handle),
        mig=mig,
    )


def health(ask: Ask, handle: Any) -> HealthFigures:
    """Ask for what tells a sick device."""
    rows = ask(nv.nvmlDeviceGetRemappedRows, handle)  # (correctable, uncorrectable, pending, failure)
    return HealthFigures(
        ecc_uncorrected=ask(
            nv.nvmlDeviceGetTotalEccErrors,
            handle,
            nv.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
            nv.NVML_VOLATILE_ECC,
        ),
        remapped_correctable=rows[0] if rows else None,
        remapped_uncorrectable=rows[1] if rows else None,
        remap_pending=bool(rows[2]) if rows else None,
        remap_failure=bool(rows[3]) if rows else None,
        recovery_action=_field(ask, handle, nv.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION),
    )


def mig_enabled(ask: Ask, handle: Any) -> bool:
    """Return whether the device is partitioned now (what is pending comes with a reset)."""
    modes = ask(nv.nvmlDeviceGetMigMode, handle)
    return modes is not None and modes[0] == nv.NVML_DEVICE_MIG_ENABLE


def instances(
    ask: Ask, handle: Any, profiles: dict[str, tuple[str, int | None]]
) -> tuple[InstanceReading, ...]:
    """Ask each MIG device; `profiles` remembers what stays, by UUID."""
    found = []
    for index in range(ask(nv.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
        # Its own Ask: an empty slot answers NotFound, which is no figure of the device.
        instance = Ask()(nv.nvmlDeviceGetMigDeviceHandleByIndex, handle, index)
        uuid = None if instance is None else ask(nv.nvmlDeviceGetUUID, instance)
        if not uuid:
            continue
        if uuid not in profiles:
            name = ask(nv.nvmlDeviceGetName, instance) or ""  # "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
            profiles[uuid] = (name.rpartition(" MIG ")[2], ask(nv.nvmlDeviceGetGpuInstanceId, instance))
        profile, gpu_instance = profiles[uuid]
        memory = _memory(ask, instance)
        found.append(
            InstanceReading(
                uuid=uuid,
                profile=profile,
                gpu_instance=gpu_instance,
                memory_mib=memory[0] if memory else None,
                used_mib=memory[1] if memory else None,
                processes=_processes(ask, instance),
            )
        )
    return tuple(found)


def _memory(ask: Ask, handle: Any) -> tuple[int, int, int | None] | None:
    """Return (total, used, reserved) in MiB; reserved is None where the driver counts it as used."""
    memory = Ask()(_memory_v2, handle)
    if memory is not None:
        return memory.total // _MIB, memory.used // _MIB, memory.reserved // _MIB
    memory = ask(nv.nvmlDeviceGetMemoryInfo, handle)
    return None if memory is None else (memory.total // _MIB, memory.used // _MIB, None)


def _memory_v2(handle: Any) -> Any:
    return nv.nvmlDeviceGetMemoryInfo(handle, version=nv.nvmlMemory_v2)


def _processes(ask: Ask, handle: Any) -> tuple[Process, ...] | None:
    found = Ask()(nv.nvmlDeviceGetComputeRunningProcesses_v3, handle)
    if found is None:
        found = ask(nv.nvmlDeviceGetComputeRunningProcesses_v2, handle)
    if found is None:
        return None
    # The same process appears once for each of its contexts.
    memory: dict[int, int | None] = {}
    for each in found:
        used = None if each.usedGpuMemory is None else each.usedGpuMemory // _MIB
        memory[each.pid] = used if used is None else used + (memory.get(each.pid) or 0)
    return tuple(Process(pid=pid, memory_mib=used) for pid, used in sorted(memory.items()))


def _field(ask: Ask, handle: Any, number: int) -> int | None:
    """Return one field value; fields a driver does not know come back as an error of their own."""
    values = ask(nv.nvmlDeviceGetFieldValues, handle, [number])
    if values is None or values[0].nvmlReturn != nv.NVML_SUCCESS:
        return None
    kind, value = values[0].valueType, values[0].value
    if kind == nv.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG:
        return int(value.ullVal)
    return int(value.uiVal) if kind == nv.NVML_VALUE_TYPE_UNSIGNED_INT else None


def _nvlink(ask: Ask, handle: Any) -> NvLink | None:
    links = to_switch = 0
    version = None
    peers: dict[str, int] = {}
    for link in range(nv.NVML_NVLINK_MAX_LINKS):
        state = Ask()(nv.nvmlDeviceGetNvLinkState, handle, link)
        if state is None:  # no such link, and none after it
            break
        if not state:
            continue
        links += 1
        version = version or ask(nv.nvmlDeviceGetNvLinkVersion, handle, link)
        kind = ask(nv.nvmlDeviceGetNvLinkRemoteDeviceType, handle, link)
        if kind == nv.NVML_NVLINK_DEVICE_TYPE_SWITCH:
            to_switch += 1
        elif kind == nv.NVML_NVLINK_DEVICE_TYPE_GPU:
            remote = ask(nv.nvmlDeviceGetNvLinkRemotePciInfo, handle, link)
            if remote is not None:
                peers[remote.busId] = peers.get(remote.busId, 0) + 1
    if not links:
        return None
    return NvLink(links=links, version=version, to_switch=to_switch, peers=tuple(sorted(peers.items())))


def _fabric(ask: Ask, handle: Any) -> Fabric | None:
    info = nv.c_nvmlGpuFabricInfo_v2_t()
    if ask(nv.nvmlDeviceGetGpuFabricInfoV, handle, ctypes.byref(info)) is None:
        return None
    state = _FABRIC_STATES.get(info.state)
    if state is None:
        return None
    cluster = bytes(info.clusterUuid).hex()
    joined = state == "Completed" and info.status == nv.NVML_SUCCESS
    return Fabric(state=state, cluster_uuid=cluster if joined else "", clique=info.cliqueId if joined else 0)
