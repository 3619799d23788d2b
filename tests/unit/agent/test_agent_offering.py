from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.agent.evictions import evictions
from fallow.agent.nodes import read_node, read_owner_pod
from fallow.agent.offering import Offering, lost_nodes, provider_node
from fallow.resources.offer import KeepFree, OfferSpec
from fallow.resources.quote import AcceleratorPrice, Prices
from unit.agent.guest_pods import a_pod, at, stamp
from unit.agent.some_work import GPU, H100, a_node, an_offer, an_offering, an_owner


def gpus(offered: Offering) -> dict[str, int]:
    return {name: o.offerable.accelerators.get(GPU, 0) for name, o in offered.nodes.items()}


def test_offering__owners_hold_some__they_always_count_first() -> None:
    offered = an_offering(
        [a_node("n1"), a_node("n2")], [an_owner("n1", gpus=3), an_owner("gone")], an_offer()
    )
    assert gpus(offered) == {"n1": 5, "n2": 8}
    assert offered.nodes["n1"].offerable.cpu_millicores == 63_000
    assert offered.nodes["n1"].offerable.pods == 109
    assert [(n.count, n.reason) for n in offered.not_offered()] == [(3, "in use by the owner's pods")]


def test_offering__owners_hold_too_much__nothing_negative_is_told() -> None:
    offered = an_offering([a_node("n1")], [an_owner("n1", gpus=8), an_owner("n1", gpus=2)], an_offer())
    assert provider_node(offered.nodes["n1"]).offerable.accelerators == {GPU: 0}


CLOSED: dict[str, tuple[dict[str, Any], str, bool]] = {
    "paused": ({"paused": True}, "paused", True),
    "the cage is not proven": ({"accept_unproven": ()}, "cage", True),
    "a price that the token cannot express": (
        {"prices": Prices(cpu_core_hour="0.0000001")},
        "spec.prices.cpuCoreHour",
        False,
    ),
    "paused with such a price": (
        {"paused": True, "prices": Prices(cpu_core_hour="0.0000001")},
        "paused",
        True,
    ),
    "no image allowed": ({"images": ()}, "image", True),
    "no account allowed": ({"accounts_allowed": ()}, "account", True),
}


@pytest.mark.parametrize("case", CLOSED)
def test_offering__member_is_closed__every_node_is_and_says_why(case: str) -> None:
    fields, word, vacate = CLOSED[case]
    offered = an_offering([a_node("n1")], [], an_offer(**fields))
    assert word in offered.closed
    assert gpus(offered) == {"n1": 0}
    assert offered.nodes["n1"].vacate is vacate


def test_offering__an_offer_nobody_edited__is_closed() -> None:
    assert an_offering([a_node("n1")], [], OfferSpec()).accelerators == 0


NODES: dict[str, tuple[dict[str, Any], str, bool]] = {
    "not ready": ({"ready": False}, "not ready", False),
    "cordoned": ({"cordoned": True}, "cordoned", True),
    "tainted": ({"taints": ("team",)}, "tainted team", False),
    "not selected": ({"labels": {"pool": "b"}}, "outside the Offer's node selector", True),
}


@pytest.mark.parametrize("case", NODES)
def test_offering__node_is_closed__says_why(case: str) -> None:
    fields, why, vacate = NODES[case]
    offered = an_offering([a_node("n1", **fields)], [], an_offer(node_selector={"pool": "a"}))
    node = offered.nodes["n1"]
    assert (node.closed, node.vacate, gpus(offered)) == (why, vacate, {"n1": 0})


def test_offering__product_without_price__is_withheld_with_the_reason() -> None:
    prices = Prices(accelerators=(AcceleratorPrice(product="NVIDIA-A100*", price_per_hour="1"),))
    offered = an_offering(
        [a_node("n1"), a_node("n2", product="NVIDIA-A100-40GB")], [], an_offer(prices=prices)
    )
    assert gpus(offered) == {"n1": 0, "n2": 8}
    assert offered.nodes["n1"].withheld[0].reason == f"no price for {GPU} of product {H100}"
    assert [(n.count, n.reason[:8]) for n in offered.not_offered()] == [(8, "no price")]


KEEP: dict[str, tuple[tuple[KeepFree, ...], dict[str, int]]] = {
    "a few come off the last node": ((KeepFree(count=3),), {"n1": 8, "n2": 8, "n3": 5}),
    "more than a node has": ((KeepFree(count=10),), {"n1": 8, "n2": 6, "n3": 0}),
    "more than there is": ((KeepFree(count=100),), {"n1": 0, "n2": 0, "n3": 0}),
    "of another product": ((KeepFree(product="AMD*", count=5),), {"n1": 8, "n2": 8, "n3": 8}),
    "two wishes that overlap are one": (
        (KeepFree(product=H100, count=3), KeepFree(count=4)),
        {"n1": 8, "n2": 8, "n3": 4},
    ),
}


@pytest.mark.parametrize("case", KEEP)
def test_keep_free__over_the_member__is_taken_from_the_last_nodes(case: str) -> None:
    wishes, want = KEEP[case]
    offered = an_offering([a_node(n) for n in ("n2", "n3", "n1")], [], an_offer(keep_free=wishes))
    assert gpus(offered) == want


def test_keep_free__idle_devices_outside_the_selector__count_first() -> None:
    nodes = [a_node("n1"), a_node("n2", labels={"pool": "b"})]
    offer = an_offer(node_selector={"pool": "a"}, keep_free=(KeepFree(count=10),))
    assert gpus(an_offering(nodes, [], offer)) == {"n1": 6, "n2": 0}


