"""An owner leaves: the Offer is paused, guests are waited for, nodes forget the probe."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from devkit.rig import ApiError, Rig
from fallow.agent.leaving import GuestsStay, clean_nodes, give_back_capacity
from fallow.kube.client import ApiServer
from fallow.resources.probe_report import PROBE_ANNOTATION

OFFER = "/apis/fallow.dev/v1alpha1/offers/default"
GUESTS = "/api/v1/namespaces/fallow-guests/pods"


async def test_leaving__when_a_guest_is_held__then_it_says_so_and_returns_once_that_has_gone(
    rig: Rig,
) -> None:
    owner = rig.members["aurora"].client()
    with contextlib.suppress(ApiError):
        owner.delete(OFFER)
    async with await ApiServer.connect(rig.members["aurora"].kubeconfig, name="member") as api:
        await give_back_capacity(api, namespace="fallow-guests", seconds=30)  # no Offer, no guests: done
        offer = {"apiVersion": "fallow.dev/v1alpha1", "kind": "Offer", "metadata": {"name": "default"}}
        owner.apply(OFFER, {**offer, "spec": {"images": ["*"]}})
        security = {"runAsNonRoot": True, "runAsUser": 1, "seccompProfile": {"type": "RuntimeDefault"}}
        container = {
            "name": "main",
            "image": "x",
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        metadata = {"name": "held", "finalizers": ["fallow.dev/outcome"]}
        spec = {"containers": [container], "securityContext": security}
        owner.post(GUESTS, {"metadata": metadata, "spec": spec})
        with pytest.raises(GuestsStay, match="held"):
            await give_back_capacity(api, namespace="fallow-guests", seconds=0.5)
        assert owner.get(OFFER)["spec"]["paused"] is True

        waiting = asyncio.create_task(give_back_capacity(api, namespace="fallow-guests", seconds=60))
        await asyncio.sleep(0)
        owner.delete(f"{GUESTS}/held", gracePeriodSeconds="0")
        assert not waiting.done()
        owner.merge(f"{GUESTS}/held", {"metadata": {"finalizers": None}})
        await waiting
    owner.delete(OFFER)


async def test_nodes__when_they_are_cleaned__then_only_the_probes_annotation_goes(rig: Rig) -> None:
    owner = rig.members["borealis"].client()
    node = "/api/v1/nodes/borealis-000"
    owner.merge(node, {"metadata": {"annotations": {PROBE_ANNOTATION: "{}", "example.test/mine": "stays"}}})
    async with await ApiServer.connect(rig.members["borealis"].kubeconfig, name="member") as api:
        assert await clean_nodes(api) == 1
        assert await clean_nodes(api) == 0
    annotations = owner.get(node)["metadata"]["annotations"]
    assert PROBE_ANNOTATION not in annotations
    assert annotations["example.test/mine"] == "stays"
    owner.merge(node, {"metadata": {"annotations": {"example.test/mine": None}}})
