"""The node's devices as NVML shows them, through NVIDIA's own binding.

One `look` asks all devices and takes up the driver's error events since the look before. No single
query can lose more than its own figure: each error follows `fallow.probe.consequences`. What does
not change while the driver runs is asked once; the figures of health less often than the rest, and
at once after an error event. NVML is initialised anew when devices come or go, and now and then
while one is lost: a reset one is seen again only by that.

Calls block (a sick device can hold them for seconds): not for an event loop's thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pynvml as nv

from fallow.probe import device_queries
from fallow.probe.asking import Ask, DeviceGone, LibraryGone
from fallow.probe.consequences import AtStart, at_start
from fallow.probe.readings import DeviceReading, HealthFigures, Identity, Sample, Xid

_ANEW_EVERY = 10
"""While a device is lost NVML is initialised anew at every tenth look at health."""
_MOST_EVENTS = 1000


@dataclass(frozen=True, slots=True)
class Unusable:
    """Why no device can be looked at."""

    consequence: AtStart
    message: str


@dataclass(slots=True)
class _Device:
    identity: Identity
    handle: Any = None
    gone: str = ""
    mig: bool = False
    health: HealthFigures = field(default_factory=HealthFigures)


class Nvml:
    """All devices of this node. Not for several threads at once."""

    def __init__(self) -> None:
        self._devices: list[_Device] | None = None
        self._known: dict[int, Identity] = {}
        self._events: Any = None
        self._driver = self._cuda = ""
        self._profiles: dict[str, tuple[str, int | None]] = {}
        self._looks_at_health = 0

    def look(self, *, health: bool) -> Sample | Unusable:
        """Ask everything; `health` also the figures that change seldom. Raises nothing NVML can cause."""
        try:
            return self._look(health=health)
        except LibraryGone as error:
            self.close()
            return Unusable(
                AtStart.RESTART, f"NVML stopped working: {error}. A restart of the probe mends it."
            )

    def close(self) -> None:
        """Let go of NVML; the next look starts it again."""
        if self._devices is None:
            return
        ask = Ask()
        try:
            if self._events is not None:
                ask(nv.nvmlEventSetFree, self._events)
            ask(nv.nvmlShutdown)
        except (DeviceGone, LibraryGone):
            pass  # what cannot be closed is closed
        self._devices = self._events = None

    def _look(self, *, health: bool) -> Sample | Unusable:
        # 1. Start, or start again when devices came or went.
        if health and self._devices is not None and any(device.gone for device in self._devices):
            self._looks_at_health += 1
            if self._looks_at_health % _ANEW_EVERY == 0:
                self.close()
        if self._devices is not None and _count() not in (None, len(self._devices)):
            self.close()
        first = self._devices is None
        if self._devices is None and (failed := self._start()) is not None:
            return failed
        assert self._devices is not None
        # 2. What happened, then how each device is now.
        xids = tuple(self._drain())
        look_at_health = health or first or bool(xids)
        readings = tuple(self._read(device, health=look_at_health) for device in self._devices)
        # 3. One device that says nothing is its own trouble; all of them are the process's.
        if readings and all(reading.unreadable for reading in readings):
            raise LibraryGone("no device can be read any more")
        return Sample(driver=self._driver, cuda=self._cuda, devices=readings, xids=xids)

    def _start(self) -> Unusable | None:
        try:
            nv.nvmlInit()
        except nv.NVMLError as error:
            return _unusable(error.value, str(error))
        ask = Ask()
        self._devices = []  # from here on there is something to close
        try:
            self._driver = ask(nv.nvmlSystemGetDriverVersion) or ""
            cuda = ask(nv.nvmlSystemGetCudaDriverVersion_v2)
            self._cuda = "" if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}"
        except DeviceGone:
            pass  # a query about the system that blames a device: only a name is missing
        self._devices = [self._open(index) for index in range(_count() or 0)]
        self._events = self._listen(self._devices)
        return None

    def _open(self, index: int) -> _Device:
        known = self._known.get(index, Identity(index=index))
        try:
            handle = Ask()(nv.nvmlDeviceGetHandleByIndex, index)
            if handle is None:
                return _Device(known, gone="the driver does not hand it out")
            identity = device_queries.identity(handle, index)
        except DeviceGone as error:
            return _Device(known, gone=str(error))
        if not identity.uuid:
            identity = known
        self._known[index] = identity
        return _Device(identity, handle)

    def _listen(self, devices: list[_Device]) -> Any:
        """Make a set of error events; None where the driver has none."""
        ask = Ask()
        try:
            events = ask(nv.nvmlEventSetCreate)
        except DeviceGone:
            return None
        for device in devices:
            try:
                if events is not None and device.handle is not None:
                    ask(nv.nvmlDeviceRegisterEvents, device.handle, nv.nvmlEventTypeXidCriticalError, events)
            except DeviceGone as error:
                device.gone = str(error)
        return events

    def _drain(self) -> Iterator[Xid]:
        """Take what has happened, without waiting; the driver queues it for us."""
        if self._events is None:
            return
        for _ in range(_MOST_EVENTS):
            ask = Ask()
            try:
                event = ask(nv.nvmlEventSetWait, self._events, 0)
            except DeviceGone:
                return  # which one is seen by asking them
            if event is None:
                return
            if event.eventType & nv.nvmlEventTypeXidCriticalError:
                yield Xid(key=self._key_of(event.device), number=int(event.eventData))

    def _key_of(self, handle: Any) -> str:
        address = device_queries.address(handle)
        for device in self._devices or ():
            if device.handle is not None and device_queries.address(device.handle) == address:
                return device.identity.key
        return ""

    def _read(self, device: _Device, *, health: bool) -> DeviceReading:
        if device.handle is None:
            return DeviceReading(identity=device.identity, lost=device.gone)
        ask = Ask()
        try:
            if health:
                self._refresh(device, ask)
            reading = device_queries.figures(ask, device.handle, device.identity, mig=device.mig)
            if device.mig:
                instances = device_queries.instances(ask, device.handle, self._profiles)
                reading = replace(reading, instances=instances)
            device.gone = ""
        except DeviceGone as error:
            device.gone = str(error)
            return DeviceReading(identity=device.identity, lost=device.gone, health=device.health)
        return replace(
            reading,
            health=device.health,
            unreadable=bool(ask.suspect & {"nvmlDeviceGetMemoryInfo"}),
            absent=frozenset(ask.absent),
        )

    def _refresh(self, device: _Device, ask: Ask) -> None:
        device.health = device_queries.health(ask, device.handle)
        device.mig = device_queries.mig_enabled(ask, device.handle)
        device.identity = device_queries.what_may_change(ask, device.handle, device.identity)
        self._known[device.identity.index] = device.identity


def _count() -> int | None:
    try:
        count: int | None = Ask()(nv.nvmlDeviceGetCount)
    except DeviceGone:
        return None
    return count


def _unusable(code: int, words: str) -> Unusable:
    consequence = at_start(code)
    message = {
        AtStart.CPU_ONLY: "No NVIDIA library on this node: it counts as one without such devices.",
        AtStart.WAIT: f"NVML does not start: {words}. Tried again at every sample.",
        AtStart.RESTART: f"NVML does not start: {words}. A restart of the probe mends it.",
    }[consequence]
    return Unusable(consequence, message)