@given(
    held=st.lists(st.integers(0, 8), min_size=1, max_size=6),
    count=st.integers(0, 60),
)
@settings(max_examples=80, deadline=None)
def test_keep_free__any_owners__that_many_stay_free_and_no_device_is_counted_twice(
    held: list[int], count: int
) -> None:
    nodes = [a_node(f"n{i}") for i in range(len(held))]
    owners = [an_owner(f"n{i}", gpus=n) for i, n in enumerate(held)]
    offered = an_offering(nodes, owners, an_offer(keep_free=(KeepFree(count=count),)))
    free = sum(8 - n for n in held)
    assert offered.accelerators == max(0, free - count)
    not_offered = sum(entry.count for entry in offered.not_offered())
    assert offered.accelerators + not_offered == 8 * len(held)


def test_lost_nodes__not_ready_for_the_time__only_those() -> None:
    nodes = [
        a_node("fresh", ready=False, not_ready_since=at(50)),
        a_node("lost", ready=False, not_ready_since=at(45)),
        a_node("fine"),
    ]
    assert lost_nodes(nodes, now=at(60), after_seconds=15) == {"lost"}


def test_read_node__as_the_api_server_sends_it__keeps_what_counts() -> None:
    node = read_node(
        {
            "metadata": {
                "name": "n1",
                "labels": {"nvidia.com/gpu.product": H100, "nvidia.com/gpu.memory": "81559"},
            },
            "spec": {
                "unschedulable": True,
                "taints": [
                    {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"},
                    {"key": GPU, "effect": "NoSchedule"},
                    {"key": "team", "effect": "NoExecute"},
                    {"key": "soft", "effect": "PreferNoSchedule"},
                ],
            },
            "status": {
                "allocatable": {"cpu": "63500m", "memory": "1048577Ki", "pods": "110", GPU: "8"},
                "conditions": [{"type": "Ready", "status": "Unknown", "lastTransitionTime": stamp(3)}],
            },
        }
    )
    assert (node.product, node.accelerator_memory_mib, node.cordoned) == (H100, 81_559, True)
    assert (node.ready, node.not_ready_since, node.taints) == (False, at(3), ("team",))
    assert (node.allocatable.cpu_millicores, node.allocatable.memory_mib) == (63_500, 1024)
    assert node.allocatable.accelerators == {GPU: 8}


def test_read_owner_pod__only_bound_and_unfinished_ones__hold_anything() -> None:
    pod = {"spec": {"containers": [{"resources": {"limits": {GPU: "2"}}}]}, "status": {"phase": "Pending"}}
    assert read_owner_pod(pod) is None
    pod["spec"]["nodeName"] = "n1"  # type: ignore[index]
    found = read_owner_pod(pod)
    assert found is not None
    assert (found.node, found.requests.devices) == ("n1", {GPU: 2})
    pod["status"]["phase"] = "Succeeded"  # type: ignore[index]
    assert read_owner_pod(pod) is None


def some_guests(count: int, node: str = "n1") -> list[Any]:
    pods = [a_pod(index=i, node=node).running(0) for i in range(count)]
    for i, pod in enumerate(pods):
        pod.raw["metadata"]["creationTimestamp"] = stamp(i)
    return [pod.guest() for pod in pods]


def evicted(offered: Offering, guests: list[Any], max_guests: int = 100) -> list[str]:
    return sorted(evictions(offered, guests, max_guests=max_guests))


def test_evictions__nothing_changed__nobody_goes() -> None:
    assert evicted(an_offering([a_node("n1")], [], an_offer()), some_guests(8)) == []


def test_evictions__keep_free_grew__the_youngest_go() -> None:
    offered = an_offering([a_node("n1")], [], an_offer(keep_free=(KeepFree(count=3),)))
    assert evicted(offered, some_guests(7)) == ["uid-5-0", "uid-6-0"]


def test_evictions__one_goes_already__counts_as_gone() -> None:
    offered = an_offering([a_node("n1")], [], an_offer(keep_free=(KeepFree(count=3),)))
    guests = some_guests(6)
    guests[0] = a_pod(index=0).running(0).deleted(5).guest()
    assert evicted(offered, guests) == []


def test_evictions__devices_vanish_for_a_while__nobody_goes() -> None:
    """A kubelet that restarts shows no devices until its plugin is back."""
    assert evicted(an_offering([a_node("n1", gpus=0)], [], an_offer()), some_guests(4)) == []


def test_evictions__owner_pods_need_the_node__the_scheduler_takes_them() -> None:
    assert evicted(an_offering([a_node("n1")], [an_owner("n1", gpus=6)], an_offer()), some_guests(4)) == []


@pytest.mark.parametrize("fields", [{"paused": True}, {"node_selector": {"pool": "z"}}])
def test_evictions__node_is_excluded__all_of_it_goes(fields: dict[str, Any]) -> None:
    offered = an_offering([a_node("n1"), a_node("n2")], [], an_offer(**fields))
    assert len(evicted(offered, some_guests(3))) == 3


def test_evictions__node_is_not_ready__nobody_goes_yet() -> None:
    assert evicted(an_offering([a_node("n1", ready=False)], [], an_offer()), some_guests(3)) == []


def test_evictions__fewer_guests_allowed__the_youngest_go() -> None:
    assert evicted(an_offering([a_node("n1")], [], an_offer()), some_guests(4), 2) == ["uid-2-0", "uid-3-0"]
