"""The agent as a process of its own, against a real hub and a real member: pods, outcomes, faults."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import pytest

from devkit.rig import Rig, up
from devkit.rig.api import ApiError, Json
from devkit.rig.members import Member
from fallow.resources.offer import KeepFree
from integration.by_hand import ByHand, indexes, until

FALLOW = "/apis/fallow.dev/v1alpha1"
LEASES = "/apis/coordination.k8s.io/v1"
LONG = {"rig.fallow.dev/run-seconds": "600"}


@pytest.fixture(scope="module")
def agent_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A rig of its own: these tests stop its hub and lose its nodes."""
    with up(
        tmp_path_factory.mktemp("agent-rig"), members=[Member(name="solo", nodes=4)], with_fallow=False
    ) as rig:
        yield rig


@pytest.fixture(scope="module")
def stage(agent_rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ByHand]:
    stage = ByHand(agent_rig, "solo", tmp_path_factory.mktemp("by-hand"))
    yield stage
    stage.stop_agent()


@pytest.fixture
def hand(stage: ByHand) -> Iterator[ByHand]:
    """An open Offer and a running agent; what a test leaves behind is stopped."""
    stage.offer()
    if not stage.agent_runs:
        stage.start_agent()
    stage.until_quoted()
    until("four nodes on offer", lambda: stage.offered() == 32, told=stage.log_tail)
    yield stage
    for name in stage.placements():
        stage.delete(name)
    until("no guest left", lambda: not stage.pods(), told=stage.log_tail)


def test_tasks__succeed__are_reported_once_each_with_their_results(hand: ByHand) -> None:
    node = hand.nodes()[0]
    name = hand.place(
        {node: (8, "0-19")},
        annotations={"rig.fallow.dev/run-seconds": "1", "rig.fallow.dev/result": "r$(JOB_COMPLETION_INDEX)"},
        results="Inline",
    )
    status = hand.until_finished(name)
    assert set(hand.outcomes(name).values()) == {"S"}
    assert {r["index"]: r["value"] for r in status["results"]} == {i: f"r{i}" for i in range(20)}
    until("finished pods are gone", lambda: not hand.pods(name))


def test_slots__more_tasks_than_slots__never_exceeded(hand: ByHand) -> None:
    node = hand.nodes()[0]
    name = hand.place({node: (3, "0-8")}, annotations={"rig.fallow.dev/run-seconds": "0.7"})
    most = 0

    def finished() -> bool:
        nonlocal most
        most = max(most, len([p for p in hand.pods(name) if p["status"]["phase"] in ("Pending", "Running")]))
        return bool(hand.status(name).get("state") == "Finished")

    until("finished", finished)
    assert most == 3
    hand.check(name)


def test_exit_codes__some_tasks_fail__are_told_apart(hand: ByHand) -> None:
    node = hand.nodes()[0]
    name = hand.place(
        {node: (8, "0-4")},
        annotations={
            "rig.fallow.dev/run-seconds": "1",
            "rig.fallow.dev/exit-code": "3",
            "rig.fallow.dev/exit-code-indexes": "1,4",
            "rig.fallow.dev/result": "because",
        },
    )
    status = hand.until_finished(name)
    assert hand.outcomes(name) == {0: "S", 1: "F", 2: "S", 3: "S", 4: "F"}
    assert {(w["index"], w["exitCode"]) for w in status["lastWords"]} == {(1, 3), (4, 3)}
    for words in status["lastWords"]:  # these nodes keep no logs, and the report says that
        assert words["message"].startswith("because; its log cannot be had")


def test_timeout__task_runs_too_long__is_timed_out(hand: ByHand) -> None:
    name = hand.place({hand.nodes()[0]: (1, "0")}, annotations=LONG, timeout_seconds=2)
    hand.until_finished(name)
    assert hand.outcomes(name) == {0: "T"}


def test_unstartable__image_cannot_be_pulled__is_unstartable(hand: ByHand) -> None:
    annotations = {"rig.fallow.dev/unstartable": "InvalidImageName"}
    name = hand.place({hand.nodes()[0]: (1, "0")}, annotations=annotations)
    status = hand.until_finished(name)
    assert hand.outcomes(name) == {0: "U"}
    assert status["lastWords"][0]["reason"] == "InvalidImageName"


