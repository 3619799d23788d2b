from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fallow.agent.admission import Refusal
from fallow.agent.guests import Guest
from fallow.agent.reporting import read_record, recorded
from fallow.agent.running import Decisions, decide
from fallow.agent.site import Record, Room, Site
from fallow.resources.ended import Ended, Outcome
from fallow.resources.placement import Progress
from fallow.resources.ranges import EMPTY, IndexRanges
from unit.agent.guest_pods import a_pod
from unit.agent.some_work import KEY, a_site, some_room, some_work


def starts(decisions: Decisions) -> list[tuple[int, str]]:
    return [(start.index, start.node) for start in decisions.start]


def returned(decisions: Decisions) -> list[tuple[str, str]]:
    return [(entry.tasks, entry.reason) for entry in decisions.handed_back]


def letters(decisions: Decisions) -> dict[int, str]:
    return {e.ended.index: e.ended.outcome.value for e in decisions.ended}


def an_ended(index: int, outcome: Outcome = Outcome.SUCCEEDED) -> dict[int, Ended]:
    return {index: Ended(index, 0, 5, outcome)}


def running(index: int, node: str = "n1") -> Guest:
    return a_pod(index=index, node=node).running(0).guest()


def test_start__nothing_runs_yet__fills_each_nodes_slots_in_index_order() -> None:
    work = some_work({"n1": (2, "0-4"), "n2": (1, "5-9")})
    decisions = decide(work, Record(), [], a_site(), room=some_room())
    assert starts(decisions) == [(0, "n1"), (1, "n1"), (5, "n2")]
    assert (decisions.running, decisions.waiting, decisions.finished) == (0, 10, False)


def test_start__one_of_two_ended__the_next_index_takes_its_slot() -> None:
    work = some_work({"n1": (2, "0-4")})
    guests = [a_pod(index=0).ended(5).guest(), running(1)]
    decisions = decide(work, Record(), guests, a_site(), room=some_room())
    assert letters(decisions) == {0: "S"}
    assert starts(decisions) == [(2, "n1")]
    assert decisions.let_go == ()  # not before the record has it


def test_let_go__the_record_has_it__only_then() -> None:
    work = some_work({"n1": (2, "0-1")})
    guests = [a_pod(index=0).ended(5).guest(), running(1)]
    decisions = decide(work, Record(ended=an_ended(0)), guests, a_site(), room=some_room())
    assert [g.index for g in decisions.let_go] == [0]
    assert decisions.ended == ()


def test_being_recorded__not_confirmed_yet__is_neither_decided_again_nor_let_go() -> None:
    work = some_work({"n1": (1, "0-1")})
    record = Record(being_recorded=IndexRanges.of([0]))
    decisions = decide(work, record, [a_pod(index=0).ended(5).guest()], a_site(), room=some_room())
    assert (decisions.ended, decisions.let_go, starts(decisions)) == ((), (), [(1, "n1")])


def test_creating__a_pod_is_under_way__is_neither_started_again_nor_handed_back() -> None:
    work = some_work({"n1": (2, "0-2")}, released="0")
    decisions = decide(work, Record(), [], a_site(), room=some_room(), creating={0: "n1"})
    assert starts(decisions) == [(1, "n1")]
    assert returned(decisions) == []


def test_uncreatable__the_member_refused_the_pod__is_handed_back() -> None:
    work = some_work({"n1": (2, "0-2")})
    decisions = decide(work, Record(), [], a_site(), room=some_room(), uncreatable={1: "quota"})
    assert returned(decisions) == [("1", "Refused")]
    assert starts(decisions) == [(0, "n1"), (2, "n1")]


def test_room__less_than_slots__starts_what_fits_and_the_rest_waits() -> None:
    work = some_work({"n1": (8, "0-7")})
    decisions = decide(work, Record(), [], a_site(), room=some_room(gpus=3))
    assert len(decisions.start) == 3
    assert decisions.handed_back == ()


def test_room__none_and_nothing_runs__all_of_the_node_is_handed_back() -> None:
    work = some_work({"n1": (8, "0-7"), "n2": (1, "8")})
    room = some_room(nodes=("n2",))
    decisions = decide(work, Record(), [], a_site(), room=room)
    assert returned(decisions) == [("0-7", "NoRoom")]
    assert starts(decisions) == [(8, "n2")]


