"""The cage as the member's API server has it: canaries, policies that follow the Offer, one agent only."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from devkit.rig import Rig, up
from devkit.rig.api import ApiError, Json
from devkit.rig.members import Member
from fallow.resources.offer import CAGE_CHECKS
from integration.by_hand import API, ByHand, until

POLICIES = "/apis/networking.k8s.io/v1/namespaces/fallow-guests/networkpolicies"
PODS = "/api/v1/namespaces/fallow-guests/pods"
MUTATING = "/apis/admissionregistration.k8s.io/v1"
LONG = {"rig.fallow.dev/run-seconds": "600"}
IMAGE = {"FALLOW_CANARY__IMAGE": "registry.example/fallow:1"}


@pytest.fixture(scope="module")
def cage_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with up(
        tmp_path_factory.mktemp("cage-rig"), members=[Member(name="solo", nodes=2)], with_fallow=False
    ) as rig:
        yield rig


@pytest.fixture(scope="module")
def hand(cage_rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ByHand]:
    stage = ByHand(cage_rig, "solo", tmp_path_factory.mktemp("by-hand"))
    stage.offer()
    stage.start_agent(**IMAGE)
    stage.until_quoted()
    yield stage
    stage.stop_agent()


def canary_says(hand: ByHand, reached: dict[str, str]) -> None:
    """Have the simulated nodes end canary guests with this message: what a real one would have found."""
    message = json.dumps({"version": 1, "reached": reached, "pids": 1024})
    expression = "Object{metadata: Object.metadata{annotations: {'rig.fallow.dev/result': %s}}}"
    policy: Json = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": "canary-says"},
        "spec": {
            "matchConstraints": {
                "resourceRules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": ["pods"],
                    }
                ],
                "objectSelector": {"matchLabels": {"fallow.dev/canary": "probe"}},
            },
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "mutations": [
                {
                    "patchType": "ApplyConfiguration",
                    "applyConfiguration": {"expression": expression % json.dumps(message)},
                }
            ],
        },
    }
    binding: Json = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": "canary-says"},
        "spec": {"policyName": "canary-says"},
    }
    hand.member.apply(f"{MUTATING}/mutatingadmissionpolicies/canary-says", policy)
    hand.member.apply(f"{MUTATING}/mutatingadmissionpolicybindings/canary-says", binding)
    until("the policy to be in force", lambda: _annotated(hand) == message, seconds=60)


def _annotated(hand: ByHand) -> str:
    """Return what the policy does to a pod that is not kept."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "dry", "labels": {"fallow.dev/canary": "probe"}},
        "spec": {"containers": [{"name": "x", "image": "x"}]},
    }
    path, query = "/api/v1/namespaces/default/pods", {"dryRun": "All"}
    answer = hand.member.request("POST", path, query=query, body=pod)
    return str(answer["metadata"].get("annotations", {}).get("rig.fallow.dev/result", ""))


def cage(hand: ByHand) -> tuple[str, str, str]:
    """Return the condition CageEnforced: status, reason, message."""
    status = hand.member.get(f"{API}/offers/default").get("status") or {}
    found: Json = next((c for c in status.get("conditions", ()) if c["type"] == "CageEnforced"), {})
    return found.get("status", ""), found.get("reason", ""), found.get("message", "")


def canaries(hand: ByHand) -> list[Json]:
    items: list[Json] = hand.member.get(PODS, labelSelector="fallow.dev/canary")["items"]
    return items


def test_canary__cage_holds__is_offered_only_then(hand: ByHand) -> None:
    canary_says(hand, {})
    hand.offer(accept_unproven=(), egress="Internet")
    until("proven", lambda: cage(hand)[:2] == ("True", "Proven"), seconds=60, told=hand.log_tail)
    until("all on offer", lambda: hand.offered() == 16, seconds=60, told=hand.log_tail)
    until("the canaries are gone", lambda: not canaries(hand), told=hand.log_tail)
    proof = hand.member.get(f"{API}/offers/default")["status"]["cage"]
    assert [(p["pool"], p.get("reached")) for p in proof] == [("NVIDIA-H100-80GB-HBM3", [])]


def test_canary__reaches_the_metadata_service__guests_go_and_the_owner_reads_what(hand: ByHand) -> None:
    hand.offer(accept_unproven=())
    until("on offer", lambda: hand.offered() == 16, seconds=60, told=hand.log_tail)
    name = hand.place({hand.nodes()[0]: (1, "0")}, annotations=LONG)
    until("a guest runs", lambda: hand.running(name))
    canary_says(hand, {"Metadata": "169.254.169.254:80 answers"})
    hand.offer(accept_unproven=(), egress="AllowList", egress_ranges=("8.8.8.8/32",))
    until("it is reached", lambda: cage(hand)[:2] == ("False", "Reached"), seconds=60, told=hand.log_tail)
    assert "Metadata (169.254.169.254:80 answers)" in cage(hand)[2]
    until("nothing is offered", lambda: hand.offered() == 0, told=hand.log_tail)
    hand.until_finished(name)
    assert hand.outcomes(name) == {0: "R"}
    hand.offer(accept_unproven=("Metadata",), egress="AllowList", egress_ranges=("8.8.8.8/32",))
    until("waived by name", lambda: hand.offered() == 16, told=hand.log_tail)
    until("it says so", lambda: cage(hand)[0] == "True", told=hand.log_tail)
    hand.delete(name)


