"""Settings of `fallow probe`."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from fallow.settings.base import Group, ProgramSettings, Seconds, Xids


class ProbeIdlenessSettings(Group):
    """When a device counts as idle."""

    window_seconds: Seconds = 60
    """A device is idle when nothing ran on it for this many seconds. A minute: longer than the
    pauses of most programs between two steps; how long it must be idle before it is offered is
    the Offer's business."""
    memory_floor_mib: int = Field(default=128, ge=0, le=65_536)
    """MiB in use up to which a device counts as empty. An idle H100 shows 1 to 20, a partitioned
    one up to 80; a CUDA context alone takes over 300."""


class ProbeHealthSettings(Group):
    """When a device counts as healthy."""

    period_seconds: Seconds = 30
    """Time between two looks at error counters, in seconds; error events are taken up at every
    sample. These counters cost the driver more than the others and change seldom."""
    recovery_seconds: Seconds = 600
    """A device that was faulty is healthy again after this many seconds without a fault. Ten
    minutes: a flapping one must not collect guests in between."""
    ignored_xids: Xids = ()
    """XID numbers that do not count against a device, separated by commas, besides 13, 31, 43,
    45, 68 and 109, which are the application's own."""


class ProbeSettings(ProgramSettings):
    """The probe: tells what accelerators a node has, whether they are well and which are idle."""

    node_name: str = Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    """Name of the Node this runs on; a DaemonSet fills it from spec.nodeName."""
    period_seconds: float = Field(default=5, ge=1, le=60)
    """Time between two samples in seconds. 5 is often enough for a window of a minute, and seldom
    enough for under 1 % of a core."""
    look_again_seconds: Seconds = 600
    """How often the own annotation is read back, in seconds, in case somebody removed it."""
    proc: Path = Path("/proc")
    """Where the host's /proc is: processes on devices are explained by it. The probe runs in the
    host's process namespace, so the default is right there."""
    service_account: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount")
    """Directory with token and ca.crt; used where no kubeconfig is set."""
    idle: ProbeIdlenessSettings = ProbeIdlenessSettings()
    health: ProbeHealthSettings = ProbeHealthSettings()

    @model_validator(mode="after")
    def _window_has_samples(self) -> Self:
        if self.idle.window_seconds < self.period_seconds:
            raise ValueError("period_seconds must be at most idle.window_seconds")
        return self