def test_pods__as_the_member_sees_them__keep_the_owners_rules(hand: ByHand) -> None:
    node = hand.nodes()[1]
    name = hand.place({node: (1, "5")}, annotations=LONG, timeout_seconds=300)
    until("the guest runs", lambda: hand.running(name))
    pod = hand.pods(name)[0]
    spec, metadata = pod["spec"], pod["metadata"]
    assert metadata["name"].endswith(f"-5-{hand.placement(name)['spec']['attempt']}")
    assert metadata["ownerReferences"][0]["uid"] == hand.guest_set(name)["metadata"]["uid"]
    assert (spec["priority"], spec["preemptionPolicy"], spec["nodeName"]) == (-1000, "Never", node)
    assert pod["status"]["qosClass"] == "Burstable"
    assert spec["activeDeadlineSeconds"] == 300
    assert spec["automountServiceAccountToken"] is False
    env = {e["name"]: e["value"] for e in spec["containers"][0]["env"]}
    assert env["JOB_COMPLETION_INDEX"] == "5"
    hand.change(name, desired="Stop", stopReason="JobDeleted")
    hand.until_finished(name)


def test_released__one_runs_and_one_waits__first_is_cancelled_second_handed_back(hand: ByHand) -> None:
    name = hand.place({hand.nodes()[0]: (2, "0-3")}, annotations=LONG)
    until("two run", lambda: indexes(hand.running(name)) == [0, 1])
    hand.change(name, released="1,3")
    until("the released one stops and the next starts", lambda: indexes(hand.running(name)) == [0, 2])
    until(
        "both are reported", lambda: hand.outcomes(name) == {1: "C"} and hand.status(name).get("handedBack")
    )
    assert [(h["tasks"], h["reason"]) for h in hand.status(name)["handedBack"]] == [("3", "Released")]
    hand.change(name, desired="Stop", stopReason="JobFinished")
    hand.until_finished(name)
    assert hand.outcomes(name) == {0: "C", 1: "C", 2: "C"}


def test_stop__before_most_have_started__rest_is_handed_back(hand: ByHand) -> None:
    name = hand.place({hand.nodes()[0]: (2, "0-9")}, annotations=LONG)
    until("two run", lambda: len(hand.running(name)) == 2)
    hand.change(name, desired="Stop", stopReason="JobSuspended")
    status = hand.until_finished(name)
    assert hand.outcomes(name) == {0: "C", 1: "C"}
    assert [(h["tasks"], h["reason"]) for h in status["handedBack"]] == [("2-9", "Stopped")]


def test_append__more_tasks_for_a_node__are_run_too(hand: ByHand) -> None:
    node = hand.nodes()[0]
    name = hand.place({node: (2, "0-1")}, annotations={"rig.fallow.dev/run-seconds": "1.5"})
    until("both run", lambda: len(hand.running(name)) == 2)
    hand.change(name, assignments=[{"node": node, "slots": 2, "tasks": "0-4"}])
    hand.until_finished(name)
    assert set(hand.outcomes(name)) == {0, 1, 2, 3, 4}


def test_placement_deleted__guests_run__are_stopped_and_the_record_stays(hand: ByHand) -> None:
    name = hand.place({hand.nodes()[0]: (2, "0-2")}, annotations=LONG)
    until("two run", lambda: len(hand.running(name)) == 2)
    record = hand.guest_set(name)
    hand.delete(name)
    until("no guest is left", lambda: not hand.pods(), told=hand.log_tail)
    path = f"{FALLOW}/namespaces/fallow-guests/guestsets/{record['metadata']['name']}"
    until("the record has all", lambda: len(_status(hand.member.get(path)).get("ended", ())) == 2)
    found = hand.member.get(path)
    assert [text.split(":")[3] for text in found["status"]["ended"]] == ["C", "C"]
    assert [(h["tasks"], h["reason"]) for h in found["status"]["handedBack"]] == [("2", "Stopped")]
    assert "goneAt" not in found["spec"], "it went soon after the last end, which the record has"


