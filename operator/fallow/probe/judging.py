"""From looks to the report: health, use and energy, each remembered in its book."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from fallow.probe.consequences import AtStart
from fallow.probe.energy import EnergyBook
from fallow.probe.explaining import HOST, PodResources
from fallow.probe.health import HealthBook, faults_of
from fallow.probe.idleness import IdlenessBook, Sight, sight_of, sight_of_instance
from fallow.probe.nvml import Unusable
from fallow.probe.readings import DeviceReading, Host, Process, Sample, Xid
from fallow.probe.xids import OF_THE_APPLICATION
from fallow.resources.probe_report import (
    FabricMembership,
    NvLinks,
    ProbedDevice,
    ProbedInstance,
    ProbeReport,
    Use,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the judgement goes by; see `ProbeSettings` for each."""

    idle_window_seconds: float
    gap_seconds: float
    recovery_seconds: float
    memory_floor_mib: int
    ignored_xids: Collection[int] = OF_THE_APPLICATION


class Judge:
    """Turns one look after the other into reports. `host` is the machine, `owners` explains processes."""

    def __init__(self, rules: Rules, *, host: Host, owners: PodResources) -> None:
        self._rules = rules
        self._host = host
        self._owners = owners
        self._health = HealthBook(recovery_seconds=rules.recovery_seconds)
        self._idleness = IdlenessBook(window_seconds=rules.idle_window_seconds, gap_seconds=rules.gap_seconds)
        self.energy = EnergyBook(gone_seconds=rules.idle_window_seconds)

    def resume(self, report: ProbeReport, *, now: float) -> None:
        """Go on where an earlier process stopped: who was sick has to show that it no longer is."""
        for device in report.devices:
            if not device.healthy:
                self._health.resume(device.uuid or f"#{device.index}", device.faults, now=now)
        self.energy.resume(report.energy)

    def report(self, look: Sample | Unusable, *, now: float, time: datetime) -> ProbeReport:
        """Judge one look. `now` is in monotonic seconds, `time` the wall clock's."""
        if isinstance(look, Unusable):
            return ProbeReport(
                state="CpuOnly" if look.consequence is AtStart.CPU_ONLY else "NotHealthy",
                message=look.message,
                cpu_count=self._host.cpu_count,
                memory_mib=self._host.memory_mib,
                energy=self.energy.ended(now=now),
            )
        return ProbeReport(
            state="Ready",
            driver=look.driver,
            cuda=look.cuda,
            cpu_count=self._host.cpu_count,
            memory_mib=self._host.memory_mib,
            devices=tuple(self._device(reading, look.xids, now=now, time=time) for reading in look.devices),
            energy=self.energy.ended(now=now),
        )

    def _device(
        self, reading: DeviceReading, xids: Iterable[Xid], *, now: float, time: datetime
    ) -> ProbedDevice:
        of = reading.identity
        faults = faults_of(reading, xids, ignored=self._rules.ignored_xids)
        health = self._health.judge(of.key, faults, now=now)
        use, instances = self._use(reading, now=now, time=time)
        self.energy.observe(of.key, millijoules=reading.energy_millijoules, pods=frozenset(use.pods), now=now)
        return ProbedDevice(
            index=of.index,
            uuid=of.uuid,
            product=of.product,
            memory_mib=of.memory_mib,
            compute_capability=of.compute_capability,
            pci_bus_id=of.pci_bus_id,
            pcie_generation=of.pcie_generation,
            pcie_width=of.pcie_width,
            power_limit_watts=of.power_limit_watts,
            nvlink=_nvlinks(reading),
            fabric=_fabric(reading),
            mig=reading.mig,
            instances=instances,
            healthy=health.healthy,
            faults=health.faults,
            activity=use.activity,
            idle_since=use.idle_since,
            pods=use.pods,
        )

    def _use(
        self, reading: DeviceReading, *, now: float, time: datetime
    ) -> tuple[Use, tuple[ProbedInstance, ...]]:
        """Judge the GPU, or under MIG its instances and the GPU by them."""
        floor = self._rules.memory_floor_mib
        key = reading.identity.key
        pods, host = self._explain(reading.processes, device=key)
        if not reading.instances:
            sight = sight_of(reading, floor_mib=floor, host=host)
            return self._judged(key, sight, pods, now=now, time=time), ()
        found: list[ProbedInstance] = []
        sights = []
        for each in reading.instances:
            its_pods, its_host = self._explain(each.processes, device=each.uuid)
            sight = sight_of_instance(each, floor_mib=floor, host=its_host)
            use = self._judged(each.uuid, sight, its_pods, now=now, time=time)
            sights.append(sight)
            pods |= its_pods
            found.append(
                ProbedInstance(
                    uuid=each.uuid,
                    profile=each.profile,
                    memory_mib=each.memory_mib,
                    activity=use.activity,
                    idle_since=use.idle_since,
                    pods=use.pods,
                )
            )
        whole = Sight(quiet=_all_quiet(sights), host=host or any(sight.host for sight in sights))
        return self._judged(key, whole, pods, now=now, time=time), tuple(found)

    def _judged(self, key: str, sight: Sight, pods: set[str], *, now: float, time: datetime) -> Use:
        activity, since = self._idleness.judge(key, sight, now=now, time=time)
        return Use(
            activity=activity,
            idle_since=None if since is None else since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            pods=tuple(sorted(pods)),
        )

    def _explain(self, processes: tuple[Process, ...] | None, *, device: str) -> tuple[set[str], bool]:
        """Return the pods behind processes, and whether one has none."""
        owners = {self._owners.pod_of(process.pid, device=device) for process in processes or ()}
        return {owner for owner in owners if owner}, HOST in owners


def _all_quiet(sights: list[Sight]) -> bool | None:
    if any(sight.quiet is False for sight in sights):
        return False
    return None if any(sight.quiet is None for sight in sights) else True


def _nvlinks(reading: DeviceReading) -> NvLinks | None:
    found = reading.identity.nvlink
    if found is None:
        return None
    return NvLinks(
        links=found.links, version=found.version, to_switch=found.to_switch, peers=dict(found.peers)
    )


def _fabric(reading: DeviceReading) -> FabricMembership | None:
    found = reading.identity.fabric
    if found is None:
        return None
    return FabricMembership(state=found.state, cluster_uuid=found.cluster_uuid, clique=found.clique)
