from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.agent.guests import Guest
from fallow.agent.nodes import Node, OwnerPod, Taint
from fallow.agent.outcomes import Circumstances, ending_of
from fallow.agent.reclaim import Patience, Plan, plan
from fallow.agent.waiting import WaitingPod, read_waiting_pod
from unit.agent.guest_pods import UID, a_pod, at
from unit.agent.some_work import GPU, a_node, an_owner


def a_waiting_pod(uid: str = "w", *, gpus: int = 1, **spec: Any) -> WaitingPod:
    raw = {
        "metadata": {"uid": uid, "creationTimestamp": "2026-03-01T12:00:00Z"},
        "spec": {"containers": [{"resources": {"limits": {GPU: str(gpus)}}}], **spec},
        "status": {"phase": "Pending"},
    }
    found = read_waiting_pod(raw)
    assert found is not None
    return found


def a_guest(index: int, node: str = "n1", *, since: float = 0, gpus: int = 1) -> Guest:
    return a_pod(index=index, node=node, gpus=gpus).running(since).guest()


def planned(
    waiting: Iterable[WaitingPod],
    nodes: Iterable[Node],
    guests: Iterable[Guest],
    *,
    owners: Iterable[OwnerPod] = (),
    due: Iterable[str] = ("w", "x"),
    before: Plan | None = None,
    gangs: Iterable[str] = (),
) -> Plan:
    return plan(
        waiting, set(due), nodes, owners, guests, before=before or Plan(), gangs=set(gangs), now=at(100)
    )


def test_plan__nothing_waits__nobody_goes() -> None:
    assert planned([], [a_node("n1")], [a_guest(0)]) == Plan()


def test_plan__room_beside_the_guests__is_held_and_nobody_goes() -> None:
    found = planned([a_waiting_pod()], [a_node("n1", gpus=2)], [a_guest(0)], due=())
    assert (found.places, found.vacated) == ({"w": "n1"}, {})
    assert [(p.node, p.requests.devices) for p in found.held] == [("n1", {GPU: 1})]


def test_plan__full_and_not_waited_long__the_scheduler_may_act_first() -> None:
    assert planned([a_waiting_pod()], [a_node("n1", gpus=1)], [a_guest(0)], due=()) == Plan()


COSTS: dict[str, tuple[int, list[Guest], list[str]]] = {
    "the youngest": (
        1,
        [a_guest(0, since=1), a_guest(1, since=90), a_guest(2, "n2", since=0, gpus=2)],
        ["uid-1-0"],
    ),
    "of two nodes the one that loses less": (
        2,
        [a_guest(0, since=95), a_guest(1, since=1), a_guest(2, "n2", since=50), a_guest(3, "n2", since=50)],
        ["uid-2-0", "uid-3-0"],
    ),
    "one small guest rather than one that holds more": (
        1,
        [a_guest(0, since=50, gpus=2), a_guest(1, "n2", since=50), a_guest(2, "n2", since=20)],
        ["uid-1-0"],
    ),
    "a large one alone where it frees all": (
        2,
        [a_guest(0, since=99), a_guest(1, since=1), a_guest(2, "n2", since=90, gpus=2)],
        ["uid-2-0"],
    ),
}


@pytest.mark.parametrize("case", COSTS)
def test_plan__full__those_go_that_lose_the_least_work(case: str) -> None:
    gpus, guests, want = COSTS[case]
    found = planned([a_waiting_pod(gpus=gpus)], [a_node("n1", gpus=2), a_node("n2", gpus=2)], guests)
    assert sorted(found.vacated) == want


def test_plan__a_gang_member_is_youngest__its_whole_gang_counts() -> None:
    gang = [a_guest(0, since=99), a_guest(1, "n2", since=10)]
    other = a_pod(index=5).running(50)
    other.raw["metadata"]["labels"]["fallow.dev/placement-uid"] = "other"
    nodes = [a_node("n1", gpus=2), a_node("n2", gpus=1)]
    found = planned([a_waiting_pod()], nodes, [*gang, other.guest()], gangs=[UID])
    assert list(found.vacated) == ["uid-5-0"]


def test_plan__guests_are_on_their_way_out__no_more_go() -> None:
    leaving = a_pod(index=0).running(0).deleted(99).guest()
    found = planned([a_waiting_pod()], [a_node("n1", gpus=2)], [leaving, a_guest(1)])
    assert (found.places, found.vacated) == ({"w": "n1"}, {})


