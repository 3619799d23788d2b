"""Whether a device is really idle: nothing on it for a whole window, not only at this moment.

Quiet at one sample means: utilisation 0 (where the driver has that figure), no compute process, and
used memory near its floor. Idle means every sample of the window was quiet, which is the same as:
the window's maximum of utilisation is 0. What cannot be known is not quiet.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from fallow.probe.readings import DeviceReading, InstanceReading, Process
from fallow.resources.probe_report import Activity

_OLD_DRIVER_RESERVE_PERCENT = 2
"""What a driver without nvmlMemory_v2 counts as used for itself, at most: 550 MiB of an H100."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What one sample shows of the use of one device or MIG instance."""

    quiet: bool | None
    """None: cannot be told."""
    host: bool = False
    """A process that no pod explains is on it."""


def sight_of(reading: DeviceReading, *, floor_mib: int, host: bool) -> Sight:
    """Judge one sample of a whole GPU; `host` says that some process has no pod."""
    floor = floor_mib
    if reading.used_includes_reserved and reading.identity.memory_mib is not None:
        floor += reading.identity.memory_mib * _OLD_DRIVER_RESERVE_PERCENT // 100
    if reading.lost or reading.unreadable:
        return Sight(quiet=None, host=host)
    if reading.utilization_percent:
        return Sight(quiet=False, host=host)
    return Sight(quiet=_quiet(reading.processes, reading.used_mib, floor), host=host)


def sight_of_instance(instance: InstanceReading, *, floor_mib: int, host: bool) -> Sight:
    """Judge one sample of a MIG device, by its processes and memory alone."""
    return Sight(quiet=_quiet(instance.processes, instance.used_mib, floor_mib), host=host)


def _quiet(processes: tuple[Process, ...] | None, used_mib: int | None, floor_mib: int) -> bool | None:
    if processes or (used_mib is not None and used_mib > floor_mib):
        return False
    return None if processes is None or used_mib is None else True


@dataclass(slots=True)
class _Quiet:
    since: float
    since_time: datetime
    seen_at: float


class IdlenessBook:
    """Remembers since when devices are quiet.

    `window_seconds` of quiet make one idle; a pause between samples longer than `gap_seconds` starts
    the window anew, since nobody looked.
    """

    def __init__(self, *, window_seconds: float, gap_seconds: float) -> None:
        self._window_seconds = window_seconds
        self._gap_seconds = gap_seconds
        self._quiet: dict[str, _Quiet] = {}

    def judge(
        self, key: str, sight: Sight, *, now: float, time: datetime
    ) -> tuple[Activity, datetime | None]:
        """Return what the device does and, when idle, since when. `now` is monotonic, `time` the wall's."""
        if sight.host:
            self._quiet.pop(key, None)
            return "HostUse", None
        if not sight.quiet:
            self._quiet.pop(key, None)
            return ("Unknown" if sight.quiet is None else "Busy"), None
        quiet = self._quiet.get(key)
        if quiet is None or now - quiet.seen_at > self._gap_seconds:
            # Whole seconds, as the report has them.
            quiet = self._quiet[key] = _Quiet(now, time.replace(microsecond=0) + timedelta(seconds=1), now)
        quiet.seen_at = now
        if now - quiet.since < self._window_seconds:
            return "Settling", None
        return "Idle", quiet.since_time
