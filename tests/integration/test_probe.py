"""The probe's process on a real API server: real binding, fake hardware, its own token and no other right.

Each test runs `fallow probe` as its DaemonSet would: see `devkit.fake_nvml.daemon`.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pynvml as nv
import pytest

from devkit.fake_nvml import Hardware, build, compiler
from devkit.fake_nvml.daemon import Daemon, Running
from devkit.rig import Rig
from devkit.rig.api import ApiError, ApiServer
from fallow.resources.probe_report import PROBE_ANNOTATION, ProbedDevice, ProbeReport

pytestmark = pytest.mark.skipif(compiler() is None, reason="needs a C compiler for the fake NVML")
MEMBER = "aurora"
SECONDS = 30.0
POD = "0a1b2c3d-1111-4222-8333-444455556666"


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("fake-nvml"))


@pytest.fixture(scope="module")
def nodes(rig: Rig) -> list[str]:
    return [item["metadata"]["name"] for item in rig.members[MEMBER].client().get("/api/v1/nodes")["items"]]


class Site(Daemon):
    """One node with its probe, its hardware and a /proc of its own."""

    def __init__(self, rig: Rig, node: str, directory: Path) -> None:
        super().__init__(rig.members[MEMBER].kubeconfig, node, directory)
        self.proc = directory / "proc"
        self.proc.mkdir()
        (self.proc / "meminfo").write_text("MemTotal:       2113536 kB\n")

    def has_process(self, pid: int, cgroup: str) -> None:
        """Let a process be there, in a control group."""
        (self.proc / str(pid)).mkdir()
        (self.proc / str(pid) / "cgroup").write_text(f"0::{cgroup}\n")

    def annotation(self) -> str | None:
        found = self.client.get(f"/api/v1/nodes/{self.node}")["metadata"].get("annotations", {})
        text = found.get(PROBE_ANNOTATION)
        return None if text is None else str(text)

    def until(self, what: str, done: Callable[[ProbeReport], bool]) -> ProbeReport:
        """Wait for a report of which `done` holds, and return it."""
        seen: list[ProbeReport] = []

        def there() -> bool:
            text = self.annotation()
            seen[:] = [ProbeReport.decode(text)] if text else []
            return bool(seen) and done(seen[0])

        self.client.until(what, there, seconds=SECONDS)
        return seen[0]

    @contextmanager
    def probing(self, library: Path | None, *flags: str) -> Iterator[Running]:
        """Run the probe, with everything in seconds that is minutes otherwise; its end must be clean."""
        quick = ("--period-seconds=1", "--idle.window-seconds=2", "--health.period-seconds=1")
        running = self.start(library, f"--proc={self.proc}", *quick, *flags)
        try:
            yield running
        finally:
            code = running.stop()
        assert code == 0, running.said()


@pytest.fixture
def site(rig: Rig, nodes: list[str], tmp_path: Path) -> Iterator[Site]:
    site = Site(rig, nodes[0], tmp_path)
    yield site
    site.client.merge(f"/api/v1/nodes/{site.node}", {"metadata": {"annotations": {PROBE_ANNOTATION: None}}})


def all_idle(report: ProbeReport) -> bool:
    return bool(report.devices) and all(device.activity == "Idle" for device in report.devices)


def test_probe__eight_idle_h100__node_says_so_once(site: Site, library: Path) -> None:
    Hardware.h100s(8).write(site.script)
    with site.probing(library) as running:
        report = site.until("eight idle devices", all_idle)
        assert (report.state, report.driver, report.cuda) == ("Ready", "580.95.05", "13.0")
        assert (len(report.devices), report.memory_mib) == (8, 2064)
        first = report.devices[0]
        assert (first.product, first.memory_mib) == ("NVIDIA H100 80GB HBM3", 81559)
        assert first.idle_since is not None
        text = site.annotation()
        assert text is not None
        assert len(text) < 8_000
        # Nothing happens, so nothing is written, though it looks every second.
        version = site.client.get(f"/api/v1/nodes/{site.node}")["metadata"]["managedFields"]
        mine = [entry["time"] for entry in version if "fallow" in entry["manager"]]
        time.sleep(3)
        version = site.client.get(f"/api/v1/nodes/{site.node}")["metadata"]["managedFields"]
        assert [entry["time"] for entry in version if "fallow" in entry["manager"]] == mine != []
        assert site.annotation() == text
        status = Path(f"/proc/{running.process.pid}/status").read_text().splitlines()
        (peak_kib,) = (int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
        assert peak_kib * 1024 <= 60_000_000


def test_probe__gpu_falls_off_the_bus__is_unhealthy_and_comes_back_after_the_set_time(
    site: Site, library: Path
) -> None:
    hardware = Hardware.h100s(2)
    hardware.write(site.script)
    with site.probing(library, "--health.recovery-seconds=4"):
        site.until("two healthy devices", lambda report: [d.healthy for d in report.devices] == [True] * 2)
        hardware.gpu(1, lost=1)
        hardware.xid(1, 79)
        hardware.write(site.script)
        report = site.until("a lost device", lambda report: not report.devices[-1].healthy)
        assert report.devices[0].healthy
        want = {"Lost", "Xid"}
        report = site.until("both faults", lambda r: {f.reason for f in r.devices[1].faults} == want)
        assert "XID 79: GPU has fallen off the bus" in {f.message for f in report.devices[1].faults}
        hardware.gpu(1, lost=0)
        hardware.write(site.script)
        reset_at = time.monotonic()
        site.until("a device that came back", lambda report: report.devices[1].healthy)
        assert time.monotonic() - reset_at > 3


def test_probe__restarted_while_a_device_is_sick__does_not_forget(site: Site, library: Path) -> None:
    hardware = Hardware.h100s(1)
    hardware.write(site.script)
    with site.probing(library):
        site.until("a healthy device", lambda report: report.devices[0].healthy)
        hardware.xid(0, 48)
        hardware.write(site.script)
        site.until("a sick device", lambda report: not report.devices[0].healthy)
    Hardware.h100s(1).write(site.script)
    with site.probing(library):
        report = site.until("a new process's report", all_idle)
    assert [fault.message for fault in report.devices[0].faults] == ["XID 48: double-bit ECC error"]


def test_probe__xids_of_the_application__devices_stay_healthy(site: Site, library: Path) -> None:
    numbers = (13, 31, 43, 45, 68, 109)
    hardware = Hardware.h100s(len(numbers))
    for index, number in enumerate(numbers):
        hardware.xid(index, number)
    hardware.write(site.script)
    with site.probing(library) as running:
        report = site.until("idle devices", all_idle)
        assert all(device.healthy for device in report.devices)
        lines = running.ask("/metrics")[1].splitlines()
    last = [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("DCGM_FI_DEV_XID_ERRORS{")]
    assert last == list(numbers)


def test_probe__process_of_a_pod_and_one_of_the_host__are_told_apart(site: Site, library: Path) -> None:
    hardware = Hardware.h100s(3)
    hardware.gpu(0, util=50, used=20_000, processes="100:19000")
    hardware.gpu(1, used=20_000, processes="200:19000")
    hardware.write(site.script)
    slice_of = POD.replace("-", "_")
    site.has_process(
        100, f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{slice_of}.slice/cri-x.scope"
    )
    site.has_process(200, "/user.slice/user-1000.slice/session-3.scope")

    def judged(report: ProbeReport) -> bool:
        return [device.activity for device in report.devices] == ["Busy", "HostUse", "Idle"]

    with site.probing(library):
        report = site.until("three uses", judged)
        assert [device.pods for device in report.devices] == [(POD,), (), ()]
        # The host's user goes home: the window starts anew, then the device is idle.
        hardware.gpu(1, used=4, processes="")
        hardware.write(site.script)
        site.until("no host use", lambda report: report.devices[1].activity == "Idle")


def test_probe__pod_ends__its_energy_is_told(site: Site, library: Path) -> None:
    hardware = Hardware.h100s(1)
    hardware.gpu(0, util=99, used=20_000, processes="100:19000", energy=1_000_000)
    hardware.write(site.script)
    site.has_process(100, f"/kubepods/burstable/pod{POD}/4c5d")
    with site.probing(library) as running:
        site.until("a busy device", lambda report: report.devices[0].pods == (POD,))
        hardware.gpu(0, energy=1_750_000)
        hardware.write(site.script)
        wanted = f'fallow_probe_pod_energy_joules{{pod_uid="{POD}"}} 750.0'
        site.client.until("the energy so far", lambda: wanted in running.ask("/metrics")[1], seconds=SECONDS)
        hardware.gpu(0, util=0, used=4, processes="", energy=1_760_000)
        hardware.write(site.script)
        report = site.until("an ended pod", lambda report: bool(report.energy))
    assert [(each.pod, each.joules) for each in report.energy] == [(POD, 760)]


def test_probe__mig__instances_are_judged_one_by_one(site: Site, library: Path) -> None:
    hardware = Hardware.h100s(1)
    hardware.mig(0, 0, uuid="MIG-a", profile="3g.40gb", total=40_448, used=38, gi=1)
    hardware.mig(0, 1, uuid="MIG-b", profile="3g.40gb", total=40_448, used=9000, gi=2, processes="100:8000")
    site.has_process(100, f"/kubepods/pod{POD}/4c5d")
    hardware.write(site.script)

    def judged(report: ProbeReport) -> bool:
        return [i.activity for i in report.devices[0].instances] == ["Idle", "Busy"]

    with site.probing(library):
        device = site.until("an idle and a busy instance", judged).devices[0]
    assert isinstance(device, ProbedDevice)
    assert (device.mig, device.activity, device.pods) == (True, "Busy", (POD,))
    assert [instance.profile for instance in device.instances] == ["3g.40gb", "3g.40gb"]


def test_probe__driver_holds_a_look__metrics_are_answered_all_the_same(site: Site, library: Path) -> None:
    hardware = Hardware.h100s(1)
    hardware.write(site.script)
    with site.probing(library) as running:
        site.until("a device", lambda report: len(report.devices) == 1)
        looks = looks_counted(running)
        hardware.system(hang=4000)
        hardware.write(site.script)
        # At the latest after one look that was under way, none comes back for four seconds.
        site.client.until("a held look", lambda: held(running), seconds=SECONDS)
        assert looks_counted(running) >= looks
        hardware.system(hang=0)
        hardware.write(site.script)
        later = looks_counted(running)
        site.client.until("looks go on", lambda: looks_counted(running) > later + 1, seconds=SECONDS)


def looks_counted(running: Running) -> float:
    lines = running.ask("/metrics")[1].splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("fallow_probe_looks_total"))


def held(running: Running) -> bool:
    """Whether no look came back for longer than the period, while the metrics were answered."""
    before = looks_counted(running)
    time.sleep(2.5)
    return looks_counted(running) == before


def test_probe__no_library__is_a_cpu_node_and_well(site: Site) -> None:
    with site.probing(None) as running:
        report = site.until("a CPU-only node", lambda report: report.state == "CpuOnly")
        assert running.ask("/healthz") == (200, "ok\n")
    assert report.devices == ()
    assert report.cpu_count == os.cpu_count()


def test_probe__no_library_but_the_driver_is_loaded__not_healthy(site: Site) -> None:
    (site.proc / "driver" / "nvidia").mkdir(parents=True)
    (site.proc / "driver" / "nvidia" / "version").write_text("NVRM version: NVIDIA UNIX x86_64\n")
    with site.probing(None) as running:
        report = site.until("an unhealthy node", lambda report: report.state == "NotHealthy")
        assert "container runtime" in report.message
        assert running.ask("/healthz")[0] == 503


def test_probe__driver_and_library_mismatch__not_healthy_and_asks_for_a_restart(
    site: Site, library: Path
) -> None:
    hardware = Hardware.h100s(8)
    hardware.system(init=nv.NVML_ERROR_LIB_RM_VERSION_MISMATCH)
    hardware.write(site.script)
    with site.probing(library) as running:
        report = site.until("an unhealthy node", lambda report: report.state == "NotHealthy")
        assert "restart" in report.message
        code, words = running.ask("/healthz")
        assert (code, "restart" in words) == (503, True)
        hardware.system(init=0)
        hardware.write(site.script)
        site.until("a healthy node", all_idle)
        assert running.ask("/healthz")[0] == 200


def test_probe__scraped__says_what_dcgm_would(site: Site, library: Path) -> None:
    hardware = Hardware.h100s(2)
    hardware.gpu(1, util=63, memutil=21, used=1000, temp=55)
    hardware.write(site.script)
    with site.probing(library) as running:
        site.until("a report", lambda report: len(report.devices) == 2)
        text = running.ask("/metrics")[1]
    labels = (
        f'{{Hostname="{site.node}",UUID="GPU-00000001-0000-4000-8000-000000000001",device="nvidia1",'
        'gpu="1",modelName="NVIDIA H100 80GB HBM3",pci_bus_id="00000000:19:00.0"}'
    )
    for wanted in (
        f"DCGM_FI_DEV_GPU_UTIL{labels} 63.0",
        f"DCGM_FI_DEV_MEM_COPY_UTIL{labels} 21.0",
        f"DCGM_FI_DEV_FB_USED{labels} 1000.0",
        f"DCGM_FI_DEV_FB_FREE{labels} 80009.0",
        f"DCGM_FI_DEV_GPU_TEMP{labels} 55.0",
        f"DCGM_FI_DEV_MEMORY_TEMP{labels} 37.0",
        f"DCGM_FI_DEV_POWER_USAGE{labels} 71.25",
        f"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{labels} 1.000000001e+09",
        f"DCGM_FI_DEV_XID_ERRORS{labels} 0.0",
    ):
        assert wanted in text


def refused(client: ApiServer, path: str, patch: dict[str, Any]) -> str:
    with pytest.raises(ApiError) as caught:
        client.merge(path, patch)
    assert caught.value.status in (403, 422)
    return str(caught.value)


def test_access__probes_token__changes_its_own_nodes_annotation_and_nothing_else(
    site: Site, nodes: list[str]
) -> None:
    context = ssl.create_default_context(cafile=site.account / "ca.crt")
    probe = ApiServer(
        host=site.host, port=int(site.port), context=context, token=(site.account / "token").read_text()
    )
    own, other = f"/api/v1/nodes/{site.node}", f"/api/v1/nodes/{nodes[1]}"
    ours = {"metadata": {"annotations": {PROBE_ANNOTATION: '{"version":1,"state":"CpuOnly"}'}}}
    probe.merge(own, ours)
    assert "own node only" in refused(probe, other, ours)
    for patch in (
        {"metadata": {"annotations": {"fallow.dev/other": "x"}}},
        {"metadata": {"annotations": {"kwok.x-k8s.io/node": None}}},
        {"metadata": {"labels": {"pool": "idle"}}},
        {"spec": {"unschedulable": True}},
    ):
        assert "nothing but the annotation" in refused(probe, own, patch)
    refused(probe, f"{own}/status", {"status": {"capacity": {"nvidia.com/gpu": "64"}}})
    with pytest.raises(ApiError) as caught:
        probe.get("/api/v1/nodes")
    assert caught.value.status == 403
