"""What to do next for one Placement: a pure function from what is known to decisions.

Every task ends in exactly one of two ways, and the record (the GuestSet's status) says which: *ended*, when
its pod was bound to a node, or *handed back*, when it never was. Decisions only ever add to the record; what
is in it is never decided again, and a pod may go only once the record has its task.

    start        a pod for a waiting task: in index order, at most `slots` of a share at once, room permitting
    stop         delete a pod that must not go on; its end is recorded when it has stopped
    ended        outcomes to record
    handed_back  tasks to record as never started, with the reason
    marks        seconds of running guests that have become final, with interval billing
    let_go       pods whose task is in the record: take the finalizer off, delete
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fallow.agent import intervals
from fallow.agent.admission import Refusal
from fallow.agent.guests import Guest
from fallow.agent.outcomes import Circumstances, Ending, ending_of, never_bound, overdue, vanished
from fallow.agent.site import Record, Room, Site
from fallow.agent.work import Share, Work
from fallow.resources.ended import Outcome
from fallow.resources.placement import HandedBack
from fallow.resources.ranges import EMPTY, IndexRanges

UNSCHEDULABLE_PATIENCE = timedelta(seconds=10)
"""How long the member's scheduler may say no before a task is handed back."""
GATED_PATIENCE = timedelta(seconds=120)
"""How long a queue of the member's (Kueue) may keep a guest."""
UNSCHEDULED_PATIENCE = timedelta(seconds=60)
"""How long it may say nothing at all."""

PREEMPTED = "it gave way to a job of higher priority"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Create the pod of one task."""

    index: int
    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Delete a pod."""

    guest: Guest
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """What to carry out: the record first, then pods, then the report."""

    start: tuple[Start, ...] = ()
    stop: tuple[Stop, ...] = ()
    ended: tuple[Ending, ...] = ()
    handed_back: tuple[HandedBack, ...] = ()
    let_go: tuple[Guest, ...] = ()
    marks: Mapping[int, int] = field(default_factory=dict)
    """By index: seconds that have become final, with interval billing."""
    next_mark_at: datetime | None = None
    running: int = 0
    """Guests that run, or ran and are not confirmed in the record yet: one report says both."""
    waiting: int = 0
    """Tasks that neither run nor are settled."""
    finished: bool = False
    """Whether every task is settled in the record; what is only decided here does not count yet."""


def decide(
    work: Work,
    record: Record,
    guests: Iterable[Guest],
    site: Site,
    *,
    room: Room,
    gone: bool = False,
    refusal: Refusal | None = None,
    missing: Iterable[Guest] = (),
    creating: Mapping[int, str] | None = None,
    uncreatable: Mapping[int, str] | None = None,
) -> Decisions:
    """Return what to do for one placement, and take the room of what starts.

    `gone`: the hub has no such Placement any more. `refusal`: why none of it may run here (any longer).
    `missing`: guests that were seen and are there no more although their task is not settled. `creating`:
    tasks whose pod is being created just now, with its node; they are neither waiting nor to be returned.
    `uncreatable`: tasks whose pod the member's API server refused, with what it said.
    """
    case = _Case(
        work=work,
        record=record,
        guests=tuple(guests),
        site=site,
        gone=gone,
        refusal=refusal,
        missing=tuple(missing),
        creating=creating or {},
        uncreatable=uncreatable or {},
    )
    return case.decisions(room)