def test_plan__asked_to_go_and_not_gone_yet__stays_the_same_plan() -> None:
    nodes = [a_node("n1", gpus=1), a_node("n2", gpus=1)]
    guests = [a_guest(0, since=50), a_guest(1, "n2", since=60)]
    first = planned([a_waiting_pod()], nodes, guests)
    assert list(first.vacated) == ["uid-1-0"]
    cheaper_now = [a_guest(0, since=99), guests[1]]
    assert planned([a_waiting_pod()], nodes, cheaper_now, before=first) == first


def test_plan__two_wait__each_gets_room_of_its_own() -> None:
    guests = [a_guest(i, since=i) for i in range(2)]
    found = planned([a_waiting_pod("w"), a_waiting_pod("x")], [a_node("n1", gpus=2)], guests)
    assert (sorted(found.vacated), len(found.held)) == (["uid-0-0", "uid-1-0"], 2)


def test_plan__the_scheduler_nominated_a_node__that_one_is_held() -> None:
    pod = a_waiting_pod()
    raw_nominated = WaitingPod(
        uid=pod.uid,
        created_at=pod.created_at,
        priority=0,
        requests=pod.requests,
        node_selector={},
        node_terms=None,
        tolerations=(),
        nominated="n2",
    )
    assert planned([raw_nominated], [a_node("n1"), a_node("n2")], []).places == {"w": "n2"}


def test_plan__owners_hold_all_of_it__no_guest_goes_in_vain() -> None:
    found = planned([a_waiting_pod(gpus=2)], [a_node("n1")], [a_guest(0)], owners=[an_owner("n1", gpus=7)])
    assert found == Plan()


def _affinity(*terms: Mapping[str, Any]) -> dict[str, Any]:
    required = {"nodeSelectorTerms": list(terms)}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}


def _by(key: str, operator: str, *values: str, kind: str = "matchExpressions") -> dict[str, Any]:
    return {kind: [{"key": key, "operator": operator, "values": list(values)}]}


TAINT = {"all_taints": (Taint("team", "a", "NoSchedule"),)}
PLACES: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "selector fits": ({"nodeSelector": {"pool": "a"}}, {}, True),
    "selector does not": ({"nodeSelector": {"pool": "b"}}, {}, False),
    "affinity In": (_affinity(_by("pool", "In", "a", "b")), {}, True),
    "affinity NotIn": (_affinity(_by("pool", "NotIn", "a")), {}, False),
    "affinity Exists": (_affinity(_by("pool", "Exists")), {}, True),
    "affinity DoesNotExist": (_affinity(_by("pool", "DoesNotExist")), {}, False),
    "affinity Gt": (_affinity(_by("size", "Gt", "3")), {"labels": {"size": "4"}}, True),
    "affinity Lt of no number": (_affinity(_by("pool", "Lt", "3")), {}, False),
    "affinity by name": (_affinity(_by("metadata.name", "In", "n1", kind="matchFields")), {}, True),
    "one of two terms is enough": (_affinity(_by("pool", "In", "z"), _by("pool", "Exists")), {}, True),
    "an empty term": (_affinity({}), {}, False),
    "no term": (_affinity(), {}, False),
    "taint": ({}, TAINT, False),
    "taint tolerated": (
        {"tolerations": [{"key": "team", "value": "a", "effect": "NoSchedule"}]},
        TAINT,
        True,
    ),
    "taint tolerated with another value": ({"tolerations": [{"key": "team", "value": "b"}]}, TAINT, False),
    "every taint tolerated": ({"tolerations": [{"operator": "Exists"}]}, TAINT, True),
    "the device's own taint": ({}, {"all_taints": (Taint(GPU, "", "NoSchedule"),)}, True),
    "cordoned": ({}, {"cordoned": True}, False),
    "not ready": ({}, {"ready": False}, False),
}


@pytest.mark.parametrize("case", PLACES)
def test_may_run_on__rules_of_pod_and_node__both_count(case: str) -> None:
    spec, node, want = PLACES[case]
    assert a_waiting_pod(**spec).may_run_on(a_node("n1", **node)) is want


@pytest.mark.parametrize(
    "change",
    [
        {"spec": {"nodeName": "n1"}},
        {"metadata": {"deletionTimestamp": "2026-03-01T12:00:00Z"}},
        {"status": {"phase": "Failed"}},
        {"spec": {"containers": [{"resources": {"limits": {"cpu": "1"}}}]}},
    ],
)
def test_read_waiting_pod__bound_going_over_or_without_devices__waits_for_nothing(
    change: dict[str, Any],
) -> None:
    raw: dict[str, Any] = {
        "metadata": {"uid": "w"},
        "spec": {"containers": [{"resources": {"limits": {GPU: "1"}}}]},
        "status": {"phase": "Pending"},
    }
    for part, fields in change.items():
        raw[part] = raw[part] | fields
    assert read_waiting_pod(raw) is None


