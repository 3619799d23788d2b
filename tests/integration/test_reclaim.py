"""An owner's pod gets its accelerator from guests, whatever schedules it: a real member, a full one."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from devkit.rig import Rig, up
from devkit.rig.api import Json
from devkit.rig.members import Member
from integration.by_hand import ByHand, until

PODS = "/api/v1/namespaces/default/pods"
LONG = {"rig.fallow.dev/run-seconds": "600"}
NEVER = "never-preempts"


@pytest.fixture(scope="module")
def reclaim_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    members = [Member(name="full", nodes=2, gpus_per_node=4)]
    with up(tmp_path_factory.mktemp("reclaim-rig"), members=members, with_fallow=False) as rig:
        rig.members["full"].client().post(
            "/apis/scheduling.k8s.io/v1/priorityclasses",
            {"metadata": {"name": NEVER}, "value": 100, "preemptionPolicy": "Never"},
        )
        yield rig


@pytest.fixture(scope="module")
def stage(reclaim_rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ByHand]:
    stage = ByHand(reclaim_rig, "full", tmp_path_factory.mktemp("by-hand"))
    stage.offer(reclaim_grace_seconds=5)
    stage.start_agent()
    yield stage
    stage.stop_agent()


@pytest.fixture
def hand(stage: ByHand) -> Iterator[ByHand]:
    stage.until_quoted()
    until("all is on offer", lambda: stage.offered() == 8, told=stage.log_tail)
    yield stage
    for pod in stage.member.get(PODS)["items"]:
        stage.member.delete(f"{PODS}/{pod['metadata']['name']}", gracePeriodSeconds="0")
    for name in stage.placements():
        stage.delete(name)
    until("no guest left", lambda: not stage.pods(), told=stage.log_tail)


def filled(hand: ByHand) -> str:
    """Fill every accelerator with guests of one GPU each, and have more of them wait."""
    first, second = hand.nodes()
    name = hand.place({first: (4, "0-9"), second: (4, "10-19")}, annotations=LONG)
    until("it is full", lambda: len(hand.running(name)) == 8, told=hand.log_tail)
    return name


def an_owners_pod(hand: ByHand, name: str, *, gpus: int = 1, **spec: Any) -> Callable[[], Json]:
    """Create a pod of the owner's; returns what reads it."""
    resources = {"limits": {"nvidia.com/gpu": str(gpus)}}
    containers = [{"name": "main", "image": "x", "resources": resources}]
    metadata = {"name": name, "annotations": LONG}
    hand.member.post(PODS, {"metadata": metadata, "spec": {"containers": containers, **spec}})
    return lambda: hand.member.get(f"{PODS}/{name}")


def runs(read: Callable[[], Json]) -> Callable[[], bool]:
    return lambda: bool(read()["status"].get("phase") == "Running")


def reclaimed(hand: ByHand, name: str, count: int) -> list[Json]:
    """Wait for so many guests to be reported as reclaimed, and none else; return their last words."""
    until(
        f"{count} are reclaimed",
        lambda: sorted(hand.outcomes(name).values()) == ["R"] * count,
        told=hand.log_tail,
    )
    words: list[Json] = hand.status(name)["lastWords"]
    return words