@dataclass(slots=True, kw_only=True)
class _Case:
    """One decision under way."""

    work: Work
    record: Record
    guests: tuple[Guest, ...]
    site: Site
    gone: bool
    refusal: Refusal | None
    missing: tuple[Guest, ...]
    creating: Mapping[int, str]
    uncreatable: Mapping[int, str]
    settled: IndexRanges = EMPTY
    stops: list[Stop] = field(default_factory=list)
    endings: list[Ending] = field(default_factory=list)
    returned: list[HandedBack] = field(default_factory=list)
    let_go: list[Guest] = field(default_factory=list)
    alive: list[Guest] = field(default_factory=list)
    ending: int = 0

    def decisions(self, room: Room) -> Decisions:
        """1. what became of the pods there are  2. what never starts  3. what starts now."""
        self.settled = self.record.settled | self.record.being_recorded
        for guest in self.guests:
            self._look_at(guest)
        self._note_missing()
        busy = self._busy()
        waiting = self.work.tasks - self.settled - IndexRanges.of(busy)
        alive = {guest.index for guest in self.alive}
        for index, node in self.creating.items():
            if index in self.work.tasks and index not in alive:
                room.take(self.work, node)
        waiting = self._return_what_never_starts(waiting)
        starts = self._start(waiting, room) if waiting and self.site.may_start else ()
        running = self.ending + sum(1 for g in self.alive if g.started_at is not None)
        unsettled = len(self.work.tasks - self.record.settled)
        marked, next_mark_at = self._intervals()
        return Decisions(
            marks=marked,
            next_mark_at=next_mark_at,
            start=starts,
            stop=tuple(self.stops),
            ended=tuple(self.endings),
            handed_back=tuple(self.returned),
            let_go=tuple(self.let_go),
            running=running,
            waiting=max(0, unsettled - running),
            finished=not (self.work.tasks - self.record.settled),
        )

    def _intervals(self) -> tuple[Mapping[int, int], datetime | None]:
        """Return what has become final since the record was written, and when there is more."""
        interval = intervals.interval_of(self.work)
        if interval is None:
            return {}, None
        now = self.site.now
        counted = [
            guest
            for guest in self.alive
            if guest.index not in self.work.released and not self.site.lost(guest.node or guest.pinned_to)
        ]
        known = self.record.elapsed
        found = intervals.marks(counted, now=now, interval=interval)
        new = {index: seconds for index, seconds in found.items() if seconds > known.get(index, 0)}
        return new, intervals.next_mark_at(counted, now=now, interval=interval)

    def _look_at(self, guest: Guest) -> None:
        if guest.index in self.record.ended or guest.index in self.record.handed_back:
            self.let_go.append(guest)
            return
        if guest.index in self.record.being_recorded:
            self.ending += guest.started_at is not None
            return
        ending = ending_of(guest, self._circumstances(guest))
        if ending is not None:
            self.ending += guest.started_at is not None
            self._end(ending)
        elif never_bound(guest):
            self._give_back(IndexRanges.of([guest.index]), self._why_never(guest))
        else:
            self.alive.append(guest)
            why = self._why_stop(guest)
            if why and not guest.deleting:
                self.stops.append(Stop(guest=guest, why=why))

    def _busy(self) -> dict[int, str]:
        """Tasks that have a pod, or are about to, and on which node."""
        return {**self.creating, **{guest.index: guest.pinned_to for guest in self.alive}}

    def _note_missing(self) -> None:
        for guest in self.missing:
            if guest.index in self.settled:
                continue
            if guest.node is None:
                why = self._why_never(guest)
                self._give_back(IndexRanges.of([guest.index]), why)
            else:
                self._end(vanished(guest, self._circumstances(guest)))

    def _circumstances(self, guest: Guest) -> Circumstances:
        return Circumstances(
            now=self.site.now,
            stop_requested=bool(self._hub_stops(guest.index)),
            node_lost=self.site.lost(guest.node or guest.pinned_to),
            stopped_for=self.site.stopped.get(guest.uid, ""),
            gang_fate=self._gang_fate(),
        )

    def _hub_stops(self, index: int) -> str:
        if self.gone:
            return "its Placement is gone from the hub"
        if self.work.stopped:
            return f"the hub said Stop ({self.work.spec.stop_reason or 'no reason given'})"
        if index in self.work.released:
            return "the hub released it"
        if index in self.work.preempted:
            return PREEMPTED
        return ""

    def _gang_fate(self) -> Outcome | None:
        """How a gang ended, once one of its members has; None while all is well or it is no gang."""
        if not self.work.spec.gang:
            return None
        first = next(
            (e.outcome for e in self.record.ended.values() if e.outcome is not Outcome.SUCCEEDED), None
        )
        if first is None and self.record.handed_back:
            return Outcome.RECLAIMED
        return first

    def _why_stop(self, guest: Guest) -> str:
        why = self._hub_stops(guest.index)
        if why:
            return why
        if self.refusal is not None:
            return self.refusal.message
        if guest.uid in self.site.evicted:
            return self.site.evicted[guest.uid]
        if overdue(guest, now=self.site.now):
            return "it runs past its deadline"
        fate = self._gang_fate()
        if fate is not None:
            return f"its gang ended: {fate.word}"
        return self._why_no_node(guest)

    def _why_no_node(self, guest: Guest) -> str:
        if guest.node is not None:
            return ""
        since = guest.unschedulable_since
        if guest.gated:
            waited = self.site.now >= guest.created_at + GATED_PATIENCE
            return "the member's queue did not let it go in time" if waited else ""
        if guest.unschedulable and since and self.site.now >= since + UNSCHEDULABLE_PATIENCE:
            return guest.unschedulable
        if self.site.now >= guest.created_at + UNSCHEDULED_PATIENCE:
            return guest.unschedulable or "the member's scheduler has not looked at it"
        closed = self.site.closed(guest.pinned_to)
        return f"node {guest.pinned_to}: {closed}" if closed else ""

    def _why_never(self, guest: Guest) -> Refusal:
        if why := self._hub_stops(guest.index):
            released = not self.gone and not self.work.stopped
            if why == PREEMPTED:
                return Refusal(reason="Preempted", message=why)
            return Refusal(reason="Released" if released else "Stopped", message=why)
        if self.refusal is not None:
            return self.refusal
        if closed := self.site.closed(guest.pinned_to):
            return Refusal(reason="OfferClosed", message=f"Node {guest.pinned_to}: {closed}.")
        if self.work.spec.gang:
            return Refusal(reason="GangDidNotFit", message=guest.unschedulable)
        return Refusal(
            reason="NoRoom", message=guest.unschedulable or "Its pod was deleted before it had a node."
        )

    def _end(self, ending: Ending) -> None:
        if ending.ended.index not in self.settled:
            self.endings.append(ending)
            self.settled = self.settled | IndexRanges.of([ending.ended.index])

    def _give_back(self, tasks: IndexRanges, why: Refusal) -> None:
        tasks = tasks - self.settled
        if tasks:
            self.returned.append(HandedBack(tasks=str(tasks), reason=why.reason, message=why.message[:1024]))
            self.settled = self.settled | tasks

    def _return_what_never_starts(self, waiting: IndexRanges) -> IndexRanges:
        for tasks, why in self._never_starting(waiting):
            self._give_back(tasks, why)
        return waiting - self.settled

    def _never_starting(self, waiting: IndexRanges) -> Iterator[tuple[IndexRanges, Refusal]]:
        if self.gone or self.work.stopped:
            yield waiting, Refusal(reason="Stopped", message=self._hub_stops(-1))
            return
        yield waiting & self.work.released, Refusal(reason="Released", message="The hub released it.")
        yield waiting & self.work.preempted, Refusal(reason="Preempted", message=PREEMPTED)
        if self.refusal is not None:
            yield waiting, self.refusal
            return
        for index, said in self.uncreatable.items():
            tasks = waiting if self.work.spec.gang else waiting & IndexRanges.of([index])
            yield tasks, Refusal(reason="Refused", message=f"The member refused the pod: {said}")
        if self._gang_fate() is not None:
            yield waiting, Refusal(reason="GangDidNotFit", message="Its gang ended.")
            return
        for share in self.work.shares:
            closed = self.site.closed(share.node)
            if not closed:
                continue
            yield (
                waiting if self.work.spec.gang else waiting & share.tasks,
                Refusal(reason="OfferClosed", message=f"Node {share.node}: {closed}."),
            )

    def _start(self, waiting: IndexRanges, room: Room) -> tuple[Start, ...]:
        if self.work.spec.gang:
            return self._start_gang(waiting, room)
        starts: list[Start] = []
        on_node = Counter(self._busy().values())
        for share in self.work.shares:
            due = share.tasks & waiting
            if not due or not self.site.clear_for(self.work, share.node):
                continue
            begun = list(self._fill(share, due, slots=share.slots - on_node[share.node], room=room))
            starts += begun
            if not begun and not on_node[share.node]:
                message = f"Node {share.node} has no room for a task any more."
                self._give_back(due, Refusal(reason="NoRoom", message=message))
        return tuple(starts)

    def _fill(self, share: Share, due: IndexRanges, *, slots: int, room: Room) -> Iterator[Start]:
        for index in due.take(max(0, slots))[0]:
            if not room.take(self.work, share.node):
                return
            yield Start(index=index, node=share.node)

    def _start_gang(self, waiting: IndexRanges, room: Room) -> tuple[Start, ...]:
        """All of what is still missing, or nothing: what a crash interrupted is completed."""
        if not all(self.site.clear_for(self.work, share.node) for share in self.work.shares):
            return ()
        tried = room.copy()
        starts: list[Start] = []
        for share in self.work.shares:
            starts += self._fill(share, share.tasks & waiting, slots=len(share.tasks), room=tried)
        if len(starts) < len(waiting):
            self._give_back(
                waiting, Refusal(reason="GangDidNotFit", message="Not all of the gang's pods fit at once.")
            )
            return ()
        room.become(tried)
        return tuple(starts)
