"""Brings a rig up and down: first the planes, then Fallow on them.

Everything that `up` makes lies below one directory, and every process is recorded there before it runs;
so `down` needs nothing else, and works after an `up` that was killed at any point.
"""

import fcntl
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from devkit.errors import RigError
from devkit.rig import identities
from devkit.rig.manifests import Manifests, read
from devkit.rig.members import Member, default_members, node_object
from devkit.rig.planes import Plane, PlaneStarter
from devkit.rig.ports import Ports
from devkit.rig.processes import Processes
from devkit.rig.record import MemberPlane, Rig
from devkit.toolchain import CONTROL_PLANES, ensure

GRACE_SECONDS = 10.0
Payments = Literal["chain", "ledger"]
_OURS = ("rig.json", "etcd", "planes", "identities", "run", "logs", "chain", "archive", "keys", "mark")


def up(
    state: Path,
    *,
    members: Sequence[Member] | None = None,
    with_fallow: bool = True,
    payments: Payments = "chain",
    say: Callable[[str], None] = lambda text: None,
) -> Rig:
    """Bring a rig up in the directory `state` and return it once everything on it is ready.

    Members default to aurora and borealis with two nodes of eight accelerators. Raises RigError, with
    nothing left running, when something does not come up; logs stay.
    """
    members = default_members(2, nodes=2, gpus_per_node=8) if members is None else members
    names = [member.name for member in members]
    if len(set(names)) != len(names) or "hub" in names or "etcd" in names:
        raise RigError(f"Members need different names, none of them hub or etcd: {', '.join(names)}.")
    programs = dict(ensure(*CONTROL_PLANES))
    started = time.monotonic()
    state = state.absolute()
    with _alone(state, say):
        processes = _prepare(state)
        try:
            with Ports() as ports:
                rig = _planes(state, members, programs, processes, ports, say)
                if with_fallow:
                    from devkit.rig.fallow import start

                    start(rig, payments=payments, ports=ports, say=say)
            rig.ready_seconds = time.monotonic() - started
            rig.write()
        except BaseException:
            _end(state)
            raise
    return rig


def down(state: Path, *, say: Callable[[str], None] = lambda text: None) -> bool:
    """End every process of the rig in `state`; return False when there is none. Logs stay."""
    state = state.absolute()
    if not (state / "mark").exists():
        return False
    with _alone(state, say):
        _end(state)
    return True


def processes_of(state: Path) -> Processes:
    """Return the processes of the rig in `state`, for who wants to kill or restart one."""
    return Processes(state, mark=(state / "mark").read_text().strip())


def _planes(
    state: Path,
    members: Sequence[Member],
    programs: dict[str, Path],
    processes: Processes,
    ports: Ports,
    say: Callable[[str], None],
) -> Rig:
    starter = PlaneStarter(state=state, programs=programs, processes=processes, ports=ports)
    say(f"Starting the control planes: hub, {', '.join(member.name for member in members)}")
    starter.start_etcd()
    hub = starter.start_api_server("hub")
    planes = {member.name: starter.start_api_server(member.name) for member in members}
    with ThreadPoolExecutor(max_workers=len(planes) + 1) as pool:
        try:
            ready_hub = pool.submit(_ready_hub, starter, hub, list(planes), state)
            ready = [pool.submit(_ready_member, starter, planes[member.name], member) for member in members]
            agents, people = ready_hub.result()
            for future in ready:
                future.result()
        except BaseException:
            # Leaving the block waits for the threads: what they wait for must not come any more.
            _end(state)
            raise
    return Rig(
        state=state,
        processes=processes,
        hub_kubeconfig=hub.kubeconfig,
        members={
            member.name: MemberPlane(
                name=member.name,
                kubeconfig=planes[member.name].kubeconfig,
                agent_kubeconfig=planes[member.name].directory / "agent.kubeconfig",
                agent_hub_kubeconfig=agents[member.name],
                spec=member,
            )
            for member in members
        },
        identities=people,
        programs=programs,
    )


def _ready_hub(
    starter: PlaneStarter, hub: Plane, providers: Sequence[str], state: Path
) -> tuple[dict[str, Path], dict[str, Path]]:
    starter.wait_for_api_server(hub)
    starter.start_controllers(hub, member=False)
    client = hub.client()
    manifests = Manifests(client, alive=starter.alive("hub.apiserver"))
    manifests.apply_crds(read(Path("crds/hub")))
    manifests.apply(read(Path("config/hub")))
    into = state / "identities"
    people = identities.hub_identities(hub, client, into)
    agents = {name: identities.provider_namespace(hub, client, name, into) for name in providers}
    starter.wait_for_controllers(hub, "default")
    return agents, people


def _ready_member(starter: PlaneStarter, plane: Plane, member: Member) -> None:
    starter.wait_for_api_server(plane)
    client = plane.client()
    for number in range(member.nodes):
        client.post("/api/v1/nodes", node_object(member, number))
    starter.start_controllers(plane, member=True)
    alive = starter.alive(f"{plane.name}.apiserver", f"{plane.name}.controller-manager")
    manifests = Manifests(client, alive=alive)
    manifests.apply_crds(read(Path("crds/member")))
    manifests.apply(read(Path("config/member")))
    path = plane.directory / "agent.kubeconfig"
    identities.service_account(plane, client, "fallow-system", "agent", path)
    starter.wait_for_controllers(plane, "default", "fallow-guests")
    what = f"the nodes of {plane.name}"
    client.until(what, lambda: _usable(client.get("/api/v1/nodes")), seconds=60, alive=alive)


def _usable(nodes: dict[str, object]) -> bool:
    """Tell whether every node is ready and carries no taint any more."""
    items = nodes["items"]
    assert isinstance(items, list)
    return all(not node["spec"].get("taints") and _ready(node) for node in items)


def _ready(node: dict[str, dict[str, list[dict[str, str]]]]) -> bool:
    conditions = node["status"].get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _prepare(state: Path) -> Processes:
    """Make the directory a fresh rig's; refuse one where a rig is up or that holds anything else."""
    mark = state / "mark"
    if mark.exists():
        old = processes_of(state)
        if any(old.running(name) for name in old.names()):
            raise RigError(f"A rig is up in {state}. End it first: hack/rig down --state {state}")
        _end(state)  # what it started beside, such as a child of a killed program
    else:
        foreign = sorted(path.name for path in state.iterdir() if path.name != ".lock")
        if foreign:
            raise RigError(f"{state} holds other things ({foreign[0]}); name an empty directory.")
    for name in _OURS:
        path = state / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    identity = secrets.token_hex(16)
    mark.write_text(identity + "\n")
    return Processes(state, mark=identity)


def _end(state: Path) -> None:
    processes = processes_of(state)
    gently = [name for name in processes.names() if name.startswith("fallow.") or name == "anvil"]
    processes.end_all(gently=gently, grace_seconds=GRACE_SECONDS)
    (state / "rig.json").unlink(missing_ok=True)  # its presence means: up
    shutil.rmtree(state / "etcd", ignore_errors=True)  # 64 MB at least, and of no use without its servers


@contextmanager
def _alone(state: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Keep other calls away from a rig while it is brought up or down; a killed caller keeps nobody away."""
    state.mkdir(parents=True, exist_ok=True)
    with (state / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say(f"Another command works on the rig in {state}; waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
