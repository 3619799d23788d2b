"""The real NVML binding on a fake library: what the probe reads, scenario by scenario.

Each scenario has a process of its own, because a process loads the library once and for all. It looks
when the test says so, and the test changes the hardware under it in between.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pynvml as nv
import pytest

from devkit.fake_nvml import OLD_DRIVER, Hardware, build, compiler, environment

pytestmark = pytest.mark.skipif(compiler() is None, reason="needs a C compiler for the fake NVML")

LOOKER = """
import dataclasses, json, sys
from fallow.probe.nvml import Nvml
nvml = Nvml()
for line in sys.stdin:
    look = nvml.look(health=line.strip() == "health")
    found = {"kind": type(look).__name__, **dataclasses.asdict(look)}
    print(json.dumps(found, default=lambda x: x.name if hasattr(x, "name") else sorted(x)), flush=True)
"""


class Looker:
    """A process that looks through the real binding."""

    def __init__(self, library: Path | None, script: Path) -> None:
        self._script = script
        self.process = subprocess.Popen(
            [sys.executable, "-c", LOOKER],
            env=environment(library, script),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def look(self, hardware: Hardware | None = None, *, health: bool = True) -> dict[str, Any]:
        """Change the hardware, then look at it."""
        if hardware is not None:
            hardware.write(self._script)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("health\n" if health else "seldom\n")
        self.process.stdin.flush()
        return dict(json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("fake-nvml"))


@pytest.fixture
def looker(tmp_path: Path, library: Path) -> Iterator[Callable[..., Looker]]:
    made: list[Looker] = []

    def make(of: Path | None = library) -> Looker:
        made.append(Looker(of, tmp_path / "hardware.ini"))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_look__eight_h100__each_is_told_in_full(looker: Callable[..., Looker]) -> None:
    look = looker().look(Hardware.h100s(8))
    assert (look["kind"], look["driver"], look["cuda"], look["xids"]) == ("Sample", "580.95.05", "13.0", [])
    assert [each["identity"]["index"] for each in look["devices"]] == list(range(8))
    third = look["devices"][3]
    assert third["identity"] == {
        "index": 3,
        "uuid": "GPU-00000003-0000-4000-8000-000000000003",
        "product": "NVIDIA H100 80GB HBM3",
        "pci_bus_id": "00000000:1B:00.0",
        "minor": 3,
        "memory_mib": 81559,
        "compute_capability": "9.0",
        "pcie_generation": 5,
        "pcie_width": 16,
        "power_limit_watts": 700,
        "nvlink": {"links": 18, "version": 4, "to_switch": 18, "peers": []},
        "fabric": {"state": "Completed", "cluster_uuid": "0123456789abcdef" * 2, "clique": 1},
    }
    assert (third["used_mib"], third["reserved_mib"], third["used_includes_reserved"]) == (4, 550, False)
    assert (third["utilization_percent"], third["processes"]) == (0, [])
    assert (third["energy_millijoules"], third["power_milliwatts"]) == (1_000_000_003, 71_250)
    assert (third["temperature_celsius"], third["memory_temperature_celsius"]) == (31, 37)
    assert third["absent"] == []
    assert set(third["health"].values()) == {0}


def test_look__gpus_linked_to_each_other__peers_are_counted(looker: Callable[..., Looker]) -> None:
    hardware = Hardware.h100s(2)
    for index in (0, 1):
        hardware.gpu(index, links=4, switch=0, peers=f"{1 - index}:4")
    nvlink = looker().look(hardware)["devices"][0]["identity"]["nvlink"]
    assert nvlink == {"links": 4, "version": 4, "to_switch": 0, "peers": [["00000000:19:00.0", 4]]}


def test_look__gpu_falls_off_the_bus__only_it_is_lost_and_keeps_its_name(
    looker: Callable[..., Looker],
) -> None:
    hardware = Hardware.h100s(8)
    eye = looker()
    assert not any(each["lost"] for each in eye.look(hardware)["devices"])
    hardware.gpu(5, lost=1)
    hardware.xid(5, 79)
    for _ in range(25):  # through two new initialisations, which meet the lost device
        look = eye.look(hardware)
        assert [each["identity"]["index"] for each in look["devices"] if each["lost"]] == [5]
        assert look["devices"][5]["identity"]["uuid"] == "GPU-00000005-0000-4000-8000-000000000005"
    hardware.gpu(5, lost=0)  # reset
    assert not [eye.look(hardware) for _ in range(10)][-1]["devices"][5]["lost"]


def test_look__lost_before_the_start__has_no_name_and_gets_one_after_a_reset(
    looker: Callable[..., Looker],
) -> None:
    hardware = Hardware.h100s(2)
    hardware.gpu(1, lost=1)
    eye = looker()
    first = eye.look(hardware)["devices"][1]
    assert (first["lost"], first["identity"]["uuid"]) == ("GPU is lost", "")
    hardware.gpu(1, lost=0)
    looks = [eye.look(hardware)["devices"][1] for _ in range(10)]
    assert looks[-1]["lost"] == ""
    assert looks[-1]["identity"]["uuid"] == "GPU-00000001-0000-4000-8000-000000000001"


def test_look__xids__each_is_told_once_with_its_device(looker: Callable[..., Looker]) -> None:
    hardware = Hardware.h100s(4)
    eye = looker()
    eye.look(hardware)
    hardware.xid(2, 79)
    hardware.xid(0, 13)
    xids = eye.look(hardware, health=False)["xids"]
    assert [(xid["key"][:12], xid["number"]) for xid in xids] == [("GPU-00000002", 79), ("GPU-00000000", 13)]
    assert eye.look(health=False)["xids"] == []


def test_look__xid_between_looks_at_health__counters_are_read_at_once(
    looker: Callable[..., Looker],
) -> None:
    hardware = Hardware.h100s(1)
    eye = looker()
    eye.look(hardware)
    hardware.gpu(0, ecc=3)
    assert eye.look(hardware, health=False)["devices"][0]["health"]["ecc_uncorrected"] == 0
    hardware.xid(0, 48)
    assert eye.look(hardware, health=False)["devices"][0]["health"]["ecc_uncorrected"] == 3


def test_look__mig__instances_have_processes_and_memory_of_their_own(
    looker: Callable[..., Looker],
) -> None:
    hardware = Hardware.h100s(2)
    hardware.mig(0, 0, uuid="MIG-a", profile="3g.40gb", total=40_448, used=38, reserved=0, gi=2)
    hardware.mig(0, 2, uuid="MIG-b", profile="1g.10gb", total=9984, used=2000, gi=9, processes="4242:1986")
    first, second = looker().look(hardware)["devices"]
    assert (first["mig"], first["utilization_percent"], second["mig"]) == (True, None, False)
    assert [(i["uuid"], i["profile"], i["gpu_instance"]) for i in first["instances"]] == [
        ("MIG-a", "3g.40gb", 2),
        ("MIG-b", "1g.10gb", 9),
    ]
    assert [i["processes"] for i in first["instances"]] == [[], [{"pid": 4242, "memory_mib": 1986}]]
    assert [i["used_mib"] for i in first["instances"]] == [38, 2000]


def test_look__driver_without_functions__those_figures_are_absent_and_the_rest_is_there(
    looker: Callable[..., Looker], tmp_path: Path
) -> None:
    old = build(tmp_path / "old", without=OLD_DRIVER)
    hardware = Hardware.h100s(1, driver="450.80.02", cuda=11000)
    hardware.gpu(0, processes="77:300")
    device = looker(old).look(hardware)["devices"][0]
    assert (device["used_mib"], device["reserved_mib"], device["used_includes_reserved"]) == (554, None, True)
    assert device["energy_millijoules"] is None
    assert device["identity"]["fabric"] is None
    assert device["processes"] == [{"pid": 77, "memory_mib": 300}]
    assert device["utilization_percent"] == 0
    assert device["health"]["remap_failure"] is None
    assert (device["lost"], device["unreadable"]) == ("", False)


def test_look__no_library__a_node_without_devices(looker: Callable[..., Looker]) -> None:
    look = looker(None).look(Hardware.h100s(8))
    assert (look["kind"], look["consequence"]) == ("Unusable", "CPU_ONLY")


@pytest.mark.parametrize(
    ("code", "want"),
    [
        (nv.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "RESTART"),
        (nv.NVML_ERROR_UNKNOWN, "RESTART"),
        (nv.NVML_ERROR_DRIVER_NOT_LOADED, "WAIT"),
    ],
)
def test_look__nvml_does_not_start__says_what_to_do_and_tries_again(
    code: int, want: str, looker: Callable[..., Looker]
) -> None:
    hardware = Hardware.h100s(1)
    hardware.system(init=code)
    eye = looker()
    look = eye.look(hardware)
    assert (look["kind"], look["consequence"]) == ("Unusable", want)
    hardware.system(init=0)
    assert eye.look(hardware)["kind"] == "Sample"


def test_look__driver_updated_in_mid_run__restart(looker: Callable[..., Looker]) -> None:
    hardware = Hardware.h100s(2)
    eye = looker()
    eye.look(hardware)
    hardware.fails("nvmlDeviceGetPowerUsage", nv.NVML_ERROR_LIB_RM_VERSION_MISMATCH)
    look = eye.look(hardware)
    assert (look["kind"], look["consequence"]) == ("Unusable", "RESTART")


def test_look__unknown_error_of_all_devices__restart_and_of_one__only_that_one(
    looker: Callable[..., Looker],
) -> None:
    hardware = Hardware.h100s(2)
    eye = looker()
    for function in ("nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMemoryInfo_v2"):
        hardware.fails(function, nv.NVML_ERROR_UNKNOWN, gpu=1)
    devices = eye.look(hardware)["devices"]
    assert [each["unreadable"] for each in devices] == [False, True]
    for function in ("nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMemoryInfo_v2"):
        hardware.fails(function, nv.NVML_ERROR_UNKNOWN, gpu=0)
    assert eye.look(hardware)["consequence"] == "RESTART"


QUERIES = [
    "nvmlSystemGetDriverVersion",
    "nvmlSystemGetCudaDriverVersion_v2",
    "nvmlDeviceGetName",
    "nvmlDeviceGetMinorNumber",
    "nvmlDeviceGetPciInfo_v3",
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetUtilizationRates",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetEnforcedPowerLimit",
    "nvmlDeviceGetTotalEnergyConsumption",
    "nvmlDeviceGetMaxPcieLinkGeneration",
    "nvmlDeviceGetTemperature",
    "nvmlDeviceGetCudaComputeCapability",
    "nvmlDeviceGetTotalEccErrors",
    "nvmlDeviceGetRemappedRows",
    "nvmlDeviceGetFieldValues",
    "nvmlDeviceGetNvLinkState",
    "nvmlDeviceGetNvLinkVersion",
    "nvmlDeviceGetGpuFabricInfoV",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetMigMode",
    "nvmlEventSetCreate",
    "nvmlDeviceRegisterEvents",
    "nvmlEventSetWait_v2",
]


@pytest.mark.parametrize("code", [nv.NVML_ERROR_NOT_SUPPORTED, nv.NVML_ERROR_UNKNOWN, 4711])
def test_look__any_one_query_fails__no_device_is_lost(code: int, looker: Callable[..., Looker]) -> None:
    eye = looker()
    for query in QUERIES:
        eye.look(Hardware.h100s(1))  # another number of devices: all is asked anew
        hardware = Hardware.h100s(2)
        hardware.fails(query, code)
        look = eye.look(hardware)
        assert look["kind"] == "Sample", query
        assert [(each["lost"], each["unreadable"]) for each in look["devices"]] == [("", False)] * 2, query
        assert look["devices"][0]["identity"]["uuid"].startswith("GPU-"), query


def test_look__gpu_busy_from_the_host__process_and_memory_are_seen(looker: Callable[..., Looker]) -> None:
    hardware = Hardware.h100s(1)
    eye = looker()
    eye.look(hardware)
    hardware.gpu(0, util=87, used=40_000, processes="1234:39000,1234:500,99:12")
    device = eye.look(hardware, health=False)["devices"][0]
    assert device["utilization_percent"] == 87
    assert device["processes"] == [{"pid": 99, "memory_mib": 12}, {"pid": 1234, "memory_mib": 39_500}]
