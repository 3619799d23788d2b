"""What follows from each error of NVML: two typed tables, one for the start, one for a query.

The same number means different things: "unknown error" of one power reading is a gap in a graph,
of `nvmlInit` it is a container that lost its devices (systemd reloaded and the cgroup forgot
them), which only a restart mends. Codes are nvml.h's `nvmlReturn_t`; a code that a newer driver
invents follows the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import pynvml as nv


class AtStart(Enum):
    """What an error of nvmlInit says about the node."""

    CPU_ONLY = "no NVIDIA library: a node without such devices, and a healthy one"
    WAIT = "not usable now; may come by itself, so ask again at the next sample"
    RESTART = "this process can never see the devices again; a new one may"


class InQuery(Enum):
    """What an error of one query says."""

    ABSENT = "this figure does not exist here; everything else does"
    SKIP = "no answer this time; the figure is absent now and may be there next time"
    DEVICE = "the device is gone or needs a reset; the others are fine"
    SUSPECT = "as ABSENT, but when every device answers so, the process has lost them: restart"
    RESTART = "library and driver do not belong together any more: restart"


AT_START: Mapping[int, AtStart] = {
    nv.NVML_ERROR_UNINITIALIZED: AtStart.RESTART,
    nv.NVML_ERROR_INVALID_ARGUMENT: AtStart.RESTART,
    nv.NVML_ERROR_NOT_SUPPORTED: AtStart.WAIT,
    nv.NVML_ERROR_NO_PERMISSION: AtStart.RESTART,  # the device files: the container runtime sets them once
    nv.NVML_ERROR_ALREADY_INITIALIZED: AtStart.RESTART,
    nv.NVML_ERROR_NOT_FOUND: AtStart.WAIT,
    nv.NVML_ERROR_INSUFFICIENT_SIZE: AtStart.RESTART,
    nv.NVML_ERROR_INSUFFICIENT_POWER: AtStart.WAIT,
    nv.NVML_ERROR_DRIVER_NOT_LOADED: AtStart.WAIT,  # being installed or updated: the library came first
    nv.NVML_ERROR_TIMEOUT: AtStart.WAIT,
    nv.NVML_ERROR_IRQ_ISSUE: AtStart.WAIT,
    nv.NVML_ERROR_LIBRARY_NOT_FOUND: AtStart.CPU_ONLY,
    nv.NVML_ERROR_FUNCTION_NOT_FOUND: AtStart.WAIT,  # a library from before 2016; nothing here mends it
    nv.NVML_ERROR_CORRUPTED_INFOROM: AtStart.WAIT,
    nv.NVML_ERROR_GPU_IS_LOST: AtStart.WAIT,
    nv.NVML_ERROR_RESET_REQUIRED: AtStart.WAIT,
    nv.NVML_ERROR_OPERATING_SYSTEM: AtStart.RESTART,
    nv.NVML_ERROR_LIB_RM_VERSION_MISMATCH: AtStart.RESTART,  # the driver was updated under our feet
    nv.NVML_ERROR_IN_USE: AtStart.WAIT,
    nv.NVML_ERROR_MEMORY: AtStart.WAIT,
    nv.NVML_ERROR_NO_DATA: AtStart.WAIT,
    nv.NVML_ERROR_VGPU_ECC_NOT_SUPPORTED: AtStart.WAIT,
    nv.NVML_ERROR_INSUFFICIENT_RESOURCES: AtStart.WAIT,
    nv.NVML_ERROR_FREQ_NOT_SUPPORTED: AtStart.WAIT,
    nv.NVML_ERROR_ARGUMENT_VERSION_MISMATCH: AtStart.RESTART,
    nv.NVML_ERROR_DEPRECATED: AtStart.WAIT,
    nv.NVML_ERROR_NOT_READY: AtStart.WAIT,
    nv.NVML_ERROR_GPU_NOT_FOUND: AtStart.WAIT,
    nv.NVML_ERROR_INVALID_STATE: AtStart.WAIT,
    nv.NVML_ERROR_RESET_TYPE_NOT_SUPPORTED: AtStart.WAIT,
    nv.NVML_ERROR_UNKNOWN: AtStart.RESTART,  # "Failed to initialize NVML: Unknown Error"
}

IN_QUERY: Mapping[int, InQuery] = {
    nv.NVML_ERROR_UNINITIALIZED: InQuery.RESTART,
    nv.NVML_ERROR_INVALID_ARGUMENT: InQuery.ABSENT,
    nv.NVML_ERROR_NOT_SUPPORTED: InQuery.ABSENT,
    nv.NVML_ERROR_NO_PERMISSION: InQuery.ABSENT,
    nv.NVML_ERROR_ALREADY_INITIALIZED: InQuery.ABSENT,
    nv.NVML_ERROR_NOT_FOUND: InQuery.ABSENT,
    nv.NVML_ERROR_INSUFFICIENT_SIZE: InQuery.SKIP,  # processes multiplied between two calls
    nv.NVML_ERROR_INSUFFICIENT_POWER: InQuery.DEVICE,
    nv.NVML_ERROR_DRIVER_NOT_LOADED: InQuery.RESTART,
    nv.NVML_ERROR_TIMEOUT: InQuery.SKIP,
    nv.NVML_ERROR_IRQ_ISSUE: InQuery.DEVICE,
    nv.NVML_ERROR_LIBRARY_NOT_FOUND: InQuery.RESTART,
    nv.NVML_ERROR_FUNCTION_NOT_FOUND: InQuery.ABSENT,
    nv.NVML_ERROR_CORRUPTED_INFOROM: InQuery.ABSENT,
    nv.NVML_ERROR_GPU_IS_LOST: InQuery.DEVICE,
    nv.NVML_ERROR_RESET_REQUIRED: InQuery.DEVICE,
    nv.NVML_ERROR_OPERATING_SYSTEM: InQuery.SUSPECT,
    nv.NVML_ERROR_LIB_RM_VERSION_MISMATCH: InQuery.RESTART,
    nv.NVML_ERROR_IN_USE: InQuery.SKIP,
    nv.NVML_ERROR_MEMORY: InQuery.SKIP,
    nv.NVML_ERROR_NO_DATA: InQuery.SKIP,
    nv.NVML_ERROR_VGPU_ECC_NOT_SUPPORTED: InQuery.ABSENT,
    nv.NVML_ERROR_INSUFFICIENT_RESOURCES: InQuery.SKIP,
    nv.NVML_ERROR_FREQ_NOT_SUPPORTED: InQuery.ABSENT,
    nv.NVML_ERROR_ARGUMENT_VERSION_MISMATCH: InQuery.ABSENT,
    nv.NVML_ERROR_DEPRECATED: InQuery.ABSENT,
    nv.NVML_ERROR_NOT_READY: InQuery.SKIP,
    nv.NVML_ERROR_GPU_NOT_FOUND: InQuery.DEVICE,
    nv.NVML_ERROR_INVALID_STATE: InQuery.SKIP,
    nv.NVML_ERROR_RESET_TYPE_NOT_SUPPORTED: InQuery.ABSENT,
    nv.NVML_ERROR_UNKNOWN: InQuery.SUSPECT,
}


def at_start(code: int) -> AtStart:
    """Return what an error of nvmlInit means; a code nobody knows is worth a new process."""
    return AT_START.get(code, AtStart.RESTART)


def in_query(code: int) -> InQuery:
    """Return what an error of a query means; a code nobody knows is suspect."""
    return IN_QUERY.get(code, InQuery.SUSPECT)