def test_node_lost__guests_run_there__are_lost_within_the_time(hand: ByHand) -> None:
    lost, other = hand.nodes()[2:4]
    name = hand.place({lost: (1, "0"), other: (1, "1")}, annotations=LONG)
    until("both run", lambda: len(hand.running(name)) == 2)
    try:
        hand.lose_node(lost)
        until("it is reported", lambda: hand.outcomes(name) == {0: "L"}, seconds=30, told=hand.log_tail)
        assert indexes(hand.running(name)) in ([1], [0, 1])
        until("the node is not offered", lambda: hand.offered() == 24)
    finally:
        hand.lose_node(lost, lost=False)
    hand.change(name, desired="Stop")
    hand.until_finished(name)
    until("all offered again", lambda: hand.offered() == 32)


def test_vanished__somebody_forces_a_pod_away__is_lost_and_not_run_again(hand: ByHand) -> None:
    name = hand.place({hand.nodes()[0]: (1, "0")}, annotations=LONG)
    until("it runs", lambda: hand.running(name))
    path = f"/api/v1/namespaces/fallow-guests/pods/{hand.pods(name)[0]['metadata']['name']}"
    hand.member.merge(path, {"metadata": {"finalizers": None}})
    hand.member.delete(path, gracePeriodSeconds="0")
    hand.until_finished(name)
    assert hand.outcomes(name)[0] in ("L", "R")


def test_owner_deletes_a_guest__it_runs__is_reclaimed(hand: ByHand) -> None:
    name = hand.place({hand.nodes()[0]: (1, "0")}, annotations=LONG)
    until("it runs", lambda: hand.running(name))
    hand.member.delete(f"/api/v1/namespaces/fallow-guests/pods/{hand.pods(name)[0]['metadata']['name']}")
    hand.until_finished(name)
    assert hand.outcomes(name) == {0: "R"}


def test_gang__fits__starts_whole_and_shares_its_fate(hand: ByHand) -> None:
    first, second = hand.nodes()[:2]
    name = hand.place({first: (1, "0"), second: (1, "1")}, gpus=8, gang=True, annotations=LONG)
    until("both run", lambda: len(hand.running(name)) == 2)
    _assert_they_can_meet(hand, name)
    pod = next(p for p in hand.pods(name) if p["metadata"]["labels"]["fallow.dev/index"] == "0")
    hand.member.delete(f"/api/v1/namespaces/fallow-guests/pods/{pod['metadata']['name']}")
    hand.until_finished(name)
    assert hand.outcomes(name) == {0: "R", 1: "R"}
    until("its Service and policy are gone", lambda: not any(_meeting_places(hand)), told=hand.log_tail)


def test_gang__agent_dies_before_its_service_is_made__starts_whole_all_the_same(hand: ByHand) -> None:
    first, second = hand.nodes()[:2]
    hand.kill_agent()
    name = hand.place({first: (1, "0"), second: (1, "1")}, gpus=8, gang=True, annotations=LONG)
    for _ in range(3):
        hand.start_agent()
        until("something of it is there", lambda: any(_meeting_places(hand)), told=hand.log_tail)
        hand.kill_agent()
    hand.start_agent()
    until("both run", lambda: len(hand.running(name)) == 2, told=hand.log_tail)
    _assert_they_can_meet(hand, name)
    assert len(hand.pods(name)) == 2


def _meeting_places(hand: ByHand) -> tuple[list[Json], list[Json]]:
    """Services and NetworkPolicies of gangs."""
    services = hand.member.get("/api/v1/namespaces/fallow-guests/services")["items"]
    policies = hand.member.get("/apis/networking.k8s.io/v1/namespaces/fallow-guests/networkpolicies")["items"]
    return services, [p for p in policies if p["metadata"]["name"].startswith("gang-")]