@contextmanager
def another_scheduler(rig: Rig, *names: str) -> Iterator[None]:
    """Run a second real scheduler on the member, under another name, that never preempts."""
    directory = rig.state / "planes" / "full"
    config = directory / "another-scheduler.yaml"
    never = "{postFilter: {disabled: [{name: DefaultPreemption}]}}"
    profiles = "".join(f"  - schedulerName: {name}\n    plugins: {never}\n" for name in names)
    config.write_text(
        "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n"
        "leaderElection: {leaderElect: false}\n"
        f"clientConnection: {{kubeconfig: {directory / 'system:kube-scheduler.kubeconfig'}}}\n"
        f"profiles:\n{profiles}"
    )
    command = [str(rig.programs["kube-scheduler"]), f"--config={config}", "--secure-port=0"]
    with (rig.state / "logs" / "another-scheduler.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.wait(timeout=10)


def test_reclaim__normal_pod__the_members_scheduler_preempts(hand: ByHand) -> None:
    name = filled(hand)
    until("it runs", runs(an_owners_pod(hand, "normal", gpus=2)), told=hand.log_tail)
    words = reclaimed(hand, name, 2)
    assert {w["reason"] for w in words} == {"PreemptionByScheduler"}
    assert "SIGTERM with" in words[0]["message"]


def test_reclaim__class_that_never_preempts__the_agent_makes_room(hand: ByHand) -> None:
    name = filled(hand)
    until("it runs", runs(an_owners_pod(hand, "never", gpus=3, priorityClassName=NEVER)), told=hand.log_tail)
    words = reclaimed(hand, name, 3)
    assert {w["reason"] for w in words} == {"StoppedByAgent"}
    assert "a pod of the owner's waited for 3 nvidia.com/gpu; SIGTERM with 5 s grace" in words[0]["message"]


def test_reclaim__another_scheduler_that_never_preempts__the_agent_makes_room(
    hand: ByHand, reclaim_rig: Rig
) -> None:
    name = filled(hand)
    with another_scheduler(reclaim_rig, "second"):
        read = an_owners_pod(hand, "second", gpus=4, schedulerName="second")
        until("it runs", runs(read), told=hand.log_tail)
        words = reclaimed(hand, name, 4)
    assert {w["reason"] for w in words} == {"StoppedByAgent"}
    node = read()["spec"]["nodeName"]
    gone = {w["index"] for w in words}
    assert gone == (set(range(4)) if node == hand.nodes()[0] else set(range(10, 14)))


def test_reclaim__gated_pod__room_is_made_and_kept_until_the_gate_opens(hand: ByHand) -> None:
    name = filled(hand)
    read = an_owners_pod(hand, "gated", gpus=2, schedulingGates=[{"name": "example.com/wait"}])
    reclaimed(hand, name, 2)
    until("the hub is told of the room", lambda: hand.offered() == 6)
    assert not read()["spec"].get("nodeName")
    other = hand.place({node: (2, f"{i}") for i, node in enumerate(hand.nodes())}, annotations=LONG)
    until(
        "nothing starts in that room",
        lambda: {h["reason"] for h in hand.status(other).get("handedBack", ())} == {"NoRoom"},
    )
    assert len(hand.running()) == 6
    hand.member.merge(f"{PODS}/gated", {"spec": {"schedulingGates": None}})
    until("it runs", runs(read), told=hand.log_tail)
    assert sorted(hand.outcomes(name).values()) == ["R", "R"]


def test_reclaim__pod_that_no_node_could_ever_take__no_guest_goes(hand: ByHand) -> None:
    name = filled(hand)
    an_owners_pod(hand, "too-big", gpus=5, priorityClassName=NEVER)
    an_owners_pod(hand, "elsewhere", priorityClassName=NEVER, nodeSelector={"pool": "none"})
    # A third that can be served shows that the first two had their turn.
    until("it runs", runs(an_owners_pod(hand, "fits", priorityClassName=NEVER)), told=hand.log_tail)
    reclaimed(hand, name, 1)


def test_reclaim__agent_is_restarted_while_a_gated_pod_holds_room__no_more_guests_go(hand: ByHand) -> None:
    name = filled(hand)
    an_owners_pod(hand, "gated", gpus=2, schedulingGates=[{"name": "example.com/wait"}])
    reclaimed(hand, name, 2)
    hand.kill_agent()
    hand.start_agent()
    hand.change(name, released="2")
    until("the new agent acts", lambda: hand.outcomes(name).get(2) == "C", told=hand.log_tail)
    until("one takes that room, none the owner's", lambda: len(hand.running(name)) == 6, told=hand.log_tail)
    assert sorted(hand.outcomes(name).values()) == ["C", "R", "R"]
