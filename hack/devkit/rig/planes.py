"""Control planes as plain processes: one etcd for all, and per plane an API server and its controllers.

A hub has an API server and a controller-manager; a member also a scheduler and kwok, which plays the
kubelets. Every plane has its own certificate authority and its own prefix in etcd.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from devkit.rig import kubeconfigs
from devkit.rig.api import ApiServer
from devkit.rig.certificates import Authority, signing_key, write_private
from devkit.rig.ports import Ports
from devkit.rig.processes import Processes

READY_SECONDS = 90.0
KUBELET_CLIENT = "rig-apiserver-kubelet-client"
"""Who an API server is to a kubelet."""
STAGES = Path(__file__).with_name("stages.yaml")

_CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "resourcequota-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "validatingadmissionpolicy-status-controller",
)
_MEMBER_CONTROLLERS = (
    *_CONTROLLERS,
    "cronjob-controller",
    "daemonset-controller",
    "deployment-controller",
    "disruption-controller",
    "endpointslice-controller",
    "job-controller",
    "node-lifecycle-controller",
    "pod-garbage-collector-controller",
    "replicaset-controller",
    "statefulset-controller",
    "taint-eviction-controller",
)
# What limits a rig is its machine, unless fairness is what is looked at: then there are fewer seats than a
# machine of two cores can serve at once, so that it is they who run out.
_UNLIMITED = (
    "--max-requests-inflight=0",
    "--max-mutating-requests-inflight=0",
    "--enable-priority-and-fairness=false",
)
_FAIR = (
    "--max-requests-inflight=40",
    "--max-mutating-requests-inflight=20",
    "--enable-priority-and-fairness=true",
)
_VOLUMES = (
    "persistentvolume-binder-controller",
    "persistentvolume-protection-controller",
    "persistentvolumeclaim-protection-controller",
)


@dataclass(frozen=True)
class Plane:
    """One control plane: its files, its port and who may vouch for its users."""

    name: str
    directory: Path
    port: int
    authority: Authority
    kubeconfig: Path
    """The administrator's."""

    def client(self) -> ApiServer:
        return ApiServer.from_kubeconfig(self.kubeconfig)

    def kubeconfig_for(self, user: str, *groups: str, into: Path | None = None) -> Path:
        """Write a kubeconfig for a user known by certificate; return its path."""
        return self.write_kubeconfig(
            into or self.directory / f"{user}.kubeconfig",
            kubeconfigs.by_certificate(self.authority.client(user, *groups)),
        )

    def write_kubeconfig(self, path: Path, user: dict[str, object], *, namespace: str = "default") -> Path:
        return kubeconfigs.write(
            path,
            cluster=self.name,
            port=self.port,
            authority=self.authority.certificate,
            user=user,
            namespace=namespace,
        )


