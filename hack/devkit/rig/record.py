"""A rig that is up, as its callers and DIR/rig.json see it."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from devkit.rig.api import ApiServer
from devkit.rig.members import Member
from devkit.rig.processes import Processes
from devkit.rig.real import RealNode


@dataclass(frozen=True, kw_only=True)
class MemberPlane:
    """A member that is up."""

    name: str
    kubeconfig: Path
    """The cluster administrator's."""
    agent_kubeconfig: Path
    """The agent's, on the member."""
    agent_hub_kubeconfig: Path
    """The agent's, on the hub."""
    spec: Member
    node: RealNode | None = None
    """The node that runs containers, where the member has one."""

    def client(self) -> ApiServer:
        """Return an administrator's client of the member."""
        return ApiServer.from_kubeconfig(self.kubeconfig)


@dataclass(kw_only=True)
class Rig:
    """A rig that is up; leaving it as a context manager brings it down."""

    state: Path
    processes: Processes
    hub_kubeconfig: Path
    """The cluster administrator's."""
    members: dict[str, MemberPlane]
    identities: dict[str, Path]
    """Kubeconfigs on the hub: submitter, hub_admin, hub, settler."""
    programs: dict[str, Path]
    """Where the toolchain's programs are, by name: kubectl, …"""
    chain: dict[str, Any] | None = None
    archive: Path | None = None
    fallow: dict[str, str] = field(default_factory=dict)
    """Names of Fallow's processes: hub, settler, agent-<member> → name in `processes`."""
    metrics: dict[str, str] = field(default_factory=dict)
    """host:port of /metrics and /healthz, by the same roles."""
    ready_seconds: float = 0.0

    def hub_client(self) -> ApiServer:
        """Return an administrator's client of the hub."""
        return ApiServer.from_kubeconfig(self.hub_kubeconfig)

    def client(self, identity: str) -> ApiServer:
        """Return a client of the hub with one of `identities`."""
        return ApiServer.from_kubeconfig(self.identities[identity])

    def down(self) -> None:
        """End the rig; does nothing when it is down already."""
        from devkit.rig.lifecycle import down

        down(self.state)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def pids(self, prefix: str) -> dict[str, int]:
        """Return the pids of recorded processes named `prefix`.something, by that something."""
        found = {}
        for name in self.processes.names():
            head, _, tail = name.partition(".")
            identity = self.processes.identity(name)
            if head == prefix and tail and identity:
                found[tail] = identity.pid
        return found

    def write(self) -> Path:
        """Write DIR/rig.json, whole or not at all."""
        content = {
            "hub": {"kubeconfig": str(self.hub_kubeconfig), "pids": self.pids("hub") | self._pid("etcd")},
            "members": {
                name: {
                    "kubeconfig": str(member.kubeconfig),
                    "agent_kubeconfig": str(member.agent_kubeconfig),
                    "agent_hub_kubeconfig": str(member.agent_hub_kubeconfig),
                    "pids": self.pids(name),
                }
                for name, member in self.members.items()
            },
            "chain": self.chain and {**self.chain, "pids": self._pid("anvil")},
            "identities": {name: str(path) for name, path in self.identities.items()},
            "fallow": self._fallow_pids(),
            "metrics": self.metrics,
            "archive": str(self.archive) if self.archive else None,
            "logs": str(self.state / "logs"),
            "programs": {name: str(path) for name, path in self.programs.items()},
            "ready_seconds": round(self.ready_seconds, 2),
        }
        path = self.state / "rig.json"
        _write(path, content)
        return path

    def _pid(self, name: str) -> dict[str, int]:
        identity = self.processes.identity(name)
        return {name: identity.pid} if identity else {}

    def _fallow_pids(self) -> dict[str, Any] | None:
        if not self.fallow:
            return None
        pids: dict[str, Any] = {"agents": {}}
        for role, name in self.fallow.items():
            identity = self.processes.identity(name)
            pid = identity.pid if identity else None
            if role.startswith("agent-"):
                pids["agents"][role.removeprefix("agent-")] = pid
            else:
                pids[role] = pid
        return pids


def refresh(state: Path, processes: Processes) -> None:
    """Bring the process ids in DIR/rig.json up to date, after something was started again."""

    def pid_of(name: str) -> int | None:
        identity = processes.identity(name)
        return identity.pid if identity else None

    path = state / "rig.json"
    content = json.loads(path.read_text())
    for plane, part in {"hub": content["hub"], **content["members"]}.items():
        part["pids"] = {key: pid_of(key if key == "etcd" else f"{plane}.{key}") for key in part["pids"]}
    if content["chain"]:
        content["chain"]["pids"] = {key: pid_of(key) for key in content["chain"]["pids"]}
    if fallow := content["fallow"]:
        fallow["agents"] = {name: pid_of(f"fallow.agent-{name}") for name in fallow["agents"]}
        fallow |= {role: pid_of(f"fallow.{role}") for role in fallow if role != "agents"}
    _write(path, content)


def _write(path: Path, content: dict[str, Any]) -> None:
    """Write rig.json whole or not at all, for the owner's eyes only: keys are in it."""
    temporary = path.with_suffix(".new")
    temporary.touch(mode=0o600)
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.replace(path)
