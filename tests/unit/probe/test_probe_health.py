"""Health: what counts against a device, what does not, and when it is forgiven."""

from __future__ import annotations

import pytest

from fallow.probe.health import HealthBook, faults_of
from fallow.probe.readings import DeviceReading, HealthFigures, Xid
from fallow.resources.probe_report import Fault
from unit.probe.probe_readings import Watched, a_device


def figures(**values: int | bool) -> DeviceReading:
    return a_device(health=HealthFigures(**values))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reading", "want"),
    [
        (a_device(), []),
        (figures(ecc_uncorrected=0, remap_failure=False, recovery_action=0), []),
        (figures(ecc_uncorrected=1), ["UncorrectableEcc"]),
        (figures(remap_failure=True), ["RowRemapFailure"]),
        (figures(remap_pending=True, remapped_uncorrectable=3), []),
        (figures(recovery_action=1), ["RecoveryAction"]),
        (figures(recovery_action=99), ["RecoveryAction"]),
        (a_device(lost="GPU is lost"), ["Lost"]),
        (a_device(unreadable=True), ["Unreadable"]),
        (figures(ecc_uncorrected=1, remap_failure=True), ["UncorrectableEcc", "RowRemapFailure"]),
    ],
    ids=[
        "nothing known",
        "all well",
        "an uncorrectable error",
        "remap failed",
        "remap pending only",
        "reset wanted",
        "an action of a newer driver",
        "lost",
        "silent",
        "two at once",
    ],
)
def test_faults__of_figures__are(reading: DeviceReading, want: list[str]) -> None:
    assert [fault.reason for fault in faults_of(reading, ())] == want


@pytest.mark.parametrize("number", [13, 31, 43, 45, 68, 109])
def test_faults__xid_of_the_application__none(number: int) -> None:
    assert faults_of(a_device(), [Xid(key="GPU-0", number=number)]) == ()


@pytest.mark.parametrize("number", [48, 62, 64, 74, 79, 94, 95, 119, 4711])
def test_faults__any_other_xid__names_it(number: int) -> None:
    (fault,) = faults_of(a_device(), [Xid(key="GPU-0", number=number)])
    assert fault.message.startswith(f"XID {number}")


def test_faults__xid_of_another_device__none() -> None:
    assert faults_of(a_device(0), [Xid(key="GPU-1", number=79)]) == ()


def test_faults__xid_of_who_knows_which_device__counts_against_each() -> None:
    assert [fault.reason for fault in faults_of(a_device(0), [Xid(key="", number=79)])] == ["Xid"]


def test_health__one_event__sick_until_the_set_time_without_another_has_passed() -> None:
    watched = Watched(recovery_seconds=600)
    assert watched.at(0, a_device()).devices[0].healthy
    event = (Xid(key="GPU-0", number=79),)
    sick = watched.at(5, a_device(), xids=event).devices[0]
    assert (sick.healthy, [f.message for f in sick.faults]) == (False, ["XID 79: GPU has fallen off the bus"])
    assert not watched.at(500, a_device(), xids=event).devices[0].healthy
    assert not watched.at(1099, a_device()).devices[0].healthy
    well = watched.at(1100, a_device()).devices[0]
    assert (well.healthy, well.faults) == (True, ())


def test_health__lasting_fault__the_time_counts_from_its_end() -> None:
    watched = Watched(recovery_seconds=100)
    for second in range(0, 1000, 10):
        assert not watched.at(second, a_device(lost="GPU is lost")).devices[0].healthy
    assert not watched.at(1089, a_device()).devices[0].healthy
    assert watched.at(1090, a_device()).devices[0].healthy


def test_health__one_device_sick__the_others_are_not() -> None:
    report = Watched().at(0, a_device(0), a_device(1, lost="GPU is lost"), a_device(2))
    assert [device.healthy for device in report.devices] == [True, False, True]


def test_health__new_process_after_a_sick_report__waits_the_whole_time_again() -> None:
    told = Watched().at(0, a_device(0, lost="GPU is lost"), a_device(1))
    fresh = Watched(recovery_seconds=600)
    fresh.judge.resume(told, now=1000)
    report = fresh.at(5, a_device(0), a_device(1))
    assert [device.healthy for device in report.devices] == [False, True]
    assert report.devices[0].faults == told.devices[0].faults
    assert fresh.at(600, a_device(0)).devices[0].healthy


def test_health__ever_new_faults__the_last_eight_are_kept() -> None:
    book = HealthBook(recovery_seconds=600)
    for number in range(200, 300):
        health = book.judge("GPU-0", [Fault(reason="Xid", message=f"XID {number}")], now=float(number))
    assert [fault.message for fault in health.faults] == [f"XID {number}" for number in range(292, 300)]


def test_health__same_faults_in_any_order__the_report_says_the_same() -> None:
    one, other = Watched(), Watched()
    a, b = Xid(key="GPU-0", number=79), Xid(key="GPU-0", number=48)
    assert one.at(0, a_device(), xids=(a, b)) == other.at(0, a_device(), xids=(b, a))