class PlaneStarter:
    """Starts etcd and planes with one toolchain, in one state directory."""

    def __init__(
        self, *, state: Path, programs: Mapping[str, Path], processes: Processes, ports: Ports
    ) -> None:
        self._state = state
        self._programs = programs
        self._processes = processes
        self._ports = ports
        self._etcd_port = 0

    def start_etcd(self) -> None:
        self._etcd_port, peer_port = self._ports.hold(), self._ports.hold()
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{peer_port}"
        command = [
            self._programs["etcd"],
            f"--data-dir={self._state / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",  # a rig's data is worth nothing after a power cut
            "--quota-backend-bytes=8589934592",
            "--auto-compaction-retention=10m",
            "--log-level=warn",
        ]
        self._ports.release(self._etcd_port)
        self._ports.release(peer_port)
        self._start("etcd", command)

    def start_api_server(self, name: str, *, options: Sequence[str] = (), fairness: bool = False) -> Plane:
        """Write a plane's files and start its API server; returns before that is ready.

        `fairness`: few requests at once, and API priority and fairness deals them out. `options` are
        further flags; `{directory}` in them stands for where the plane's files are.
        """
        directory = self._state / "planes" / name
        directory.mkdir(parents=True)
        authority = Authority(name)
        server = authority.server()
        kubelets = authority.client(KUBELET_CLIENT)
        private, public = signing_key()
        files = {
            "ca.crt": authority.certificate,
            "server.crt": server.certificate,
            "server.key": server.key,
            "tokens.key": private,
            "tokens.pub": public,
            # Shown to kubelets, for logs of pods and commands in them.
            "kubelet-client.crt": kubelets.certificate,
            "kubelet-client.key": kubelets.key,
        }
        for file, data in files.items():
            write_private(directory / file, data)
        port = self._ports.hold()
        plane = Plane(name, directory, port, authority, directory / "admin.kubeconfig")
        plane.kubeconfig_for("rig-admin", "system:masters", into=plane.kubeconfig)
        command = [
            self._programs["kube-apiserver"],
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            f"--etcd-prefix=/{name}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--tls-cert-file={directory / 'server.crt'}",
            f"--tls-private-key-file={directory / 'server.key'}",
            f"--client-ca-file={directory / 'ca.crt'}",
            f"--kubelet-client-certificate={directory / 'kubelet-client.crt'}",
            f"--kubelet-client-key={directory / 'kubelet-client.key'}",
            f"--cert-dir={directory}",
            "--authorization-mode=Node,RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={directory / 'tokens.pub'}",
            f"--service-account-signing-key-file={directory / 'tokens.key'}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--enable-bootstrap-token-auth=true",
            "--allow-privileged=true",
            # Nobody reaches these servers through a Service, and the default writes an address that a
            # loopback server may not have.
            "--endpoint-reconciler-type=none",
            *(_FAIR if fairness else _UNLIMITED),
        ]
        command += [option.format(directory=directory) for option in options]
        self._ports.release(port)
        self._start(f"{name}.apiserver", command)
        return plane

    def wait_for_api_server(self, plane: Plane) -> None:
        client = plane.client()
        alive = self.alive("etcd", f"{plane.name}.apiserver")
        what = f"the API server of {plane.name}"
        client.until(what, lambda: bool(client.get("/readyz")), seconds=READY_SECONDS, alive=alive)

    def start_controllers(
        self, plane: Plane, *, member: bool, simulated: bool = True, volumes: bool = False
    ) -> None:
        """Start what acts in a plane; a member's also schedules pods and plays the `simulated` nodes.

        `volumes`: claims for volumes are bound too.
        """
        directory = plane.directory
        # Its own role expects an identity per controller, which costs a second of starting up.
        own = plane.kubeconfig_for("system:kube-controller-manager", "system:masters")
        acting = (*(_MEMBER_CONTROLLERS if member else _CONTROLLERS), *(_VOLUMES if volumes else ()))
        self._start(
            f"{plane.name}.controller-manager",
            [
                self._programs["kube-controller-manager"],
                f"--kubeconfig={own}",
                f"--authentication-kubeconfig={own}",
                f"--authorization-kubeconfig={own}",
                f"--controllers={','.join(acting)}",
                f"--service-account-private-key-file={directory / 'tokens.key'}",
                f"--root-ca-file={directory / 'ca.crt'}",
                "--use-service-account-credentials=false",
                "--leader-elect=false",
                "--secure-port=0",
                # So often it counts again what kinds that it learns of later have.
                "--resource-quota-sync-period=10s",
                "--kube-api-qps=1000",
                "--kube-api-burst=2000",
            ],
        )
        if member:
            self._start_scheduler(plane)
            if simulated:
                self._start_kwok(plane)

    def _start_scheduler(self, plane: Plane) -> None:
        own = plane.kubeconfig_for("system:kube-scheduler")
        config = plane.directory / "scheduler.yaml"
        config.write_text(
            "apiVersion: kubescheduler.config.k8s.io/v1\n"
            "kind: KubeSchedulerConfiguration\n"
            "leaderElection: {leaderElect: false}\n"
            f"clientConnection: {{kubeconfig: {own}, qps: 1000, burst: 2000}}\n"
        )
        command = [self._programs["kube-scheduler"], f"--config={config}", "--secure-port=0"]
        self._start(f"{plane.name}.scheduler", command)

    def _start_kwok(self, plane: Plane) -> None:
        own = plane.kubeconfig_for("kwok", "system:masters")
        command = [
            self._programs["kwok"],
            f"--kubeconfig={own}",
            f"--config={STAGES}",
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
            # Longer than a heartbeat: without Leases the node-lifecycle controller taints every node.
            "--node-lease-duration-seconds=40",
        ]
        self._start(f"{plane.name}.kwok", command)

    def wait_for_controllers(self, plane: Plane, *namespaces: str) -> None:
        """Return once pods can be made in these namespaces: their default service account is there."""
        client = plane.client()
        alive = self.alive(f"{plane.name}.apiserver", f"{plane.name}.controller-manager")
        for namespace in namespaces:
            path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default"
            client.until(
                f"the service account of {plane.name}/{namespace}",
                lambda path=path: bool(client.get(path)),  # type: ignore[misc]
                seconds=READY_SECONDS,
                alive=alive,
            )

    def alive(self, *names: str) -> Callable[[], None]:
        """Return a check, cheap enough for any loop, that raises RigError once one of these has ended."""
        return _Alive(self._processes, names)

    def _start(self, name: str, command: Sequence[object]) -> None:
        self._processes.start(name, [str(word) for word in command], environ=plain_environment())


class _Alive:
    """Asks now and then whether processes still run; each look reads files of /proc."""

    def __init__(self, processes: Processes, names: tuple[str, ...]) -> None:
        self._processes = processes
        self._names = names
        self._next = 0.0

    def __call__(self) -> None:
        if (now := time.monotonic()) >= self._next:
            self._next = now + 0.5
            for name in self._names:
                self._processes.check(name)


def plain_environment() -> dict[str, str]:
    """Return what a program of a plane needs of the caller's environment: nothing that configures it."""
    return {key: os.environ[key] for key in ("PATH", "HOME", "TMPDIR", "LANG") if key in os.environ}
