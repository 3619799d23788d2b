"""Brings up a real node on a plane: its namespaces, containerd, kubelet, kube-proxy, policies, DNS.

All of it is below DIR/nodes/PLANE, in the control groups fallow-<rig>-PLANE and in the namespaces of the
process PLANE.node; `sweep` removes what a kernel keeps after the processes are gone.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import yaml

from devkit.errors import RigError
from devkit.fake_nvml import Hardware
from devkit.rig.addresses import API_PORT, LOOPBACK, METADATA, NODE, OUTSIDE
from devkit.rig.api import Json
from devkit.rig.certificates import write_private
from devkit.rig.manifests import ROOT, Manifests, parse
from devkit.rig.planes import Plane, plain_environment
from devkit.rig.processes import Processes
from devkit.rig.real import cgroups, configs, images, machine, nvidia
from devkit.rig.real.python_image import write_python_image

READY_SECONDS = 120.0
_MANIFESTS = Path(__file__).with_name("manifests.yaml")
_ENTER = 'pid=$(cat "$0") && exec nsenter --target "$pid" --mount --net --pid --uts --ipc "$@"'


class RealNode:
    """One real node; a plane has at most one."""

    def __init__(
        self,
        plane: Plane,
        name: str,
        *,
        state: Path,
        programs: Mapping[str, Path],
        processes: Processes,
        hardware: Hardware | None = None,
    ) -> None:
        """`hardware`: what pods of the runtime handler `nvidia` see of accelerators."""
        self.plane = plane
        self.name = name
        self.directory = state / "nodes" / plane.name
        self._programs = programs
        self._processes = processes
        self._hardware = hardware
        self._wiring: dict[str, list[Json]] = {"wires": [], "pages": [], "proxies": []}

    @property
    def network(self) -> str:
        """What `wires` calls the node's network: the file with the number of its first process."""
        return str(self.directory / "pid")

    def boot(self) -> None:
        """Start the node's first process and return once its mounts and network are there."""
        for part in ("kubelet", "containerd", "cni", "pods", "images"):
            (self.directory / part).mkdir(parents=True, exist_ok=True)
        addresses = [NODE, METADATA, OUTSIDE]
        (self.directory / "node.json").write_text(json.dumps({"name": self.name, "addresses": addresses}))
        (self.directory / "pid").unlink(missing_ok=True)
        cgroups.make(self._group)
        unshare = ["unshare", "--mount", "--propagation=private", "--net", "--pid", "--uts", "--ipc"]
        init = [sys.executable, "-m", "devkit.rig.real.init", self.directory]
        self._start("node", [*unshare, "--fork", "--kill-child", *init])
        self._until("its first process", lambda: (self.directory / "pid").exists(), seconds=30)

    def start(self, *, gpus: int, labels: Mapping[str, str], wires: Sequence[Json] = ()) -> None:
        """Start what runs on a booted node; return once a pod with network and names could run there.

        `wires` are further ones into the node's network (`wires` tells their form).
        """
        api = {"network": None, "host": LOOPBACK, "port": self.plane.port}
        for host, port in ((LOOPBACK, self.plane.port), (NODE, API_PORT)):
            self._wire({"network": self.network, "host": host, "port": port}, api)
        self._wiring["wires"] += wires
        for host, body in ((METADATA, "metadata of the cloud\n"), (OUTSIDE, "somewhere outside\n")):
            listen = {"network": self.network, "host": host, "port": 80}
            self._wiring["pages"].append({"listen": listen, "body": body})
        self._wiring["proxies"].append(
            {"network": self.network, "socket": str(egress_socket(self._processes, self.plane.name))}
        )
        wiring = self.directory / "wires.json"
        wiring.write_text(json.dumps(self._wiring, indent=1))
        self._start("wires", [sys.executable, "-m", "devkit.rig.real.wires", wiring])
        self._start_containerd()
        for archive in self._images():
            self.load(archive)
        self._start_kubelet()
        self._start_proxy()
        self._start_policies()
        self._describe(gpus, labels)
        self._wait()

    def load(self, archive: Path, *, name: str | None = None) -> None:
        """Load an image into the node's containerd from an OCI archive, under `name` where one is given."""
        ctr = ("ctr", "--namespace=k8s.io", "images")
        self.run(*ctr, "import", str(archive.absolute()), seconds=300)
        if name:
            digest = images.digest_of(archive)
            listed = [line.split() for line in self.run(*ctr, "list").splitlines()]
            present = [words[0] for words in listed if digest in words]
            self.run(*ctr, "tag", "--force", present[0], name)

    def run(self, *command: str, seconds: float = 60.0) -> str:
        """Run a command on the node to its end; return its output. Raises RigError with the reason."""
        done = subprocess.run(
            self._enter(*command), env=_environment(), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=seconds,
        )  # fmt: skip
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no reason given"]
            raise RigError(f"{' '.join(command[:4])} on {self.name}: {said[0]}")
        return done.stdout

    # ------------------------------------------------------------ programs

    def _start_containerd(self) -> None:
        plugins = machine.cni_directory()
        config = self.directory / "containerd.toml"
        handlers = {}
        if self._hardware:
            handlers[nvidia.HANDLER] = nvidia.runtime_spec(self.directory / "nvidia", self._hardware)
        config.write_text(configs.containerd(self.directory, plugins=plugins, handlers=handlers))
        (self.directory / "cni" / "10-rig.conflist").write_text(configs.cni(self.directory))
        self._start_inside("containerd", ["containerd", "--config", config])

        def answers() -> bool:
            try:
                return bool(self.run("ctr", "version"))
            except RigError:
                return False

        self._until("containerd", answers, seconds=60)

    def _images(self) -> list[Path]:
        busybox = machine.busybox()
        assert busybox is not None  # `prepare` saw to it
        into = self.directory / "images"
        shell = {"/bin/busybox": busybox}
        names = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
        links = {f"/bin/{name}": "busybox" for name in names if name != "busybox"}
        sleep = ("/bin/busybox", "sleep", "2147483647")
        return [
            images.write_image(into / "busybox.tar", images.BUSYBOX, shell, links=links),
            write_python_image(into / "python.tar", images.PYTHON, busybox=busybox),
            images.write_image(into / "pause.tar", images.PAUSE, shell, entrypoint=sleep),
            images.write_image(
                into / "coredns.tar",
                images.COREDNS,
                {"/bin/coredns": self._programs["coredns"]},
                entrypoint=("/bin/coredns",),
            ),
        ]

    def _start_kubelet(self) -> None:
        user = f"system:node:{self.name}"
        own = self.plane.kubeconfig_for(user, "system:nodes", into=self.directory / "kubelet.kubeconfig")
        resolv = self.directory / "resolv.conf"
        resolv.write_text("")  # the machine's own would send names of guests out of here
        authority = write_private(self.directory / "ca.crt", self.plane.authority.certificate)
        config = self.directory / "kubelet.yaml"
        content = configs.kubelet(self.directory, group=self._group, authority=authority, resolv=resolv)
        config.write_text(yaml.safe_dump(content))
        self._start_inside(
            "kubelet",
            [
                self._programs["kubelet"],
                f"--config={config}",
                f"--kubeconfig={own}",
                f"--hostname-override={self.name}",
                f"--node-ip={NODE}",
                "--root-dir=/var/lib/kubelet",
            ],
        )

    def _start_proxy(self) -> None:
        kubeconfig = self.plane.kubeconfig_for("system:kube-proxy", into=self.directory / "proxy.kubeconfig")
        config = self.directory / "proxy.yaml"
        config.write_text(yaml.safe_dump(configs.proxy(self.name, kubeconfig)))
        self._start_inside("kube-proxy", [self._programs["kube-proxy"], f"--config={config}"])

    def _start_policies(self) -> None:
        kubeconfig = self.plane.kubeconfig_for(
            "rig-policies", "system:masters", into=self.directory / "policies.kubeconfig"
        )
        self._start_inside(
            "policies", [sys.executable, "-m", "devkit.rig.real.policies", kubeconfig, self.name]
        )

    # ------------------------------------------------------------ readiness

    def _describe(self, gpus: int, labels: Mapping[str, str]) -> None:
        """Say of the node what a device plugin and feature discovery would, once its kubelet has made it."""
        client = self.plane.client()
        path = f"/api/v1/nodes/{self.name}"
        what = f"the kubelet of {self.name} to register"
        client.until(what, lambda: bool(client.get(path)), seconds=READY_SECONDS, alive=self._alive)
        client.merge(path, {"metadata": {"labels": dict(labels)}})
        if gpus:
            # The kubelet derives what is allocatable from it.
            client.merge(f"{path}/status", {"status": {"capacity": {"nvidia.com/gpu": str(gpus)}}})

    def _wait(self) -> None:
        client = self.plane.client()
        client.apply(
            "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes",
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": "kubernetes",
                    "labels": {"kubernetes.io/service-name": "kubernetes"},
                },
                "addressType": "IPv4",
                "endpoints": [{"addresses": [NODE], "conditions": {"ready": True}}],
                "ports": [{"name": "https", "port": API_PORT, "protocol": "TCP"}],
            },
        )
        Manifests(client, alive=self._alive).apply(parse(_MANIFESTS.read_text()))

        def ready() -> bool:
            dns = client.get("/apis/apps/v1/namespaces/kube-system/deployments/coredns")
            return bool(dns.get("status", {}).get("readyReplicas"))

        client.until(f"DNS on {self.name}", ready, seconds=READY_SECONDS, alive=self._alive)

    def _alive(self) -> None:
        for part in ("node", "wires", "containerd", "kubelet", "kube-proxy", "policies"):
            self._processes.check(f"{self.plane.name}.{part}")

    def _until(self, what: str, done: Callable[[], bool], *, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            self._processes.check(f"{self.plane.name}.node")
            if time.monotonic() > deadline:
                logs = self._processes.log_of(f"{self.plane.name}.node").parent
                raise RigError(f"Waited {seconds:.0f} s for {what} of {self.name} in vain; logs: {logs}")
            time.sleep(0.05)

    # ------------------------------------------------------------ processes

    @property
    def _group(self) -> str:
        return cgroups.name_of(self._processes.mark, self.plane.name)

    def _wire(self, listen: Json, dial: Json) -> None:
        self._wiring["wires"].append({"listen": listen, "dial": dial})

    def _enter(self, *command: str) -> list[str]:
        return ["/bin/sh", "-c", _ENTER, self.network, *command]

    def _start_inside(self, part: str, command: Sequence[object]) -> None:
        """Start a program on the node. It ends with the process that is recorded for it outside."""
        words = [str(word) for word in command]
        self._start(part, self._enter("setpriv", "--pdeathsig=KILL", *words))

    def _start(self, part: str, command: Sequence[object]) -> None:
        words = [str(word) for word in command]
        self._processes.start(f"{self.plane.name}.{part}", words, environ=_environment())


def server_options(processes: Processes, plane: str, state: Path) -> list[str]:
    """Return what an API server must be told to reach kubelets and pods of its real node."""
    config = state / "nodes" / plane / "egress.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(yaml.safe_dump(configs.egress(egress_socket(processes, plane))))
    # By address: the name of a node is nobody's to resolve.
    return [f"--egress-selector-config-file={config}", "--kubelet-preferred-address-types=InternalIP"]


def egress_socket(processes: Processes, plane: str) -> Path:
    """Return the socket by which a plane's API server gets at its node. A path of a socket must be short."""
    return Path(tempfile.gettempdir()) / f"{cgroups.name_of(processes.mark, plane)}.sock"


def sweep(state: Path, mark: str) -> None:
    """Remove what real nodes of this rig leave after their processes: control groups, sockets, files."""
    cgroups.remove(cgroups.name_of(mark, ""))
    for socket in Path(tempfile.gettempdir()).glob(f"{cgroups.name_of(mark, '')}*.sock"):
        socket.unlink(missing_ok=True)
    nodes = state / "nodes"
    if not nodes.exists():
        return
    # The node's mounts were in its own table and are gone with it. Should one be in ours, then it is not
    # a rig's, and deleting through it would delete what it shows.
    if f" {nodes}/" in Path("/proc/self/mountinfo").read_text():
        raise RigError(f"Something is mounted below {nodes}; unmount it, then run this again.")
    subprocess.run(["rm", "-rf", "--one-file-system", "--", str(nodes)], check=True)


def _environment() -> dict[str, str]:
    return {**plain_environment(), "PATH": machine.search_path(), "PYTHONPATH": str(ROOT / "hack")}
