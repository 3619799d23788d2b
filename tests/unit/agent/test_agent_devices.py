from __future__ import annotations

from typing import Any

import pytest

from fallow.agent.devices import Devices, read_devices
from fallow.agent.nodes import Node, read_node
from fallow.agent.observing import Observing, idle_devices
from fallow.agent.offering import Offering, provider_node
from fallow.agent.ripening import Ripening
from fallow.resources.offer import KeepFree, Observed
from fallow.resources.probe_report import Fault, NvLinks, ProbedDevice, ProbeReport
from fallow.resources.quote import Prices
from unit.agent.guest_pods import EPOCH, a_pod, at, stamp
from unit.agent.some_work import GPU, H100, a_node, an_offer, an_offering, an_owner


def a_device(index: int, **fields: Any) -> ProbedDevice:
    given = {"activity": "Idle", "idle_since": stamp(0), "memory_mib": 81_559, **fields}
    return ProbedDevice(index=index, uuid=f"GPU-{index}", product="NVIDIA H100 80GB HBM3", **given)


def a_report(*devices: ProbedDevice, **fields: Any) -> dict[str, str]:
    report = ProbeReport(**{"state": "Ready", "driver": "570.1", "devices": devices, **fields})
    return {"fallow.dev/probe": report.encode()}


def probed(*devices: ProbedDevice, **fields: Any) -> Node:
    found = read_devices(a_report(*devices, **fields))
    return a_node("n1", gpus=len(devices), devices=found)


XID = Fault(reason="Xid", message="XID 79: the GPU has fallen off the bus")
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "healthy and idle": ({}, ""),
    "busy with a pod": ({"activity": "Busy", "idle_since": None}, ""),
    "nothing known of its use": ({"activity": "Unknown", "idle_since": None}, ""),
    "not healthy": ({"healthy": False, "faults": (XID,)}, "not healthy (Xid: XID 79"),
    "used from the host": ({"activity": "HostUse", "idle_since": None}, "used from the host"),
}


@pytest.mark.parametrize("case", CASES)
def test_offering__probe_speaks_of_one_device__the_whole_node_follows(case: str) -> None:
    fields, why = CASES[case]
    offered = an_offering([probed(a_device(0), a_device(1, **fields))], [], an_offer())
    node = offered.nodes["n1"]
    assert (why in node.closed, bool(node.closed)) == (True, bool(why))
    assert node.vacate is False
    assert offered.accelerators == (0 if why else 2)
    if why:
        assert [(w.device, why in w.reason) for w in provider_node(node).withheld] == [("1 GPU-1", True)]
        reasons = {n.reason: n.count for n in offered.not_offered()}
        assert sum(reasons.values()) == 2
        assert any("a pod cannot choose its device" in reason for reason in reasons)


def test_offering__probe_cannot_look__node_is_closed_and_says_why() -> None:
    offered = an_offering([probed(state="NotHealthy", message="driver mismatch")], [], an_offer())
    assert "driver mismatch" in offered.nodes["n1"].closed


def test_read_devices__report_of_a_version_to_come__closes_the_node() -> None:
    found = read_devices({"fallow.dev/probe": '{"version":2,"state":"Ready"}'})
    assert found is not None
    assert "not understood" in found.closed


def test_read_node__with_a_report__probe_knows_memory_driver_and_links_better() -> None:
    linked = {"nvlink": NvLinks(links=18)}
    raw = {
        "metadata": {
            "name": "n1",
            "labels": {"nvidia.com/gpu.memory": "1", "nvidia.com/cuda.driver-version.full": "1"},
            "annotations": a_report(a_device(0, **linked), a_device(1, **linked)),
        },
        "status": {"allocatable": {GPU: "2"}},
    }
    node = read_node(raw)
    assert (node.accelerator_memory_mib, node.driver, node.interconnect) == (81_559, "570.1", "NVLink")
    assert node.product == H100


def test_not_offered__owner_holds_devices_that_idle__they_are_only_reported() -> None:
    node = probed(*(a_device(i) for i in range(4)))
    offered = an_offering([node], [an_owner("n1", gpus=3)], an_offer())
    assert offered.accelerators == 1
    assert [(n.count, n.reason) for n in offered.not_offered()] == [
        (3, "allocated to the owner's pods, and idle")
    ]


