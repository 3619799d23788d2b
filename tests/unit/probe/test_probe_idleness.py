"""Idleness: quiet for the whole window, as far as can be known, and nobody from the host."""

from __future__ import annotations

from typing import Any

import pytest

from fallow.probe.consequences import AtStart
from fallow.probe.nvml import Unusable
from unit.probe.probe_readings import OTHER_POD, POD, START, Watched, a_device, an_instance, processes


def activities(watched: Watched, *seconds: float, **figures: Any) -> list[str]:
    return [watched.at(second, a_device(**figures)).devices[0].activity for second in seconds]


def test_device__quiet_for_the_window__is_idle_since_its_start() -> None:
    watched = Watched(idle_window_seconds=20)
    assert activities(watched, 0, 5, 10, 15) == ["Settling"] * 4
    device = watched.at(20, a_device()).devices[0]
    assert (device.activity, device.idle_since) == ("Idle", "2026-01-05T12:00:01Z")
    assert watched.at(25, a_device()).devices[0].idle_since == device.idle_since


@pytest.mark.parametrize(
    ("figures", "want"),
    [
        ({"utilization_percent": 1}, "Busy"),
        ({"used_mib": 129}, "Busy"),
        ({"processes": processes(7)}, "Busy"),
        ({"used_mib": 128}, "Idle"),
        ({"utilization_percent": None}, "Idle"),
        ({"processes": None}, "Unknown"),
        ({"used_mib": None}, "Unknown"),
        ({"processes": None, "utilization_percent": 3}, "Busy"),
        ({"lost": "GPU is lost"}, "Unknown"),
        ({"unreadable": True}, "Unknown"),
        ({"used_mib": 1700, "used_includes_reserved": True}, "Idle"),
        ({"used_mib": 1800, "used_includes_reserved": True}, "Busy"),
    ],
    ids=str,
)
def test_device__after_a_window__is(figures: dict[str, Any], want: str) -> None:
    watched = Watched({7: POD}, idle_window_seconds=10)
    assert activities(watched, 0, 5, 10, **figures)[-1] == want


def test_device__one_loud_sample__the_window_starts_anew() -> None:
    watched = Watched(idle_window_seconds=20)
    activities(watched, 0, 5, 10, 15, 20)
    assert activities(watched, 25, utilization_percent=2) == ["Busy"]
    assert activities(watched, 30, 35, 40, 45, 50) == ["Settling"] * 4 + ["Idle"]


def test_device__nobody_looked_for_a_while__the_window_starts_anew() -> None:
    watched = Watched(idle_window_seconds=20, gap_seconds=15)
    assert activities(watched, 0, 15, 30)[-1] == "Idle"
    assert activities(watched, 46) == ["Settling"]


def test_device__process_without_a_pod__is_withheld_though_pods_use_it_too() -> None:
    watched = Watched({7: POD})
    device = watched.at(0, a_device(processes=processes(7, 8))).devices[0]
    assert (device.activity, device.pods) == ("HostUse", (POD,))


def test_device__process_that_is_gone_already__is_busy_only() -> None:
    device = Watched({7: None}).at(0, a_device(processes=processes(7))).devices[0]
    assert (device.activity, device.pods) == ("Busy", ())


def test_mig__instances__are_judged_alone_and_the_gpu_by_all() -> None:
    watched = Watched({7: POD, 8: OTHER_POD}, idle_window_seconds=10)

    def look(second: float, *pids: int) -> Any:
        instances = (an_instance("MIG-a"), an_instance("MIG-b", *pids))
        reading = a_device(mig=True, utilization_percent=None, processes=None, instances=instances)
        return watched.at(second, reading).devices[0]

    look(0, 7)
    device = look(10, 7, 8)
    assert [instance.activity for instance in device.instances] == ["Idle", "Busy"]
    assert device.instances[1].pods == device.pods == (POD, OTHER_POD)
    assert device.activity == "Busy"
    look(20)
    assert (look(30).activity, look(30).instances[1].activity) == ("Idle", "Idle")


def test_mig__memory_of_an_instance_taken__that_one_is_busy() -> None:
    watched = Watched(idle_window_seconds=10)
    reading = a_device(
        mig=True,
        utilization_percent=None,
        instances=(an_instance("MIG-a", used_mib=5000), an_instance("MIG-b")),
    )
    watched.at(0, reading)
    device = watched.at(10, reading).devices[0]
    assert [instance.activity for instance in device.instances] == ["Busy", "Idle"]


def test_mig__process_of_the_host_on_one_instance__the_gpu_says_so() -> None:
    reading = a_device(mig=True, processes=None, instances=(an_instance("MIG-a"), an_instance("MIG-b", 9)))
    device = Watched().at(0, reading).devices[0]
    assert [instance.activity for instance in device.instances] == ["Settling", "HostUse"]
    assert device.activity == "HostUse"


@pytest.mark.parametrize(
    ("consequence", "want"),
    [(AtStart.CPU_ONLY, "CpuOnly"), (AtStart.WAIT, "NotHealthy"), (AtStart.RESTART, "NotHealthy")],
)
def test_report__nothing_to_look_at__says_why(consequence: AtStart, want: str) -> None:
    look = Unusable(consequence, "Why.")
    report = Watched().judge.report(look, now=0.0, time=START)
    assert (report.state, report.message, report.cpu_count, report.devices) == (want, "Why.", 96, ())