def test_canary__leaves_no_message__nothing_is_offered_and_it_says_why(hand: ByHand) -> None:
    hand.member.delete(f"{MUTATING}/mutatingadmissionpolicybindings/canary-says")
    until("the policy is gone", lambda: _annotated(hand) == "", seconds=60)
    hand.offer(accept_unproven=(), egress="AllowList", egress_ranges=("9.9.9.9/32",))
    until("it says why", lambda: "it left no message" in cage(hand)[2], seconds=60, told=hand.log_tail)
    until("nothing is offered", lambda: hand.offered() == 0, told=hand.log_tail)
    hand.offer(accept_unproven=CAGE_CHECKS)
    until("all waived", lambda: hand.offered() == 16, told=hand.log_tail)


def test_egress__offer_changes__policies_follow_within_two_seconds(hand: ByHand) -> None:
    def policy(name: str) -> Any:
        try:
            return hand.member.get(f"{POLICIES}/{name}")["spec"]
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    hand.offer()
    gangs = {"matchLabels": {"fallow.dev/gang": "true"}}
    until("closed", lambda: policy("egress") is None and policy("names")["podSelector"] == gangs)
    assert policy("nothing-in-nothing-out")["policyTypes"] == ["Ingress", "Egress"]
    hand.offer(egress="Internet")
    changed = time.monotonic()
    until("open", lambda: policy("egress") is not None, seconds=60)
    took = time.monotonic() - changed
    blocks = policy("egress")["egress"][0]["to"]
    assert "169.254.0.0/16" in blocks[0]["ipBlock"]["except"]
    until("names, too", lambda: policy("names")["podSelector"] == {})
    hand.offer()
    until("closed again", lambda: policy("egress") is None, seconds=60)
    assert took < 2.0 * max(1.0, os.getloadavg()[0])  # 2 s, on a machine that has time


def test_pod__any_guest__is_bounded_on_disk(hand: ByHand) -> None:
    hand.offer(max_ephemeral_storage_mib=2048)
    name = hand.place({hand.nodes()[0]: (1, "0")}, annotations=LONG)
    until("a guest runs", lambda: hand.running(name), told=hand.log_tail)
    spec = hand.pods(name)[0]["spec"]
    assert spec["containers"][0]["resources"]["limits"]["ephemeral-storage"] == "2Gi"
    hand.delete(name)
    until("it is gone", lambda: not hand.pods())


def test_queue__offer_names_one__guests_carry_its_label_and_wait_for_their_gate(hand: ByHand) -> None:
    hand.offer(local_queue="idle")
    name = hand.place({hand.nodes()[0]: (1, "0")}, annotations=LONG)
    until("a guest runs", lambda: hand.running(name), told=hand.log_tail)
    assert hand.pods(name)[0]["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "idle"
    hand.delete(name)
    until("it is gone", lambda: not hand.pods())
    hand.offer()


def test_drain__kubectl__succeeds_within_grace_and_five_seconds(hand: ByHand, cage_rig: Rig) -> None:
    hand.offer(reclaim_grace_seconds=2)
    node = hand.nodes()[0]
    stopping = {**LONG, "rig.fallow.dev/stop-seconds": "2"}
    name = hand.place({node: (4, "0-3")}, annotations=stopping)
    until("all run", lambda: len(hand.running(name)) == 4, told=hand.log_tail)
    plane = cage_rig.members["solo"]
    started = time.monotonic()
    done = subprocess.run(
        [str(cage_rig.programs["kubectl"]), "drain", node, "--ignore-daemonsets", "--timeout=60s"],
        env={**os.environ, "KUBECONFIG": str(plane.kubeconfig)},
        capture_output=True,
        text=True,
    )
    took = time.monotonic() - started
    try:
        assert done.returncode == 0, done.stderr
        assert took < (2 + 5) * max(1.0, os.getloadavg()[0] / 2)  # on a machine that has time
        hand.until_finished(name)
        assert set(hand.outcomes(name).values()) == {"R"}
    finally:
        hand.member.merge(f"/api/v1/nodes/{node}", {"spec": {"unschedulable": None}})
        hand.delete(name)


def test_two_agents__one_runs__the_other_waits_until_it_ends(hand: ByHand, cage_rig: Rig) -> None:
    lease = "/apis/coordination.k8s.io/v1/namespaces/fallow-system/leases/fallow-agent"
    hand.offer()
    first = hand.member.get(lease)["spec"]["holderIdentity"]
    running = hand._agent
    hand.start_agent()
    try:
        until("the second waits", lambda: hand.log.read_text().count("[fallow.cli.run] program=agent") >= 2)
        name = hand.place({hand.nodes()[1]: (2, "0-5")}, annotations={"rig.fallow.dev/run-seconds": "1"})
        hand.until_finished(name)
        assert hand.member.get(lease)["spec"]["holderIdentity"] == first
    finally:
        assert running is not None
        running.kill()
        running.wait(timeout=10)
    until("the second acts", lambda: hand.member.get(lease)["spec"]["holderIdentity"] != first, seconds=30)
    name = hand.place({hand.nodes()[1]: (2, "0-1")}, annotations={"rig.fallow.dev/run-seconds": "1"})
    hand.until_finished(name)