def test_room__none_left_while_some_run__the_rest_waits() -> None:
    work = some_work({"n1": (2, "0-7")})
    decisions = decide(work, Record(), [running(0)], a_site(), room=some_room(gpus=0))
    assert (starts(decisions), returned(decisions)) == ([], [])


def test_guests_allowed__reached__nothing_more_starts() -> None:
    work = some_work({"n1": (8, "0-7")})
    assert len(decide(work, Record(), [], a_site(), room=some_room(guests=2)).start) == 2


def test_not_synced__hub_not_seen_yet__nothing_starts_but_ends_are_recorded() -> None:
    work = some_work({"n1": (2, "0-4")})
    guests = [a_pod(index=0).ended(5).guest()]
    decisions = decide(work, Record(), guests, a_site(may_start=False), room=some_room())
    assert (starts(decisions), letters(decisions), returned(decisions)) == ([], {0: "S"}, [])


STOPS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "the hub says Stop": ({"desired": "Stop"}, {}, "Stopped"),
    "the Placement is gone": ({}, {"gone": True}, "Stopped"),
    "the Offer does not allow it any more": (
        {},
        {"refusal": Refusal(reason="OfferClosed", message="no")},
        "OfferClosed",
    ),
}


@pytest.mark.parametrize("case", STOPS)
def test_stop__some_run_some_wait__running_stop_and_waiting_are_handed_back(case: str) -> None:
    fields, more, reason = STOPS[case]
    work = some_work({"n1": (1, "0-3")}, **fields)
    decisions = decide(work, Record(), [running(0)], a_site(), room=some_room(), **more)
    assert [stop.guest.index for stop in decisions.stop] == [0]
    assert returned(decisions) == [("1-3", reason)]
    assert decisions.start == ()


def test_stop__asked_already__is_not_asked_again() -> None:
    work = some_work({"n1": (1, "0")}, desired="Stop")
    decisions = decide(
        work, Record(), [a_pod(index=0).running(0).deleted(3).guest()], a_site(), room=some_room()
    )
    assert (decisions.stop, decisions.ended) == ((), ())


def test_released__running_and_waiting__one_stops_one_is_handed_back_the_rest_goes_on() -> None:
    work = some_work({"n1": (2, "0-4")}, released="0,3")
    decisions = decide(work, Record(), [running(0), running(1)], a_site(), room=some_room())
    assert [stop.guest.index for stop in decisions.stop] == [0]
    assert returned(decisions) == [("3", "Released")]
    assert decisions.start == ()  # the released one still holds its slot


def test_released__ended_before__keeps_its_first_word() -> None:
    work = some_work({"n1": (2, "0")}, released="0")
    decisions = decide(work, Record(ended=an_ended(0)), [], a_site(), room=some_room())
    assert (decisions.ended, decisions.handed_back, decisions.finished) == ((), (), True)


def test_unbound__scheduler_says_no_for_long__is_stopped_then_handed_back() -> None:
    work = some_work({"n1": (1, "0")})
    waits = a_pod(index=0, node=None).unschedulable(2, "0/3 nodes are available")
    assert decide(work, Record(), [waits.guest()], a_site(seconds=11), room=some_room()).stop == ()
    decisions = decide(work, Record(), [waits.guest()], a_site(seconds=12), room=some_room())
    assert [stop.why for stop in decisions.stop] == ["0/3 nodes are available"]
    decisions = decide(work, Record(), [waits.deleted(12).guest()], a_site(seconds=13), room=some_room())
    assert returned(decisions) == [("0", "NoRoom")]
    assert "0/3 nodes" in decisions.handed_back[0].message


def test_closed_node__guest_waits_there__is_stopped_and_waiting_tasks_go_back() -> None:
    work = some_work({"n1": (1, "0-1"), "n2": (1, "2-3")})
    site = a_site(closed={"n1": "cordoned"})
    decisions = decide(work, Record(), [running(0)], site, room=some_room())
    assert returned(decisions) == [("1", "OfferClosed")]
    assert decisions.stop == ()  # what runs is the evictions' business
    assert starts(decisions) == [(2, "n2")]


