"""The probe's process on a real API server: real binding, fake hardware, its own token and no other right.

Each test runs `fallow probe` as its DaemonSet's pod would be: with a token that is bound to a pod on its
node, read from a directory as Kubernetes mounts it.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pynvml as nv
import pytest

from devkit.fake_nvml import Hardware, build, compiler, environment
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


@pytest.fixture(scope="session")
def nodes(rig: Rig) -> list[str]:
    return [item["metadata"]["name"] for item in rig.members[MEMBER].client().get("/api/v1/nodes")["items"]]


class Site:
    """One node with its probe's credentials, its hardware and its /proc."""

    def __init__(self, rig: Rig, node: str, directory: Path) -> None:
        self.client = rig.members[MEMBER].client()
        self.node = node
        self.script = directory / "hardware.ini"
        self.proc = directory / "proc"
        self.account = directory / "account"
        self.log = directory / "log"
        self.proc.mkdir()
        (self.proc / "meminfo").write_text("MemTotal:       2113536 kB\n")
        config = json.loads(rig.members[MEMBER].kubeconfig.read_text())["clusters"][0]["cluster"]
        self.server = config["server"]
        self.account.mkdir()
        (self.account / "ca.crt").write_bytes(base64.b64decode(config["certificate-authority-data"]))
        (self.account / "token").write_text(self._token())

    def _token(self) -> str:
        """Have a pod on the node and the token that the kubelet would mount into it."""
        name = f"probe-{uuid.uuid4().hex[:8]}"
        pod = self.client.post(
            "/api/v1/namespaces/fallow-probe/pods",
            {
                "metadata": {"name": name},
                "spec": {
                    "nodeName": self.node,
                    "serviceAccountName": "probe",
                    "containers": [{"name": "probe", "image": "fallow"}],
                },
            },
        )
        reference = {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": pod["metadata"]["uid"]}
        answer = self.client.post(
            "/api/v1/namespaces/fallow-probe/serviceaccounts/probe/token",
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {"expirationSeconds": 3600, "boundObjectRef": reference},
            },
        )
        return str(answer["status"]["token"])

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
    def probing(self, library: Path | None, *flags: str, window_seconds: float = 2) -> Iterator[Running]:
        """Run the probe; its end must be clean."""
        address = self.server.removeprefix("https://").split(":")
        environ = environment(library, self.script)
        environ = {name: value for name, value in environ.items() if not name.startswith("FALLOW_")}
        environ |= {"KUBERNETES_SERVICE_HOST": address[0], "KUBERNETES_SERVICE_PORT": address[1]}
        command = [sys.executable, "-m", "fallow", "probe", f"--node-name={self.node}", "--period-seconds=1"]
        command += [f"--proc={self.proc}", f"--service-account={self.account}"]
        command += [f"--idle.window-seconds={window_seconds}", "--health.period-seconds=1"]
        with self.log.open("ab") as log:
            process = subprocess.Popen([*command, *flags], env=environ, stdout=log, stderr=log)
        try:
            yield Running(self, process)
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(20)
        assert code == 0, self.log.read_text()[-2000:]


class Running:
    """A probe that runs."""

    def __init__(self, site: Site, process: subprocess.Popen[bytes]) -> None:
        self._site = site
        self.process = process

    def url(self) -> str:
        """Wait until its metrics are served and return where."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            for line in reversed(self._site.log.read_text().splitlines()):
                said = json.loads(line) if line.startswith("{") else {}
                if said.get("event") == "metrics served":
                    return str(said["url"])
            assert self.process.poll() is None, self._site.log.read_text()[-2000:]
            time.sleep(0.05)
        raise AssertionError("no metrics are served")

    def ask(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.url() + path, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()


@pytest.fixture
def site(rig: Rig, nodes: list[str], tmp_path: Path) -> Iterator[Site]:
    site = Site(rig, nodes[0], tmp_path)
    yield site
    site.client.merge(f"/api/v1/nodes/{site.node}", {"metadata": {"annotations": {PROBE_ANNOTATION: None}}})


def all_idle(report: ProbeReport) -> bool:
    return bool(report.devices) and all(device.activity == "Idle" for device in report.devices)


def test_probe__eight_idle_h100__node_says_so_once(site: Site, library: Path) -> None:
    Hardware.h100s(8).write(site.script)
    with site.probing(library):
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


@pytest.mark.parametrize("number", [13, 31, 43, 45, 68, 109])
def test_probe__xid_of_the_application__device_stays_healthy(number: int, site: Site, library: Path) -> None:
    hardware = Hardware.h100s(1)
    hardware.xid(0, number)
    hardware.write(site.script)
    with site.probing(library) as running:
        assert site.until("an idle device", all_idle).devices[0].healthy
        assert f"}} {number}.0" in next(
            line
            for line in running.ask("/metrics")[1].splitlines()
            if line.startswith("DCGM_FI_DEV_XID_ERRORS{")
        )


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


def test_probe__no_library__is_a_cpu_node_and_well(site: Site) -> None:
    with site.probing(None) as running:
        report = site.until("a CPU-only node", lambda report: report.state == "CpuOnly")
        assert running.ask("/healthz") == (200, "ok\n")
    assert report.devices == ()
    assert report.cpu_count == os.cpu_count()


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
    host, port = site.server.removeprefix("https://").split(":")
    context = ssl.create_default_context(cafile=site.account / "ca.crt")
    probe = ApiServer(host=host, port=int(port), context=context, token=(site.account / "token").read_text())
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
