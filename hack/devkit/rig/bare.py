"""Clusters with nothing of Fallow on them: what a platform team has before it installs a chart.

    with bare(state, ["hub", "aurora"], gpus={"aurora": 8}, reaches={"aurora": ["hub"]}) as clusters:
        clusters["hub"].helm("install", …)

Each has an API server, the usual controllers and one real node. `reaches` says whose API server the pods of
a cluster get at, under the address OUTSIDE, as over the internet.
"""

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devkit.errors import RigError
from devkit.fake_nvml import Hardware
from devkit.rig.addresses import API_PORT, LOOPBACK, NODE, OUTSIDE
from devkit.rig.api import ApiServer, Json
from devkit.rig.manifests import ROOT
from devkit.rig.members import Member, node_labels
from devkit.rig.planes import Plane, PlaneStarter
from devkit.rig.ports import Ports
from devkit.rig.real import RealNode, prepare, server_options
from devkit.rig.state import alone, end, prepare_directory
from devkit.toolchain import CONTROL_PLANES, REAL_NODES, ensure


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A cluster that is up."""

    plane: Plane
    node: RealNode
    programs: Mapping[str, Path]

    @property
    def kubeconfig(self) -> Path:
        """The cluster administrator's."""
        return self.plane.kubeconfig

    def client(self) -> ApiServer:
        return self.plane.client()

    def kubectl(self, *words: str, stdin: str = "", seconds: float = 120.0) -> str:
        """Run kubectl as the administrator; return its output, raise RigError with its error."""
        return self._run("kubectl", *words, stdin=stdin, seconds=seconds)

    def helm(self, *words: str, seconds: float = 360.0) -> str:
        """Run helm as the administrator, from the checkout's root."""
        return self._run("helm", *words, seconds=seconds)

    def _run(self, program: str, *words: str, stdin: str = "", seconds: float) -> str:
        done = subprocess.run(
            [str(self.programs[program]), *words],
            cwd=ROOT, env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
            input=stdin, capture_output=True, text=True, timeout=seconds,
        )  # fmt: skip
        if done.returncode:
            raise RigError(f"{program} {' '.join(words[:4])}: {(done.stderr or done.stdout).strip()}")
        return done.stdout


@contextmanager
def bare(
    state: Path,
    names: Sequence[str],
    *,
    gpus: Mapping[str, int],
    reaches: Mapping[str, Sequence[str]],
    node_ports: Mapping[int, int] | None = None,
    keep: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[dict[str, Cluster]]:
    """Bring clusters up in the directory `state`; end them on leaving, unless `keep` and nothing failed.

    `node_ports`: who reaches a cluster's API server reaches these ports too, each one of its nodes'.
    `hack/rig down --state` ends them too. Raises RigError when something does not come up.
    """
    prepare()
    programs = dict(ensure(*CONTROL_PLANES, *REAL_NODES, "helm"))
    state = state.absolute()
    done = False
    with alone(state, say):
        processes = prepare_directory(state)
        try:
            with Ports() as ports:
                starter = PlaneStarter(state=state, programs=programs, processes=processes, ports=ports)
                starter.start_etcd()
                planes = {
                    name: starter.start_api_server(name, options=server_options(processes, name, state))
                    for name in names
                }
                nodes = {
                    name: RealNode(
                        plane,
                        f"{name}-real",
                        state=state,
                        programs=programs,
                        processes=processes,
                        hardware=Hardware.h100s(gpus[name]) if name in gpus else None,
                    )
                    for name, plane in planes.items()
                }

                def start(name: str) -> None:
                    wires = []
                    for other in reaches.get(name, ()):
                        wires.append(_wire(nodes[name], planes[other]))
                        for port, node_port in (node_ports or {}).items():
                            wires.append(_door(nodes[name], port, nodes[other], node_port))
                    _start(starter, planes[name], nodes[name], gpus=gpus.get(name, 0), wires=wires)

                with ThreadPoolExecutor(max_workers=len(names)) as pool:
                    list(pool.map(start, names))
            yield {
                name: Cluster(plane=plane, node=nodes[name], programs=programs)
                for name, plane in planes.items()
            }
            done = True
        finally:
            if not (keep and done):
                end(state)


def _start(starter: PlaneStarter, plane: Plane, node: RealNode, *, gpus: int, wires: Sequence[Json]) -> None:
    node.boot()
    starter.wait_for_api_server(plane)
    starter.start_controllers(plane, member=True, simulated=False, volumes=True)
    starter.wait_for_controllers(plane, "default", "kube-system")
    labels = node_labels(Member(name=plane.name, gpus_per_node=gpus))
    node.start(gpus=gpus, labels=labels, wires=wires)


def _door(node: RealNode, port: int, other: RealNode, node_port: int) -> Json:
    return {
        "listen": {"network": node.network, "host": OUTSIDE, "port": port},
        "dial": {"network": other.network, "host": NODE, "port": node_port},
    }


def _wire(node: RealNode, other: Plane) -> Json:
    return {
        "listen": {"network": node.network, "host": OUTSIDE, "port": API_PORT},
        "dial": {"network": None, "host": LOOPBACK, "port": other.port},
    }
