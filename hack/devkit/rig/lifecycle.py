"""Brings a rig up and down: first the planes, then Fallow on them.

Everything that `up` makes lies below one directory, and every process is recorded there before it runs;
so `down` needs nothing else, and works after an `up` that was killed at any point.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from devkit.errors import RigError
from devkit.rig import identities
from devkit.rig.api import ApiServer
from devkit.rig.manifests import Manifests, read
from devkit.rig.members import Member, default_members, node_labels, node_object
from devkit.rig.planes import Plane, PlaneStarter
from devkit.rig.ports import Ports
from devkit.rig.processes import Processes
from devkit.rig.real import RealNode, prepare, server_options
from devkit.rig.record import MemberPlane, Rig
from devkit.rig.state import alone, end, prepare_directory
from devkit.toolchain import CONTROL_PLANES, REAL_NODES, ensure

Payments = Literal["chain", "ledger"]


def up(
    state: Path,
    *,
    members: Sequence[Member] | None = None,
    with_fallow: bool = True,
    payments: Payments = "chain",
    fairness: bool = False,
    hub_settings: Mapping[str, str] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Rig:
    """Bring a rig up in the directory `state` and return it once everything on it is ready.

    `hub_settings` are environment variables of the hub, without their prefix (`PREEMPTION__ENABLED`).

    `fairness`: the hub's API server has few seats, dealt out by priority and fairness. Members default to
    aurora and borealis with two nodes of eight accelerators. Raises RigError, with nothing left running, when
    something does not come up; logs stay.
    """
    members = default_members(2, nodes=2, gpus_per_node=8) if members is None else members
    names = [member.name for member in members]
    if len(set(names)) != len(names) or "hub" in names or "etcd" in names:
        raise RigError(f"Members need different names, none of them hub or etcd: {', '.join(names)}.")
    real = any(member.real for member in members)
    if real:
        prepare()
    programs = dict(ensure(*CONTROL_PLANES, *(REAL_NODES if real else ())))
    started = time.monotonic()
    state = state.absolute()
    with alone(state, say):
        processes = prepare_directory(state)
        try:
            with Ports() as ports:
                rig = _planes(state, members, programs, processes, ports, say, fairness=fairness)
                if with_fallow:
                    from devkit.rig.fallow import start

                    start(rig, payments=payments, ports=ports, hub_settings=hub_settings or {}, say=say)
            rig.ready_seconds = time.monotonic() - started
            rig.write()
        except BaseException:
            end(state)
            raise
    return rig


def down(state: Path, *, say: Callable[[str], None] = lambda text: None) -> bool:
    """End every process of the rig in `state`; return False when there is none. Logs stay."""
    state = state.absolute()
    if not (state / "mark").exists():
        return False
    with alone(state, say):
        end(state)
    return True


def _planes(
    state: Path,
    members: Sequence[Member],
    programs: dict[str, Path],
    processes: Processes,
    ports: Ports,
    say: Callable[[str], None],
    *,
    fairness: bool,
) -> Rig:
    starter = PlaneStarter(state=state, programs=programs, processes=processes, ports=ports)
    say(f"Starting the control planes: hub, {', '.join(member.name for member in members)}")
    starter.start_etcd()
    hub = starter.start_api_server("hub", fairness=fairness)
    planes = {
        member.name: starter.start_api_server(
            member.name, options=server_options(processes, member.name, state) if member.real else ()
        )
        for member in members
    }
    nodes = {
        member.name: RealNode(
            planes[member.name],
            f"{member.name}-real",
            state=state,
            programs=programs,
            processes=processes,
        )
        for member in members
        if member.real
    }
    with ThreadPoolExecutor(max_workers=len(planes) + 1) as pool:
        try:
            ready_hub = pool.submit(_ready_hub, starter, hub, list(planes), state)
            ready = [
                pool.submit(_ready_member, starter, planes[member.name], member, nodes.get(member.name))
                for member in members
            ]
            agents, people = ready_hub.result()
            for future in ready:
                future.result()
        except BaseException:
            # Leaving the block waits for the threads: what they wait for must not come any more.
            end(state)
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
                node=nodes.get(member.name),
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


def _ready_member(starter: PlaneStarter, plane: Plane, member: Member, node: RealNode | None) -> None:
    if node:
        node.boot()
    starter.wait_for_api_server(plane)
    client = plane.client()
    for number in range(member.nodes):
        client.post("/api/v1/nodes", node_object(member, number))
    if member.bare:
        _make_ready_for_ever(client, member)
        alive = starter.alive(f"{plane.name}.apiserver")
    else:
        starter.start_controllers(plane, member=True, simulated=member.nodes > 0)
        alive = starter.alive(f"{plane.name}.apiserver", f"{plane.name}.controller-manager")
    manifests = Manifests(client, alive=alive)
    manifests.apply_crds(read(Path("crds/member")))
    manifests.apply(read(Path("config/member")))
    path = plane.directory / "agent.kubeconfig"
    identities.service_account(plane, client, "fallow-system", "agent", path)
    if not member.bare:
        starter.wait_for_controllers(plane, "default", "fallow-guests")
    if node:
        node.start(gpus=member.gpus_per_node, labels=node_labels(member))
    what = f"the nodes of {plane.name}"
    client.until(what, lambda: _usable(client.get("/api/v1/nodes")), seconds=60, alive=alive)


def _make_ready_for_ever(client: ApiServer, member: Member) -> None:
    """Say of each node what a kubelet and the controllers would."""
    ready = {"type": "Ready", "status": "True", "reason": "Simulated", "message": ""}
    for number in range(member.nodes):
        path = f"/api/v1/nodes/{node_object(member, number)['metadata']['name']}"
        client.merge(path, {"spec": {"taints": None}})
        client.merge(f"{path}/status", {"status": {"conditions": [ready]}})


def _usable(nodes: dict[str, object]) -> bool:
    """Tell whether every node is ready and carries no taint any more."""
    items = nodes["items"]
    assert isinstance(items, list)
    return all(not node["spec"].get("taints") and _ready(node) for node in items)


def _ready(node: dict[str, dict[str, list[dict[str, str]]]]) -> bool:
    conditions = node["status"].get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