def test_read_waiting_pod__gated__waits_all_the_same() -> None:
    assert a_waiting_pod(schedulingGates=[{"name": "example.com/wait"}]).uid == "w"


def test_patience__by_this_processs_clock__counts_from_first_sight() -> None:
    patience, pod = Patience(seconds=2), a_waiting_pod()
    assert patience.due([pod], monotonic=10) == (frozenset(), 2)
    assert patience.due([pod], monotonic=11.5) == (frozenset(), 0.5)
    assert patience.due([pod], monotonic=12) == (frozenset({"w"}), float("inf"))
    assert patience.due([], monotonic=13) == (frozenset(), float("inf"))
    assert patience.due([pod], monotonic=14) == (frozenset(), 2)


@given(
    held=st.lists(st.tuples(st.sampled_from(["n1", "n2", "n3"]), st.integers(1, 4)), max_size=10),
    wanted=st.lists(st.integers(1, 6), max_size=6),
    owned=st.integers(0, 8),
)
@settings(max_examples=150, deadline=None)
def test_plan__any_guests_and_pods__room_is_really_made_and_no_guest_goes_in_vain(
    held: list[tuple[str, int]], wanted: list[int], owned: int
) -> None:
    nodes = [a_node(n, gpus=8) for n in ("n1", "n2", "n3")]
    used = {n.name: 0 for n in nodes}
    guests = []
    for i, (name, count) in enumerate(held):
        if used[name] + count + (owned if name == "n1" else 0) <= 8:
            used[name] += count
            guests.append(a_guest(i, name, since=i, gpus=count))
    waiting = [a_waiting_pod(f"w{i}", gpus=n) for i, n in enumerate(wanted)]
    owners = [an_owner("n1", gpus=owned)] if owned else []
    found = planned(waiting, nodes, guests, owners=owners, due=[w.uid for w in waiting])
    for node in nodes:
        places = sum(p.requests.devices[GPU] for p in found.held if p.node == node.name)
        mine = [g for g in guests if g.node == node.name]
        staying = sum(g.requests.devices[GPU] for g in mine if g.uid not in found.vacated)
        free = 8 - (owned if node.name == "n1" else 0)
        assert places == 0 or staying + places <= free
        if any(g.uid in found.vacated for g in mine):
            assert places > 0
    without = sum(w.requests.devices[GPU] for w in waiting if w.uid not in found.places)
    if without:  # whoever got no place fits beside the others' places on no node, even without guests
        smallest = min(w.requests.devices[GPU] for w in waiting if w.uid not in found.places)
        for node in nodes:
            places = sum(p.requests.devices[GPU] for p in found.held if p.node == node.name)
            assert 8 - (owned if node.name == "n1" else 0) - places < smallest


SAID: dict[str, tuple[Any, str, tuple[str, str]]] = {
    "stopped by the agent": (
        a_pod().running(0).deleted(10, grace=5).ended(12, code=143),
        "a pod of the owner's waited for 1 nvidia.com/gpu",
        (
            "StoppedByAgent",
            "a pod of the owner's waited for 1 nvidia.com/gpu; SIGTERM with 5 s grace, ended after 2 s",
        ),
    ),
    "killed at the end of its grace": (
        a_pod().running(0).deleted(10, grace=5).ended(15, code=137),
        "",
        ("Deleted", "SIGTERM with 5 s grace, SIGKILL after 5 s"),
    ),
    "preempted by the scheduler": (
        a_pod().running(0).disrupted(10).deleted(10, grace=5).ended(11, code=0),
        "",
        ("PreemptionByScheduler", "SIGTERM with 5 s grace, ended after 1 s"),
    ),
}


@pytest.mark.parametrize("case", SAID)
def test_last_words__reclaimed__say_what_was_done(case: str) -> None:
    pod, why, want = SAID[case]
    ending = ending_of(pod.guest(), Circumstances(now=at(60), stopped_for=why))
    assert ending is not None
    assert ending.last_words is not None
    assert (ending.last_words.outcome, ending.ended.outcome.value) == ("Reclaimed", "R")
    assert (ending.last_words.reason, ending.last_words.message) == want