def test_evicted__the_owner_wants_the_node__is_stopped() -> None:
    work = some_work({"n1": (1, "0")})
    guest = running(0)
    decisions = decide(work, Record(), [guest], a_site(evicted={guest.uid: "paused"}), room=some_room())
    assert [stop.why for stop in decisions.stop] == ["paused"]


@pytest.mark.parametrize("site", [a_site(lost_nodes=frozenset({"n1"})), a_site("n2")])
def test_lost_node__guest_runs_there__is_lost(site: Site) -> None:
    work = some_work({"n1": (1, "0")})
    assert letters(decide(work, Record(), [running(0)], site, room=some_room())) == {0: "L"}


def test_missing__pod_went_unrecorded__is_lost_and_not_started_again() -> None:
    work = some_work({"n1": (1, "0")})
    decisions = decide(work, Record(), [], a_site(), room=some_room(), missing=[running(0)])
    assert (letters(decisions), decisions.start) == ({0: "L"}, ())


def test_overdue__kubelet_does_not_end_it__is_stopped() -> None:
    work = some_work({"n1": (1, "0")})
    assert decide(work, Record(), [running(0)], a_site(seconds=104), room=some_room()).stop == ()
    assert len(decide(work, Record(), [running(0)], a_site(seconds=105), room=some_room()).stop) == 1


def test_gang__fits__starts_whole() -> None:
    work = some_work({"n1": (1, "0"), "n2": (1, "1")}, gang=True)
    assert starts(decide(work, Record(), [], a_site(), room=some_room())) == [(0, "n1"), (1, "n2")]


def test_gang__one_does_not_fit__is_handed_back_whole_and_takes_no_room() -> None:
    work = some_work({"n1": (1, "0"), "n2": (1, "1")}, gang=True)
    room = some_room(nodes=("n1",))
    decisions = decide(work, Record(), [], a_site(), room=room)
    assert (starts(decisions), returned(decisions)) == ([], [("0-1", "GangDidNotFit")])
    assert starts(decide(some_work({"n1": (8, "0-7")}), Record(), [], a_site(), room=room)) == [
        (i, "n1") for i in range(8)
    ]


def test_gang__a_crash_left_half_of_it__is_completed() -> None:
    work = some_work({"n1": (1, "0"), "n2": (1, "1")}, gang=True)
    assert starts(decide(work, Record(), [running(0)], a_site(), room=some_room())) == [(1, "n2")]


def test_gang__one_failed__others_are_stopped_and_share_its_fate() -> None:
    work = some_work({"n1": (1, "0"), "n2": (1, "1")}, gang=True)
    record = Record(ended=an_ended(0, Outcome.FAILED))
    assert len(decide(work, record, [running(1, "n2")], a_site(), room=some_room()).stop) == 1
    stopped = a_pod(index=1, node="n2").ended(6, code=143).deleted(5).guest()
    assert letters(decide(work, record, [stopped], a_site(), room=some_room())) == {1: "F"}


def test_gang__one_is_never_placed__the_started_ones_are_reclaimed() -> None:
    work = some_work({"n1": (1, "0"), "n2": (1, "1")}, gang=True)
    unbound = a_pod(index=1, node=None).unschedulable(0).deleted(11).guest()
    decisions = decide(work, Record(), [running(0), unbound], a_site(seconds=12), room=some_room())
    assert returned(decisions) == [("1", "GangDidNotFit")]
    record = Record(handed_back=IndexRanges.of([1]))
    decisions = decide(work, record, [running(0)], a_site(seconds=13), room=some_room())
    assert len(decisions.stop) == 1
    stopped = a_pod(index=0).ended(14, code=143).deleted(13).guest()
    assert letters(decide(work, record, [stopped], a_site(seconds=15), room=some_room())) == {0: "R"}


def test_counts__some_run_some_wait_some_ended__add_up_to_the_unsettled() -> None:
    work = some_work({"n1": (2, "0-9")})
    guests = [running(1), a_pod(index=2).guest()]
    decisions = decide(work, Record(ended=an_ended(0)), guests, a_site(), room=some_room())
    assert (decisions.running, decisions.waiting) == (1, 8)