@pytest.mark.parametrize(("percent", "count", "want"), [(50, 0, 12), (10, 0, 21), (10, 5, 19), (100, 0, 0)])
def test_keep_free__in_percent__is_of_all_there_is_and_the_larger_counts(
    percent: int, count: int, want: int
) -> None:
    nodes = [a_node(n) for n in ("n1", "n2", "n3")]
    offered = an_offering(nodes, [], an_offer(keep_free=(KeepFree(percent=percent, count=count),)))
    assert offered.accelerators == want


def unripe(ripening: Ripening, seconds: float, *, used: int, guests: int = 0, **node: Any) -> int:
    """Return the devices of n1 that rest, with 10 s wanted, at a second by both clocks."""
    found, _ = ripening.unripe(
        [a_node("n1", **node)],
        [an_owner("n1", gpus=used)] if used else [],
        [a_pod(index=i).running(0).guest() for i in range(guests)],
        idle_for_seconds=10,
        monotonic=seconds,
        now=at(seconds),
    )
    return found.get("n1", {}).get(GPU, 0)


def test_ripening__owner_let_go__counts_from_the_last_moment_it_held() -> None:
    ripening = Ripening()
    assert unripe(ripening, 0, used=4) == 4  # nothing is known of the other four yet
    assert unripe(ripening, 10, used=4) == 0
    assert unripe(ripening, 60, used=1) == 3
    assert unripe(ripening, 65, used=2) == 2
    assert unripe(ripening, 69, used=0) == 4
    assert unripe(ripening, 71, used=0) == 2
    assert unripe(ripening, 79, used=0) == 0


def test_ripening__new_process__what_guests_hold_and_the_probe_saw_idle_is_ripe() -> None:
    devices = Devices(idle=3, idle_since=(stamp(-60), stamp(-60), stamp(-1)))
    assert unripe(Ripening(), 0, used=1, guests=2, devices=devices) == 3


def test_offering__devices_rest__are_withheld_with_the_reason_beside_keep_free() -> None:
    offer = an_offer(keep_free=(KeepFree(count=1),), idle_for_seconds=60)
    from fallow.agent.offering import offering

    offered: Offering = offering([a_node("n1")], [], offer, token_decimals=6, unripe={"n1": {GPU: 3}})
    assert offered.accelerators == 5
    assert [(n.count, n.reason) for n in offered.not_offered()] == [
        (2, "in use by the owner less than 60 s ago"),
        (1, "kept free for the owner"),
    ]


def test_idle_devices__observing__counts_what_would_be_offered_at_any_price() -> None:
    nodes = [a_node("n1"), a_node("n2", cordoned=True), a_node("n3", product="A100")]
    offer = an_offer(mode="Observe", images=(), prices=Prices(), keep_free=(KeepFree(count=2, product=H100),))
    found = idle_devices(nodes, [an_owner("n1", gpus=3)], offer, token_decimals=6)
    assert found == {(GPU, H100): 3, (GPU, "A100"): 8}
    assert an_offering(nodes, [], offer).accelerators == 0


def test_observing__an_hour_of_looks__sums_devices_hours_and_money() -> None:
    observing, offer = Observing(token_decimals=6), an_offer()  # 1.80 an hour
    key = (GPU, H100)
    for minute in range(61):
        now = at(minute * 60)
        observing.look({key: 4}, offer, selling=minute <= 30, monotonic=minute * 60, now=now)
    told = observing.told()[0]
    assert (told.observed_seconds, told.idle_device_seconds) == (3600, 14_400)
    assert told.would_have_earned == "3.6"  # half an hour of four
    hour = EPOCH.weekday() * 24 + EPOCH.hour
    assert told.idle_seconds_by_hour[hour : hour + 2] == (59 * 60 * 4, 240)


def test_observing__restarted__goes_on_and_does_not_count_the_gap() -> None:
    first = Observing(token_decimals=6)
    first.look({(GPU, H100): 1}, an_offer(), selling=True, monotonic=0, now=at(0))
    first.look({(GPU, H100): 1}, an_offer(), selling=True, monotonic=200, now=at(200))
    second = Observing(token_decimals=6)
    second.load(tuple(Observed.model_validate(o.wire()) for o in first.told()))
    second.look({(GPU, H100): 1}, an_offer(), selling=True, monotonic=1000, now=at(1000))
    second.look({(GPU, H100): 1}, an_offer(), selling=True, monotonic=2000, now=at(2000))
    assert second.told() == first.told()
    second.look({(GPU, H100): 1}, an_offer(), selling=True, monotonic=2100, now=at(2100))
    assert (second.told()[0].observed_seconds, second.told()[0].would_have_earned) == (300, "0.15")