def _assert_they_can_meet(hand: ByHand, name: str) -> None:
    record, uid = hand.guest_set(name), hand.placement(name)["metadata"]["uid"]
    (service,), (policy,) = _meeting_places(hand)
    for each in (service, policy):
        assert each["metadata"]["ownerReferences"][0]["uid"] == record["metadata"]["uid"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert policy["spec"]["podSelector"] == {"matchLabels": {"fallow.dev/placement-uid": uid}}
    pods = hand.pods(name)
    assert {p["spec"]["hostname"] for p in pods} == {"rank-0", "rank-1"}
    assert {p["spec"]["subdomain"] for p in pods} == {service["metadata"]["name"]}
    slices = "/apis/discovery.k8s.io/v1/namespaces/fallow-guests/endpointslices"

    def found() -> set[str]:
        ends = [e for each in hand.member.get(slices)["items"] for e in each.get("endpoints") or ()]
        return {e.get("hostname", "") for e in ends}

    until("both can be found by name", lambda: found() >= {"rank-0", "rank-1"})


def test_gang__one_node_is_full__is_handed_back_whole(hand: ByHand) -> None:
    first, second = hand.nodes()[:2]
    busy = hand.place({second: (1, "0")}, gpus=8, annotations=LONG)
    until("the node is full", lambda: hand.running(busy))
    name = hand.place({first: (1, "0"), second: (1, "1")}, gpus=8, gang=True, annotations=LONG)
    status = hand.until_finished(name)
    assert [(h["tasks"], h["reason"]) for h in status["handedBack"]] == [("0-1", "GangDidNotFit")]
    assert not hand.pods(name)


def test_terms__price_is_not_the_quotes__is_refused(hand: ByHand) -> None:
    name = hand.place({hand.nodes()[0]: (1, "0-4")}, terms={"price_per_task_hour": "1.99"})
    status = hand.until_finished(name)
    accepted = next(c for c in status["conditions"] if c["type"] == "Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "Refused")
    assert "costs 2" in accepted["message"]
    assert [(h["tasks"], h["reason"]) for h in status["handedBack"]] == [("0-4", "Refused")]
    assert not hand.pods(name)


def test_pause__guests_run__quote_closes_and_they_are_reclaimed(hand: ByHand) -> None:
    name = hand.place({hand.nodes()[0]: (2, "0-3")}, annotations=LONG)
    until("two run", lambda: len(hand.running(name)) == 2)
    hand.offer(paused=True)
    assert hand.until_quoted(lambda quote: quote.closed).closed
    status = hand.until_finished(name)
    assert hand.outcomes(name) == {0: "R", 1: "R"}
    assert [(h["tasks"], h["reason"]) for h in status["handedBack"]] == [("2-3", "OfferClosed")]
    until("nothing is offered", lambda: hand.offered() == 0)
    offer = hand.member.get(f"{FALLOW}/offers/default")
    until(
        "the owner is told",
        lambda: "paused" in hand.member.get(f"{FALLOW}/offers/default")["status"]["message"],
    )
    assert offer["spec"]["paused"] is True


def test_owner_pod__needs_a_gpu_of_a_full_node__preempts_a_guest(hand: ByHand) -> None:
    node = hand.nodes()[3]
    name = hand.place({node: (8, "0-7")}, annotations=LONG)
    until("the node is full", lambda: len(hand.running(name)) == 8)
    owner = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "owners", "namespace": "default", "annotations": LONG},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "containers": [
                {"name": "main", "image": "x", "resources": {"limits": {"nvidia.com/gpu": "1"}}},
            ],
        },
    }
    hand.member.post("/api/v1/namespaces/default/pods", owner)
    path = "/api/v1/namespaces/default/pods/owners"
    try:
        until("the owner's pod runs", lambda: hand.member.get(path)["status"]["phase"] == "Running")
        until(
            "one guest is reclaimed", lambda: list(hand.outcomes(name).values()) == ["R"], told=hand.log_tail
        )
        until("it is not offered any more", lambda: hand.offered() == 31)
    finally:
        hand.member.delete(path, gracePeriodSeconds="0")
    until("it is offered again", lambda: hand.offered() == 32)


def test_keep_free__raised_on_a_full_node__youngest_guests_go(hand: ByHand) -> None:
    last = hand.nodes()[-1]
    name = hand.place({last: (8, "0-7")}, annotations=LONG)
    until("the node is full", lambda: len(hand.running(name)) == 8)
    hand.offer(keep_free=(KeepFree(count=3),))
    until("three go", lambda: sorted(hand.outcomes(name).values()) == ["R"] * 3, told=hand.log_tail)
    until("29 are offered", lambda: hand.offered() == 29)
    assert len(hand.running(name)) == 5


