"""Whether a device may take work: its faults now, and how long the last one must be past.

A fault makes a device unhealthy at once. It comes back only after it has shown no fault for the
recovery time: an error event is one moment, and a device that fell off the bus and was reset shows
nothing at all until it is loaded again. Its faults stay named until then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from fallow.probe.readings import DeviceReading, Xid
from fallow.probe.xids import OF_THE_APPLICATION, in_words
from fallow.resources.probe_report import Fault

RECOVERY_ACTIONS = {
    1: "reset the GPU",
    2: "reboot the node",
    3: "drain peer-to-peer traffic",
    4: "drain the GPU's work, then reset it",
    5: "recover the IMEX domain",
    6: "reset the GPU's bus",
    7: "reboot the system",
}
"""nvmlDeviceGpuRecoveryAction_t, what the driver wants done; 0 is nothing."""

_MOST_FAULTS = 8


@dataclass(frozen=True, slots=True)
class Health:
    """What is judged of one device."""

    healthy: bool
    faults: tuple[Fault, ...] = ()


def faults_of(
    reading: DeviceReading, xids: Iterable[Xid], *, ignored: Collection[int] = OF_THE_APPLICATION
) -> tuple[Fault, ...]:
    """Return what speaks against a device now. An absent figure speaks neither for nor against."""
    found = []
    if reading.lost:
        found.append(Fault(reason="Lost", message=f"The driver has lost the GPU: {reading.lost}."))
    if reading.unreadable:
        found.append(Fault(reason="Unreadable", message="The GPU does not answer, others do."))
    # An event whose device cannot be told may be any device's.
    of_device = sorted({xid.number for xid in xids if xid.key in ("", reading.identity.key)})
    found += [Fault(reason="Xid", message=in_words(number)) for number in of_device if number not in ignored]
    figures = reading.health
    if figures.ecc_uncorrected:
        message = "Uncorrectable memory errors since the last reset; a reset clears them."
        found.append(Fault(reason="UncorrectableEcc", message=message))
    if figures.remap_failure:
        message = "A row of memory could not be remapped: the GPU needs service."
        found.append(Fault(reason="RowRemapFailure", message=message))
    if figures.recovery_action:
        wanted = RECOVERY_ACTIONS.get(figures.recovery_action, f"action {figures.recovery_action}")
        found.append(Fault(reason="RecoveryAction", message=f"The driver asks: {wanted}."))
    return tuple(found)


@dataclass(slots=True)
class _Sick:
    seen_at: float
    faults: dict[tuple[str, str], Fault]


class HealthBook:
    """Remembers who was sick. `recovery_seconds` without a fault make a device healthy again."""

    def __init__(self, *, recovery_seconds: float) -> None:
        self._recovery_seconds = recovery_seconds
        self._sick: dict[str, _Sick] = {}

    def resume(self, key: str, faults: Iterable[Fault], *, now: float) -> None:
        """Take over from an earlier process: the device was sick then, and must show that it is not."""
        self._sick[key] = _Sick(now, {(fault.reason, fault.message): fault for fault in faults})

    def judge(self, key: str, faults: Iterable[Fault], *, now: float) -> Health:
        """Return a device's health given its faults now. `now` is monotonic seconds."""
        fresh = {(fault.reason, fault.message): fault for fault in faults}
        sick = self._sick.get(key)
        if fresh:
            earlier = sick.faults if sick is not None else {}
            # Those of now come last: when there are too many, the oldest go.
            known = {name: fault for name, fault in earlier.items() if name not in fresh} | fresh
            sick = self._sick[key] = _Sick(now, dict(list(known.items())[-_MOST_FAULTS:]))
        elif sick is not None and now - sick.seen_at >= self._recovery_seconds:
            del self._sick[key]
            sick = None
        if sick is None:
            return Health(healthy=True)
        return Health(healthy=False, faults=tuple(sick.faults[name] for name in sorted(sick.faults)))