def test_counts__one_ended_and_is_not_in_the_record_yet__still_counts_as_running() -> None:
    work = some_work({"n1": (2, "0-1")})
    guests = [a_pod(index=0).ended(5).guest(), running(1)]
    assert decide(work, Record(), guests, a_site(), room=some_room()).running == 2
    record = Record(being_recorded=IndexRanges.of([0]))
    assert decide(work, record, guests, a_site(), room=some_room()).running == 2
    assert decide(work, Record(ended=an_ended(0)), guests, a_site(), room=some_room()).running == 1


class APlacement(RuleBasedStateMachine):
    """One placement through anything that can happen to it, with a GuestSet that writes late or never.

    Promises: a task is settled once and never otherwise later; at most `slots` pods of a node at once; a pod
    goes only when the record has its task; and whatever happens, all ends in finitely many steps.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0
        self.pods: dict[int, Any] = {}
        self.creating: dict[int, str] = {}
        self.missing: dict[int, Guest] = {}
        self.pending: Decisions | None = None
        self.progress = Progress()
        self.history: dict[int, str] = {}
        self.created: list[int] = []
        self.fields: dict[str, Any] = {}
        self.gone = False
        self.closed: dict[str, str] = {}

    @initialize(slots=st.integers(1, 3), tasks=st.integers(1, 6))
    def place(self, slots: int, tasks: int) -> None:
        self.slots = slots
        self.tasks = tasks
        half = tasks // 2
        self.shares = {"n1": (slots, f"0-{half}")}
        if half + 1 < tasks:
            self.shares["n2"] = (slots, f"{half + 1}-{tasks - 1}")
        self.tasks = max(tasks, half + 1)

    def decide(self) -> Decisions:
        work = some_work(self.shares, **self.fields)
        record = read_record(self.progress, being_recorded=self._being_recorded())
        guests = [pod.guest() for pod in self.pods.values()]
        free = some_room()
        for guest in guests:
            if not guest.finished:
                free.take(work, guest.pinned_to)
        return decide(
            work, record, guests, a_site(seconds=self.seconds, closed=self.closed), room=free,
            gone=self.gone, missing=self.missing.values(), creating=self.creating,
        )  # fmt: skip

    def _being_recorded(self) -> IndexRanges:
        if self.pending is None:
            return EMPTY
        tasks = IndexRanges.of(e.ended.index for e in self.pending.ended)
        for entry in self.pending.handed_back:
            tasks = tasks | IndexRanges.parse(entry.tasks)
        return tasks

    @rule()
    def cycle(self) -> None:
        decisions = self.decide()
        for guest in decisions.let_go:
            assert guest.index in self.history
            self.pods.pop(guest.index)
        for stop in decisions.stop:
            self._delete(stop.guest.index)
        for start in decisions.start:
            assert start.index not in self.created, "a task was started twice"
            self.created.append(start.index)
            self.creating[start.index] = start.node
        if self.pending is None:
            self.pending = decisions

    @rule()
    def pods_are_created(self) -> None:
        for index, node in self.creating.items():
            self.pods[index] = a_pod(index=index, node=None)
            self.pods[index].raw["metadata"]["annotations"]["fallow.dev/node"] = node
        self.creating.clear()

    @rule()
    def the_record_is_written(self) -> None:
        if self.pending is None:
            return
        self.progress = recorded(
            self.progress, endings=self.pending.ended, returned=self.pending.handed_back,
            work=some_work(self.shares, **self.fields), key=KEY,
        )  # fmt: skip
        self.pending = None
        record = read_record(self.progress)
        now = {i: str(e) for i, e in record.ended.items()} | dict.fromkeys(record.handed_back, "handed back")
        for index, said in self.history.items():
            assert now[index] == said
        assert not set(record.ended) & set(record.handed_back)
        self.history = now

    @rule()
    def a_crash(self) -> None:
        """Forget everything that is not in an API server; creates that were under way did not happen.

        One thing is lost with it and known to be: a pod whose finalizer somebody took off, so that it went
        unrecorded, in the very moment of the crash. Its task runs again under the same attempt number; the
        record and the receipt still hold it once.
        """
        if self.missing.keys() - self.history.keys():
            return
        self.pending = None
        self.missing.clear()
        for index in list(self.creating):
            self.created.remove(index)
        self.creating.clear()

    @rule(seconds=st.integers(1, 40))
    def time_passes(self, seconds: int) -> None:
        self.seconds += seconds

    @rule()
    def the_scheduler_binds(self) -> None:
        for pod in self.pods.values():
            node = pod.raw["metadata"]["annotations"]["fallow.dev/node"]
            if "nodeName" not in pod.raw["spec"] and not pod.raw["metadata"].get("deletionTimestamp"):
                pod.raw["spec"]["nodeName"] = node
                pod.running(self.seconds)

    @rule(index=st.integers(0, 6), code=st.sampled_from([0, 3]))
    def a_guest_ends(self, index: int, code: int) -> None:
        pod = self.pods.get(index)
        if pod is not None and pod.raw["status"].get("phase") == "Running":
            pod.ended(self.seconds, started=max(0, self.seconds - 5), code=code)

    @rule(index=st.integers(0, 6))
    def the_owner_deletes(self, index: int) -> None:
        if index in self.pods:
            self._delete(index)

    @rule(index=st.integers(0, 6))
    def a_pod_vanishes(self, index: int) -> None:
        if index in self.pods:
            self.missing[index] = self.pods.pop(index).guest()

    @rule(index=st.integers(0, 6))
    def the_hub_releases(self, index: int) -> None:
        if index < self.tasks:
            known = IndexRanges.parse(self.fields.get("released", ""))
            self.fields["released"] = str(known | IndexRanges.of([index]))

    @rule()
    def the_node_closes(self) -> None:
        self.closed = {"n1": "cordoned"} if not self.closed else {}

    @precondition(lambda self: self.seconds > 60)
    @rule()
    def the_hub_stops(self) -> None:
        self.fields["desired"] = "Stop"

    @precondition(lambda self: self.seconds > 90)
    @rule()
    def the_placement_is_deleted(self) -> None:
        self.gone = True

    def _delete(self, index: int) -> None:
        pod = self.pods[index]
        if pod.raw["metadata"].get("deletionTimestamp"):
            return
        pod.deleted(self.seconds, grace=0)
        if pod.raw["status"].get("phase") == "Running":
            pod.ended(self.seconds, started=max(0, self.seconds - 5), code=143)

    @invariant()
    def slots_hold(self) -> None:
        for node in getattr(self, "shares", {}):
            there = [
                p for p in self.pods.values()
                if p.raw["metadata"]["annotations"]["fallow.dev/node"] == node and not p.guest().finished
                and not (p.guest().deleting and p.guest().node is None)
            ]  # fmt: skip
            coming = [n for n in self.creating.values() if n == node]
            assert len(there) + len(coming) <= self.slots

    def teardown(self) -> None:
        """Left alone, with a scheduler that binds and guests that end, all gets settled whatever happened."""
        if not hasattr(self, "shares"):
            return
        for _ in range(80):
            if len(self.history) == self.tasks and not self.pods:
                break
            self.cycle()
            self.pods_are_created()
            self.the_record_is_written()
            self.the_scheduler_binds()
            for index in range(7):
                self.a_guest_ends(index, 0)
            self.seconds += 10
        assert sorted(self.history) == list(range(self.tasks))
        assert not self.pods


TestAPlacement = APlacement.TestCase
TestAPlacement.settings = settings(max_examples=40, stateful_step_count=40, deadline=None, derandomize=True)


@given(gpus=st.integers(0, 8), slots=st.integers(1, 8), tasks=st.integers(1, 12))
@settings(max_examples=50, deadline=None)
def test_room__any_amount__is_never_overdrawn(gpus: int, slots: int, tasks: int) -> None:
    room: Room = some_room(gpus=gpus, nodes=("n1",))
    first = decide(some_work({"n1": (slots, f"0-{tasks - 1}")}), Record(), [], a_site(), room=room)
    second = decide(some_work({"n1": (slots, f"0-{tasks - 1}")}), Record(), [], a_site(), room=room)
    assert len(first.start) + len(second.start) <= gpus
    assert len(first.start) == min(gpus, slots, tasks)
