"""What the probe of a node says about its devices, as far as offering them goes.

With a device plugin a pod cannot choose its device. So one bad device, or one that somebody uses from the
host, closes the whole node to new guests; those that run there go on. A node without a report is judged by
its labels alone, as if there were no probe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from fallow.resources.probe_report import PROBE_ANNOTATION, ProbedDevice, ProbeReport
from fallow.resources.providernode import Withheld

log = structlog.get_logger(__name__)

_MAX_WITHHELD = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """The facts of one report that the agent keeps."""

    bad: tuple[Withheld, ...] = ()
    """Devices that must not be given to anybody new, and why."""
    closed: str = ""
    """Why the node takes no new guests; "" when it may."""
    users: tuple[frozenset[str], ...] = ()
    """Of each device in use: UIDs of the pods behind it; empty where memory is held and nobody is there."""
    idle: int = 0
    """Devices that nothing runs on."""
    idle_since: tuple[str, ...] = ()
    """Since when, of each idle one."""
    product: str = ""
    memory_mib: int = 0
    interconnect: str = ""
    driver: str = ""


def read_devices(annotations: Mapping[str, Any]) -> Devices | None:
    """Return what a node's annotations tell of its devices; None without a report.

    A report that cannot be read closes the node: something is there that this agent does not understand.
    """
    text = annotations.get(PROBE_ANNOTATION)
    if not text:
        return None
    try:
        report = ProbeReport.decode(text)
    except ValueError as error:
        log.warning("probe report not understood", error=str(error)[:300])
        return Devices(closed="the probe's report is not understood")
    bad = tuple(w for d in report.devices if (w := _bad(d)) is not None)[:_MAX_WITHHELD]
    closed = ""
    if report.state == "NotHealthy":
        closed = f"the probe cannot look at its devices: {report.message}"[:1000]
    elif bad:
        closed = f"device {bad[0].device} is {bad[0].reason}, and a pod cannot choose its device"[:1000]
    first = report.devices[0] if report.devices else None
    idle = tuple(d.idle_since or "" for d in report.devices if d.activity == "Idle")
    users = [
        frozenset(use.pods) for d in report.devices for use in (d.instances or (d,)) if use.activity == "Busy"
    ]
    return Devices(
        bad=bad,
        users=tuple(users),
        closed=closed,
        idle=len(idle),
        idle_since=idle,
        product=first.product if first else "",
        memory_mib=min((d.memory_mib or 0 for d in report.devices), default=0),
        interconnect=_interconnect(report.devices),
        driver=report.driver,
    )


def _bad(device: ProbedDevice) -> Withheld | None:
    name = f"{device.index} {device.uuid}".strip()[:128]
    if not device.healthy:
        said = "; ".join(f"{f.reason}: {f.message}" for f in device.faults)
        return Withheld(device=name, reason=f"not healthy ({said})"[:900])
    if device.activity == "HostUse" or any(i.activity == "HostUse" for i in device.instances):
        return Withheld(device=name, reason="used from the host by a process of no pod")
    return None


def _interconnect(devices: tuple[ProbedDevice, ...]) -> str:
    """Return NVLink when every device of several has active links."""
    linked = [d for d in devices if d.nvlink is not None and d.nvlink.links]
    return "NVLink" if len(devices) > 1 and len(linked) == len(devices) else ""
