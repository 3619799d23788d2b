"""The last look as Prometheus metrics, computed when somebody scrapes.

Names, units and labels are DCGM's exporter's where the meaning is the same, so that dashboards and
alerts that people have go on to work; what is only ours is called fallow_probe_…. An absent figure
is an absent series, never a zero.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fallow.probe.readings import DeviceReading, Sample
from fallow.resources.probe_report import ProbeReport

_LABELS = ("gpu", "UUID", "pci_bus_id", "device", "modelName", "Hostname")


@dataclass(frozen=True, slots=True)
class _Figure:
    name: str
    text: str
    of: Callable[[DeviceReading], float | None]
    rising: bool = False


def _free(reading: DeviceReading) -> int | None:
    total, used = reading.identity.memory_mib, reading.used_mib
    return None if total is None or used is None else total - used - (reading.reserved_mib or 0)


def _watts(reading: DeviceReading) -> float | None:
    return None if reading.power_milliwatts is None else reading.power_milliwatts / 1000


_FIGURES = (
    _Figure("DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %).", lambda r: r.utilization_percent),
    _Figure(
        "DCGM_FI_DEV_MEM_COPY_UTIL", "Memory utilization (in %).", lambda r: r.memory_utilization_percent
    ),
    _Figure("DCGM_FI_DEV_FB_USED", "Framebuffer memory used (in MiB).", lambda r: r.used_mib),
    _Figure("DCGM_FI_DEV_FB_FREE", "Framebuffer memory free (in MiB).", _free),
    _Figure("DCGM_FI_DEV_FB_RESERVED", "Framebuffer memory reserved (in MiB).", lambda r: r.reserved_mib),
    _Figure("DCGM_FI_DEV_GPU_TEMP", "GPU temperature (in C).", lambda r: r.temperature_celsius),
    _Figure("DCGM_FI_DEV_MEMORY_TEMP", "Memory temperature (in C).", lambda r: r.memory_temperature_celsius),
    _Figure("DCGM_FI_DEV_POWER_USAGE", "Power draw (in W).", _watts),
    _Figure(
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        "Total energy consumption since the driver was loaded (in mJ).",
        lambda r: r.energy_millijoules,
        rising=True,
    ),
    _Figure(
        "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL",
        "Uncorrectable memory errors since the last reset.",
        lambda r: r.health.ecc_uncorrected,
        rising=True,
    ),
    _Figure(
        "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS",
        "Rows remapped for uncorrectable errors.",
        lambda r: r.health.remapped_uncorrectable,
        rising=True,
    ),
    _Figure(
        "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS",
        "Rows remapped for correctable errors.",
        lambda r: r.health.remapped_correctable,
        rising=True,
    ),
    _Figure(
        "DCGM_FI_DEV_ROW_REMAP_FAILURE",
        "Whether remapping of rows has failed.",
        lambda r: _bit(r.health.remap_failure),
    ),
    _Figure(
        "DCGM_FI_DEV_ROW_REMAP_PENDING",
        "Whether a remapped row waits for a reset.",
        lambda r: _bit(r.health.remap_pending),
    ),
)


def _bit(value: bool | None) -> int | None:
    return None if value is None else int(value)


class ProbeMetrics(Collector):
    """Holds the last look; `tell` is called by the probe, `collect` by a scrape."""

    def __init__(self, registry: CollectorRegistry, *, hostname: str) -> None:
        self._hostname = hostname
        self._lock = threading.Lock()
        self._sample = Sample()
        self._report: ProbeReport | None = None
        self._joules: dict[str, float] = {}
        self._last_xid: dict[str, int] = {}
        self.looks = Counter("fallow_probe_looks", "Looks at the devices.", registry=registry)
        self.publications = Counter(
            "fallow_probe_publications",
            "Reports put on the Node, by how that ended.",
            ["result"],
            registry=registry,
        )
        registry.register(self)

    def tell(self, sample: Sample | None, report: ProbeReport, *, joules: dict[str, float]) -> None:
        """Take over a look; None: there was nothing to look at."""
        self.looks.inc()
        with self._lock:
            self._sample, self._report, self._joules = sample or Sample(), report, joules
            for xid in self._sample.xids:
                self._last_xid[xid.key] = xid.number

    def collect(self) -> Iterator[Metric]:
        """Give the families; those without a single figure are left out."""
        with self._lock:
            sample, report, joules = self._sample, self._report, self._joules
            last_xid = dict(self._last_xid)
        for figure in _FIGURES:
            # NB: not prometheus_client's counter, which would add _total to a name people know.
            family = Metric(figure.name, figure.text, "unknown" if figure.rising else "gauge")
            for reading in sample.devices:
                value = figure.of(reading)
                if value is not None:
                    family.add_sample(figure.name, self._labels(reading), value)
            if family.samples:
                yield family
        if sample.devices:
            family = Metric("DCGM_FI_DEV_XID_ERRORS", "Value of the last XID error encountered.", "gauge")
            for reading in sample.devices:
                number = last_xid.get(reading.identity.key, 0)
                family.add_sample(family.name, self._labels(reading), number)
            yield family
        if report is not None:
            yield from _own(report, joules)

    def _labels(self, reading: DeviceReading) -> dict[str, str]:
        of = reading.identity
        device = f"nvidia{of.index if of.minor is None else of.minor}"
        return dict(
            zip(
                _LABELS,
                (str(of.index), of.uuid, of.pci_bus_id, device, of.product, self._hostname),
                strict=True,
            )
        )


def _own(report: ProbeReport, joules: dict[str, float]) -> Iterator[Metric]:
    usable = GaugeMetricFamily(
        "fallow_probe_usable", "1 unless there should be devices and none can be looked at."
    )
    usable.add_metric([], float(report.state != "NotHealthy"))
    yield usable
    healthy = GaugeMetricFamily(
        "fallow_probe_device_healthy", "1 while a device may take work.", labels=["gpu", "UUID"]
    )
    activity = GaugeMetricFamily(
        "fallow_probe_device_activity", "1 for what a device does.", labels=["gpu", "UUID", "activity"]
    )
    for device in report.devices:
        healthy.add_metric([str(device.index), device.uuid], float(device.healthy))
        activity.add_metric([str(device.index), device.uuid, device.activity], 1.0)
        for instance in device.instances:
            activity.add_metric([str(device.index), instance.uuid, instance.activity], 1.0)
    energy = GaugeMetricFamily(
        "fallow_probe_pod_energy_joules", "Energy that a running pod has drawn.", labels=["pod_uid"]
    )
    for pod, drawn in joules.items():
        energy.add_metric([pod], drawn)
    yield from (healthy, activity, energy)