def test_kill__agent_dies_again_and_again__every_task_runs_once(hand: ByHand) -> None:
    nodes = hand.nodes()
    seen: dict[str, str] = {}
    name = hand.place(
        {nodes[0]: (8, "0-19"), nodes[1]: (8, "20-39")}, annotations={"rig.fallow.dev/run-seconds": "1"}
    )
    for pause in (0.2, 0.7, 1.1, 0.4, 0.9, 0.3):
        end = time.monotonic() + pause
        while time.monotonic() < end:
            _note_pods(hand, name, seen)
            time.sleep(0.02)
        hand.kill_agent()
        hand.start_agent()

    def finished() -> bool:
        _note_pods(hand, name, seen)
        return bool(hand.status(name).get("state") == "Finished")

    until("finished", finished, seconds=60, told=hand.log_tail)
    hand.check(name)
    assert set(hand.outcomes(name).values()) == {"S"}
    assert len(seen) >= 30  # most were seen by the poll; none under two UIDs


def test_agent_away__guests_finish_meanwhile__are_reported_on_return(hand: ByHand) -> None:
    name = hand.place({hand.nodes()[0]: (4, "0-3")}, annotations={"rig.fallow.dev/run-seconds": "2"})
    until("all run", lambda: len(hand.running(name)) == 4)
    assert hand.stop_agent() == 0
    until("all are finished and held", lambda: not hand.running(name) and len(hand.pods(name)) == 4)
    lease = hand.hub.get(f"{LEASES}/namespaces/provider-solo/leases/agent")
    assert lease["spec"]["leaseDurationSeconds"] == 120
    hand.start_agent()
    hand.until_finished(name)
    assert set(hand.outcomes(name).values()) == {"S"}


def test_hub_away__guests_run_and_finish__are_reported_on_its_return(hand: ByHand, agent_rig: Rig) -> None:
    name = hand.place({hand.nodes()[0]: (2, "0-5")}, annotations={"rig.fallow.dev/run-seconds": "2"})
    until("two run", lambda: len(hand.running(name)) == 2)
    uid = hand.placement(name)["metadata"]["uid"]
    agent_rig.processes.kill("hub.apiserver")
    path = f"{FALLOW}/namespaces/fallow-guests/guestsets/{uid.replace('-', '')[:16]}"
    until("all ran without the hub", lambda: len(_status(hand.member.get(path)).get("ended", ())) == 6)
    agent_rig.processes.start_again("hub.apiserver")
    until("the hub is back", lambda: _answers(hand), seconds=60)
    hand.until_finished(name, seconds=60)
    assert set(hand.outcomes(name).values()) == {"S"}


def test_offer__owner_deleted_it__a_closed_one_is_created_and_nothing_is_offered(hand: ByHand) -> None:
    offer = f"{FALLOW}/offers/default"
    hand.member.delete(offer)
    until("a new Offer", lambda: hand.member.get(offer), missing_ok=True)
    assert hand.until_quoted(lambda quote: quote.closed).closed
    until("nothing is offered", lambda: hand.offered() == 0)
    assert not hand.member.get(offer)["spec"].get("images")
    until("it says why", lambda: "waive" in _status(hand.member.get(offer)).get("message", ""))


def test_offer__account_is_refused_while_its_guests_run__they_go(hand: ByHand) -> None:
    name = hand.place({hand.nodes()[0]: (1, "0-1")}, annotations=LONG)
    until("one runs", lambda: hand.running(name))
    hand.offer(accounts_refused=(hand.payer,))
    status = hand.until_finished(name)
    assert hand.outcomes(name) == {0: "R"}
    assert [(h["tasks"], h["reason"]) for h in status["handedBack"]] == [("1", "OfferClosed")]


