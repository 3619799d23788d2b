"""The owner changes the Offer, or a probe says something: what follows, at once, on a real member."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from devkit.rig import Rig, up
from devkit.rig.api import Json
from devkit.rig.members import Member
from fallow.resources.offer import DAYS, DayException, KeepFree, Schedule, Window
from fallow.resources.probe_report import PROBE_ANNOTATION, Fault, ProbedDevice, ProbeReport
from fallow.resources.quote import AcceleratorPrice, Prices
from integration.by_hand import API, ByHand, until

LONG = {"rig.fallow.dev/run-seconds": "600"}
AT_ONCE_SECONDS = 2.0


@pytest.fixture(scope="module")
def offer_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    members = [Member(name="owned", nodes=2, gpus_per_node=4)]
    with up(tmp_path_factory.mktemp("offer-rig"), members=members, with_fallow=False) as rig:
        yield rig


@pytest.fixture(scope="module")
def stage(offer_rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ByHand]:
    stage = ByHand(offer_rig, "owned", tmp_path_factory.mktemp("by-hand"))
    stage.offer()
    stage.start_agent()
    yield stage
    stage.stop_agent()


@pytest.fixture
def hand(stage: ByHand) -> Iterator[ByHand]:
    anew(stage)
    until("all is on offer", lambda: stage.offered() == 8, told=stage.log_tail)
    yield stage
    for name in stage.placements():
        stage.delete(name)
    until("no guest left", lambda: not stage.pods(), told=stage.log_tail)


def anew(hand: ByHand) -> None:
    """Put back what the fields of these tests were; a merge patch leaves nothing out by itself."""
    hand.offer(keep_free=(), mode="Offer", idle_for_seconds=0)
    hand.member.merge(f"{API}/offers/default", {"spec": {"schedule": None}})
    hand.until_quoted()


def at_once(what: str, condition: Callable[[], object], told: Callable[[], str]) -> None:
    started = time.monotonic()
    until(what, condition, told=told)
    assert time.monotonic() - started <= AT_ONCE_SECONDS, what


def status(hand: ByHand) -> Json:
    found: Json = hand.member.get(f"{API}/offers/default").get("status") or {}
    return found


def reasons(hand: ByHand) -> dict[str, int]:
    return {each["reason"]: each["count"] for each in status(hand).get("notOffered", ())}


def test_schedule__a_day_off_begins__closes_at_once_and_guests_are_reclaimed(hand: ByHand) -> None:
    name = hand.place({hand.nodes()[0]: (2, "0-3")}, annotations=LONG)
    until("two run", lambda: len(hand.running(name)) == 2)
    days = [(datetime.now(UTC) + timedelta(days=n)).date().isoformat() for n in (0, 1)]
    hand.offer(schedule=Schedule(exceptions=(DayException(day=days[0], last_day=days[1]),)))
    at_once("the Quote is closed", lambda: hand.quote().closed, hand.log_tail)
    hand.until_finished(name)
    assert hand.outcomes(name) == {0: "R", 1: "R"}
    until("the owner reads why", lambda: "they open" in status(hand)["message"], told=hand.log_tail)
    until("every device has that reason", lambda: sum(reasons(hand).values()) == 8)
    anew(hand)
    until("it is open again", lambda: hand.offered() == 8, told=hand.log_tail)


def test_schedule__window_with_prices__they_are_quoted_at_once(hand: ByHand) -> None:
    prices = Prices(accelerators=(AcceleratorPrice(price_per_hour="0.75"),))
    hand.offer(schedule=Schedule(windows=(Window(days=DAYS, prices=prices),)))
    at_once(
        "the night's price",
        lambda: hand.quote().prices.accelerators[0].price_per_hour == "0.75",
        hand.log_tail,
    )


def test_schedule__time_zone_that_nobody_knows__closes_and_says_so(hand: ByHand) -> None:
    hand.member.merge(f"{API}/offers/default", {"spec": {"schedule": {"timeZone": "Europe/Atlantis"}}})
    at_once("the Quote is closed", lambda: hand.quote().closed, hand.log_tail)
    until("the owner reads why", lambda: "Atlantis" in status(hand)["message"], told=hand.log_tail)


def test_keep_free__in_percent__drains_and_says_so(hand: ByHand) -> None:
    hand.offer(keep_free=(KeepFree(percent=25),))
    until("six are offered", lambda: hand.offered() == 6, told=hand.log_tail)
    until("the owner reads why", lambda: reasons(hand) == {"kept free for the owner": 2})


def test_observe__guests_run__they_go_and_what_stands_idle_is_measured(hand: ByHand) -> None:
    name = hand.place({hand.nodes()[0]: (1, "0-1")}, annotations=LONG)
    until("one runs", lambda: hand.running(name))
    hand.offer(mode="Observe")
    at_once("the Quote is closed", lambda: hand.quote().closed, hand.log_tail)
    hand.until_finished(name)
    assert hand.outcomes(name) == {0: "R"}
    until("it is listed", lambda: status(hand).get("observed"), told=hand.log_tail)
    until("some", lambda: status(hand)["observed"][0]["idleDeviceSeconds"] > 8, told=hand.log_tail)
    hand.stop_agent()
    hand.start_agent()
    first = status(hand)["observed"][0]["idleDeviceSeconds"]
    until("more of it", lambda: status(hand)["observed"][0]["idleDeviceSeconds"] > first, told=hand.log_tail)
    observed = status(hand)["observed"][0]
    assert observed["idleDeviceSeconds"] == pytest.approx(8 * observed["observedSeconds"], abs=8)
    assert sum(observed["idleSecondsByHour"]) == pytest.approx(observed["idleDeviceSeconds"], abs=2)
    earned = float(observed["wouldHaveEarned"])
    assert earned == pytest.approx(observed["idleDeviceSeconds"] * 2 / 3600, rel=0.1)


def test_probe__one_device_is_bad__node_takes_no_new_guests_and_keeps_its_old_ones(hand: ByHand) -> None:
    bad, good = hand.nodes()
    name = hand.place({bad: (1, "0")}, annotations=LONG)
    until("it runs", lambda: hand.running(name))
    fault = Fault(reason="Xid", message="XID 79: the GPU has fallen off the bus")
    devices = tuple(
        ProbedDevice(index=i, uuid=f"GPU-{i}", healthy=i != 2, faults=(fault,) if i == 2 else ())
        for i in range(4)
    )
    report = ProbeReport(state="Ready", driver="570.124", devices=devices)
    note = {"metadata": {"annotations": {PROBE_ANNOTATION: report.encode()}}}
    path = f"/api/v1/nodes/{bad}"
    hand.member.merge(path, note)
    try:
        until("only the other node is offered", lambda: hand.offered() == 4, told=hand.log_tail)
        shown = hand.hub.get(f"{hand.namespace}/providernodes/{bad}")["spec"]
        assert shown["driver"] == "570.124"
        assert [w["device"] for w in shown["withheld"]] == ["2 GPU-2"]
        assert "XID 79" in shown["withheld"][0]["reason"]
        until("the owner reads why", lambda: sum(reasons(hand).values()) == 4)
        other = hand.place({bad: (1, "0"), good: (1, "1")}, annotations=LONG)
        until("what may start does", lambda: len(hand.running(other)) == 1, told=hand.log_tail)
        until("the other is handed back", lambda: hand.status(other).get("handedBack"))
        handed = hand.status(other)["handedBack"][0]
        assert (handed["tasks"], handed["reason"]) == ("0", "OfferClosed")
        assert len(hand.running(name)) == 1
    finally:
        hand.member.merge(path, {"metadata": {"annotations": {PROBE_ANNOTATION: None}}})
    until("all is on offer", lambda: hand.offered() == 8, told=hand.log_tail)


def test_idle_for__owner_lets_go__is_offered_only_after_that_time(hand: ByHand) -> None:
    pods = "/api/v1/namespaces/default/pods"
    containers = [{"name": "main", "image": "x", "resources": {"limits": {"nvidia.com/gpu": "2"}}}]
    hand.member.post(
        pods, {"metadata": {"name": "owners", "annotations": LONG}, "spec": {"containers": containers}}
    )
    until("it is not offered", lambda: hand.offered() == 6)
    hand.offer(idle_for_seconds=8)
    # Of the time before the Offer asked nothing is known: all that is free has to rest first.
    until("six rest", lambda: _rests(hand) == 6, told=hand.log_tail)
    until("six are ripe", lambda: hand.offered() == 6 and not _rests(hand), told=hand.log_tail)
    hand.member.delete(f"{pods}/owners", gracePeriodSeconds="0")
    gone = time.monotonic()
    until("they rest", lambda: _rests(hand) == 2, told=hand.log_tail)
    until("all is offered", lambda: hand.offered() == 8, told=hand.log_tail)
    assert time.monotonic() - gone >= 8


def _rests(hand: ByHand) -> int:
    return sum(count for reason, count in reasons(hand).items() if "ago" in reason)
