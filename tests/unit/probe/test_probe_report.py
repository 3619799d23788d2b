"""The report: small, the same for the same facts, and refused when it is of another version."""

from __future__ import annotations

import json

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import ValidationError

from fallow.probe.metrics import ProbeMetrics
from fallow.probe.readings import HealthFigures, Identity, NvLink, Sample, Xid
from fallow.resources.probe_report import ProbeReport
from unit.probe.probe_readings import POD, Watched, a_device, an_instance, processes


def test_report__there_and_back__is_the_same() -> None:
    watched = Watched({7: POD}, idle_window_seconds=5)
    readings = (a_device(0), a_device(1, processes=processes(7)), a_device(2, lost="GPU is lost"))
    watched.at(0, *readings)
    report = watched.at(5, *readings)
    text = report.encode()
    assert ProbeReport.decode(text) == report
    assert ProbeReport.decode(text).encode() == text


def test_report__figures_change_but_nothing_else__the_text_stays() -> None:
    watched = Watched({7: POD}, idle_window_seconds=60)
    texts = {
        watched.at(
            second,
            a_device(
                utilization_percent=second,
                used_mib=1000 + second,
                power_milliwatts=1000 * second,
                energy_millijoules=10**6 * second,
                temperature_celsius=second,
                processes=processes(7),
            ),
        ).encode()
        for second in range(0, 100, 5)
    }
    assert len(texts) == 1


def test_report__largest_node__stays_far_below_what_a_node_may_carry() -> None:
    # 16 GPUs of 7 instances, everything wrong at once: annotations together may have 256 KiB.
    peers = tuple((f"00000000:{bus:02X}:00.0", 2) for bus in range(16))
    link = NvLink(links=32, version=5, to_switch=0, peers=peers)
    readings = []
    for index in range(16):
        instances = tuple(
            an_instance(f"MIG-{index}-{each}-0000-4000-8000-000000000000", 7) for each in range(7)
        )
        reading = a_device(index, mig=True, instances=instances, health=HealthFigures(ecc_uncorrected=1))
        identity = Identity(
            index=index, uuid=f"GPU-{index:036}", nvlink=link, product="NVIDIA H100 80GB HBM3"
        )
        readings.append(
            type(reading)(identity=identity, mig=True, instances=instances, health=reading.health)
        )
    text = Watched({7: POD}).at(0, *readings).encode()
    assert len(text) < 64 * 1024


def test_report__node_without_devices__is_a_line() -> None:
    assert len(ProbeReport(state="CpuOnly", cpu_count=64, memory_mib=512_000).encode()) < 100


def test_decode__field_of_a_newer_probe__is_ignored_and_a_newer_version_is_refused() -> None:
    said = {"version": 1, "state": "Ready", "devices": [{"index": 0, "shine": "bright"}]}
    assert ProbeReport.decode(json.dumps(said)).devices[0].healthy
    with pytest.raises(ValidationError):
        ProbeReport.decode(json.dumps({**said, "version": 2}))


def test_metrics__figure_is_absent__so_is_its_series() -> None:
    watched, registry = Watched(), CollectorRegistry()
    metrics = ProbeMetrics(registry, hostname="n1")
    readings = (
        a_device(0, temperature_celsius=40),
        a_device(1, lost="GPU is lost", utilization_percent=None),
    )
    sample = Sample(devices=readings, xids=(Xid(key="GPU-1", number=79),))
    metrics.tell(sample, watched.at(0, *readings), joules={POD: 1.5})
    lines = generate_latest(registry).decode().splitlines()

    def series(name: str) -> dict[str, float]:
        found = [line for line in lines if line.startswith(name + "{")]
        return {line.split('UUID="')[1].split('"')[0]: float(line.rsplit(" ", 1)[1]) for line in found}

    assert series("DCGM_FI_DEV_GPU_TEMP") == {"GPU-0": 40}
    assert series("DCGM_FI_DEV_GPU_UTIL") == {"GPU-0": 0}
    assert series("DCGM_FI_DEV_POWER_USAGE") == {}
    assert series("DCGM_FI_DEV_XID_ERRORS") == {"GPU-0": 0, "GPU-1": 79}
    assert series("fallow_probe_device_healthy") == {"GPU-0": 1, "GPU-1": 0}
    assert f'fallow_probe_pod_energy_joules{{pod_uid="{POD}"}} 1.5' in lines