def test_record_deleted__by_the_owner_in_the_middle__nothing_runs_twice(hand: ByHand) -> None:
    node = hand.nodes()[0]
    name = hand.place({node: (2, "0-5")}, annotations={"rig.fallow.dev/run-seconds": "2"})
    until(
        "two have ended and two run", lambda: len(hand.outcomes(name)) == 2 and len(hand.running(name)) == 2
    )
    first = hand.outcomes(name)
    record = hand.guest_set(name)["metadata"]["name"]
    hand.member.delete(f"{FALLOW}/namespaces/fallow-guests/guestsets/{record}")
    hand.until_finished(name)
    outcomes = hand.outcomes(name)
    assert {index: outcomes[index] for index in first} == first
    assert set(outcomes.values()) == {"S", "R"}


def test_quota__member_refuses_the_pods__tasks_are_handed_back_with_its_words(hand: ByHand) -> None:
    quotas = "/api/v1/namespaces/fallow-guests/resourcequotas"
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none"},
        "spec": {"hard": {"requests.nvidia.com/gpu": "0"}},
    }
    hand.member.post(quotas, quota)
    try:
        path = f"{quotas}/none"
        until("the quota counts", lambda: _status(hand.member.get(path)).get("hard"), missing_ok=True)
        name = hand.place({hand.nodes()[0]: (2, "0-1")})
        status = hand.until_finished(name)
    finally:
        hand.member.delete(f"{quotas}/none")
    assert {h["reason"] for h in status["handedBack"]} == {"Refused"}
    assert "exceeded quota" in status["handedBack"][0]["message"]


def test_outbox__placement_is_gone_for_the_time__record_is_dropped(hand: ByHand) -> None:
    hand.stop_agent()
    hand.start_agent(FALLOW_GUESTS__OUTBOX_SECONDS="2", FALLOW_CYCLE__RESYNC_SECONDS="1")
    name = hand.place({hand.nodes()[0]: (1, "0")})
    hand.until_finished(name)
    record = hand.guest_set(name)["metadata"]["name"]
    hand.delete(name)
    records = f"{FALLOW}/namespaces/fallow-guests/guestsets"
    until("the record is dropped", lambda: record not in _names(hand.member.get(records)), told=hand.log_tail)
    hand.stop_agent()


def test_stop_agent__hub_is_away__ends_in_time_all_the_same(hand: ByHand, agent_rig: Rig) -> None:
    name = hand.place({hand.nodes()[0]: (1, "0")}, annotations=LONG)
    until("it runs", lambda: hand.running(name))
    agent_rig.processes.kill("hub.apiserver")
    try:
        assert hand.stop_agent() == 0
        assert hand.running() != []
        hand.start_agent()
        offer = f"{FALLOW}/offers/default"
        until("the owner is told", lambda: _condition(hand.member.get(offer), "HubReachable") == "False")
    finally:
        agent_rig.processes.start_again("hub.apiserver")
        until("the hub is back", lambda: _answers(hand), seconds=60)
    until("the owner is told", lambda: _condition(hand.member.get(offer), "HubReachable") == "True")
    assert hand.running(name) != []


def _names(listing: Json) -> list[str]:
    return [each["metadata"]["name"] for each in listing["items"]]


def _condition(obj: Json, kind: str) -> str:
    found = (c["status"] for c in _status(obj).get("conditions") or () if c["type"] == kind)
    return str(next(found, ""))


def _status(obj: Json) -> Json:
    status: Json = obj.get("status") or {}
    return status


def _answers(hand: ByHand) -> bool:
    """Whether the hub serves every kind again: after a start each kind's cache fills on its own."""
    try:
        for kind in ("placements", "quotes", "providernodes"):
            hand.hub.get(f"{hand.namespace}/{kind}")
        hand.hub.get(f"{LEASES}/namespaces/provider-solo/leases")
    except (OSError, ApiError):
        return False
    return True


def _note_pods(hand: ByHand, name: str, seen: dict[str, str]) -> None:
    """Note each pod's UID by name: a second UID under a name would be a task run twice. And slots hold."""
    live: Counter[str] = Counter()
    for pod in hand.pods(name):
        metadata = pod["metadata"]
        assert seen.setdefault(metadata["name"], metadata["uid"]) == metadata["uid"]
        live[metadata["annotations"]["fallow.dev/node"]] += pod["status"]["phase"] in ("Pending", "Running")
    assert all(count <= 8 for count in live.values()), live
