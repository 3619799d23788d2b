"""One placement after the other: what is known of it goes into `decide`, and its decisions to the writers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from pydantic import ValidationError

from fallow.agent.admission import Refusal, StillAsking, offer_refusal, terms_refusal
from fallow.agent.books import Book, Books
from fallow.agent.contract_payers import ContractPayers
from fallow.agent.gangs import GangWrites
from fallow.agent.guests import Guest
from fallow.agent.isolation import offered_isolations
from fallow.agent.offering import Offering
from fallow.agent.outbox import droppable_at, went_late
from fallow.agent.owner import OwnerReport
from fallow.agent.pod_writes import PodWrites
from fallow.agent.pods import House, Owner
from fallow.agent.quoting import Identity
from fallow.agent.record_writes import RecordWrites
from fallow.agent.running import Decisions, decide
from fallow.agent.site import Room, Site
from fallow.agent.views import HubViews, MemberViews
from fallow.agent.work import Work
from fallow.kube.client import JSON
from fallow.kube.conditions import rfc3339
from fallow.resources.offer import OfferSpec
from fallow.settings import AgentSettings

log = structlog.get_logger(__name__)

COUNTS_EVERY_SECONDS = 1.0
"""A report that only says how many run is sent at most this often per placement."""
RECORD_EVERY_SECONDS = 0.5
"""What ended is recorded this often per placement, until its last task has."""
DROP_EVERY_SECONDS = 10.0
"""Records past their time are looked for this often: there may be a week's worth of them."""
LOOK_AGAIN_SECONDS = 1.0
"""A placement of which nothing changed is looked at this often: times pass, and writes may have failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What holds for every placement in one cycle."""

    offer: OfferSpec
    offered: Offering
    site: Site
    room: Room
    """What is free, as this cycle fills it."""


@dataclass(slots=True, kw_only=True)
class Attending:
    """All that attending to placements needs."""

    settings: AgentSettings
    identity: Identity
    member: MemberViews
    hub: HubViews
    books: Books
    pods: PodWrites
    gangs: GangWrites
    records: RecordWrites
    owner: OwnerReport
    contract_payers: ContractPayers
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    stopped: dict[str, str] = field(default_factory=dict)
    """Guests that were told to stop, and why: for their last words."""
    dropped_at: float = float("-inf")
    """When (by the loop's clock) records past their time were last looked for."""

    def each(self, by_placement: dict[str, list[Guest]], standing: Standing) -> set[str]:
        """Attend to every placement once; takes its guests out of `by_placement`. Returns the UIDs known."""
        known: set[str] = set()
        for work, book, guest_set, gone in self._placements():
            known.add(work.uid)
            here = by_placement.pop(work.uid, [])
            try:
                self._one(work, book, guest_set, here, standing, gone=gone)
            except Exception:  # a bug with one placement must not stop all the others
                log.exception("placement not decided", placement=work.name)
        return known

    def orphans(self, by_placement: dict[str, list[Guest]]) -> None:
        """Let go of guests of which neither hub nor record knows anything: somebody deleted the record."""
        if not self.hub.placements.synced.is_set():
            return
        for uid, guests in by_placement.items():
            for guest in guests:
                log.warning("guest without a record goes", pod=guest.name, placement_uid=uid)
                self.pods.let_go(guest, book=self.books[uid], namespace=self.settings.guests.namespace)

    def drop_old(self, needed: set[str]) -> None:
        """Drop the records whose time is over, but for those of `needed` placements; looks now and then."""
        if self.monotonic() < self.dropped_at + DROP_EVERY_SECONDS or not self.hub.placements.synced.is_set():
            return
        self.dropped_at, seconds = self.monotonic(), self.settings.guests.outbox_seconds
        for guest_set in self.member.guest_sets:
            uid = guest_set["spec"]["placementUid"]
            if uid not in needed and self.now() >= droppable_at(guest_set, outbox_seconds=seconds):
                self.records.drop(guest_set)
                self.member.moves.pop(uid, None)

    def _placements(self) -> Iterator[tuple[Work, Book, JSON | None, bool]]:
        """Every placement of the hub, then those of which only the record is left; oldest first."""
        seen: set[str] = set()
        for placement in self.hub.placements:
            uid = placement["metadata"]["uid"]
            seen.add(uid)
            book = self.books[uid]
            try:
                work = book.work_of_placement(placement)
            except ValidationError as error:
                log.error(
                    "Placement not understood", placement=placement["metadata"]["name"], error=str(error)
                )
                continue
            book.seen_on_hub = True
            yield work, book, self.records.guest_set(uid), False
        for uid, guest_set in list(self.member.open_records.items()):
            if uid not in seen:
                book = self.books[uid]
                yield book.work_of_guest_set(guest_set), book, guest_set, self.hub.placements.synced.is_set()

    def _one(
        self,
        work: Work,
        book: Book,
        guest_set: JSON | None,
        guests: list[Guest],
        standing: Standing,
        *,
        gone: bool,
    ) -> None:
        placement = self.hub.placements.get(work.name, namespace=work.namespace)
        basis = self._basis(work, book, placement, standing, gone=gone)
        quiet = not standing.site.evicted and not standing.site.lost_nodes
        quiet = quiet and (book.next_mark_at is None or standing.site.now < book.next_mark_at)
        lately = self.monotonic() < book.looked_at + LOOK_AGAIN_SECONDS
        if quiet and lately and basis == book.looked_for:
            self._hold_room(work, book, guests, standing)
            return
        book.looked_for, book.looked_at = basis, self.monotonic()
        told = (placement or {}).get("status") or {}
        if guest_set is None and told.get("state") == "Finished":
            return  # answered before; without a record there is nothing left to say
        seen = told.get("observedGeneration") == work.generation
        if told.get("state") == "Finished" and seen and not guests and not gone:
            self._part(work, book)
            return
        book.looked_for = ()
        try:
            book.refusal = self._refusal(work, book, standing, accepted=guest_set is not None)
        except StillAsking:
            if not gone and not work.stopped:
                return
            book.refusal = None  # nothing of it will run, whatever the answer
        book.released = work.released
        book.stopping = gone or work.stopped or book.refusal is not None
        decisions = decide(
            work,
            book.record(guest_set, placement),
            guests,
            standing.site,
            room=standing.room,
            gone=gone,
            refusal=book.refusal,
            missing=self.member.missing.get(work.uid, {}).values(),
            creating=book.creating,
            uncreatable=book.uncreatable,
        )
        book.running, book.waiting = decisions.running, decisions.waiting
        if decisions.finished and not guests and book.can_meet:
            self._part(work, book)
        gone_at = self._gone_at(guest_set, book, gone=gone)
        over = gone and decisions.finished and not guests
        if over and guest_set and gone_at == guest_set["spec"].get("goneAt"):
            self.member.open_records.pop(work.uid, None)
            return
        self._carry_out(decisions, work, book, guest_set, standing.offer, gone_at=gone_at)
        said = placement is None or self._report(placement, work, book)
        put_off = (book.endings or book.returned or book.marks) and not self.records.pending(work.uid)
        if said and not put_off:
            # NB: as things are after this look: what it began is not news to the next one.
            book.looked_for = self._basis(work, book, placement, standing, gone=gone)

    def _basis(
        self, work: Work, book: Book, placement: JSON | None, standing: Standing, *, gone: bool
    ) -> tuple[object, ...]:
        """Return what a decision rests on, but for the time: where it is the same, nothing needs deciding."""
        return (
            placement["metadata"]["resourceVersion"] if placement is not None else "",
            self.member.moves[work.uid],
            # Room that others leave is news to who waits for it.
            self.member.pod_moves if book.waiting > len(book.creating) else 0,
            standing.offered,
            standing.site.may_start,
            gone,
            len(book.creating),
            len(book.endings),
            len(book.returned),
            sum(book.marks.values()),
            len(book.uncreatable),
            book.can_meet,
        )

    def _hold_room(self, work: Work, book: Book, guests: list[Guest], standing: Standing) -> None:
        """Take the room of pods that are being created, as `decide` would."""
        if book.creating:
            there = {guest.index for guest in guests}
            for index, node in book.creating.items():
                if index not in there:
                    standing.room.take(work, node)

    def _part(self, work: Work, book: Book) -> None:
        """Take a gang's meeting place away once nobody is left to meet there."""
        if work.spec.gang and not book.has_met:
            self.gangs.close(work, book)

    def _refusal(self, work: Work, book: Book, standing: Standing, *, accepted: bool) -> Refusal | None:
        if not accepted and not book.terms_checked:
            book.terms_refusal = terms_refusal(
                work.spec,
                created_at=work.created_at,
                products={name: o.node.product for name, o in standing.offered.nodes.items()},
                identity=self.identity,
                ask_contract=lambda asked: self.contract_payers.refusal(
                    asked, trust_hub=standing.offer.trust_hub_for_contract_payers
                ),
            )
            book.terms_checked = True
            if book.terms_refusal is not None:
                log.warning("placement refused", placement=work.name, why=book.terms_refusal.message)
        return book.terms_refusal or offer_refusal(work.spec, standing.offer)

    def _carry_out(
        self,
        decisions: Decisions,
        work: Work,
        book: Book,
        guest_set: JSON | None,
        offer: OfferSpec,
        *,
        gone_at: str | None,
    ) -> None:
        book.endings.update({e.ended.index: e for e in decisions.ended})
        book.returned.extend(decisions.handed_back)
        book.marks.update(decisions.marks)
        book.next_mark_at = decisions.next_mark_at
        for ending in decisions.ended:
            self.owner.count(ending)
        if guest_set is not None:
            spec = guest_set["spec"]
            stale = spec["generation"] < work.generation or spec.get("goneAt") != gone_at
            news = book.endings or book.returned or book.marks
            if stale or (news and self._may_record(work, book)):
                book.recorded_at = self.monotonic()
                self.records.keep(work, book, gone_at=gone_at)
        elif decisions.start or decisions.ended or len(book.being_recorded) < len(work.tasks):
            self.records.keep(work, book, gone_at=None)
        namespace = self.settings.guests.namespace
        for stop in decisions.stop:
            self.stopped[stop.guest.uid] = stop.why
            self.pods.stop(stop, namespace=namespace, longest_grace_seconds=offer.reclaim_grace_seconds)
        for guest in decisions.let_go:
            self.pods.let_go(guest, book=book, namespace=namespace)
        if decisions.start and guest_set is not None:
            self._start(decisions, work, book, guest_set, offer)

    def _may_record(self, work: Work, book: Book) -> bool:
        """Say whether to write now what ended: the last at once, else the outcomes of a moment together.

        A record grows with its tasks, so one write for each outcome would cost their number squared. The pods
        wait, but not their slots.
        """
        if not book.left(work.tasks):
            return True
        return self.monotonic() >= book.recorded_at + RECORD_EVERY_SECONDS

    def _start(self, decisions: Decisions, work: Work, book: Book, guest_set: JSON, offer: OfferSpec) -> None:
        owner = Owner(
            name=guest_set["metadata"]["name"], uid=guest_set["metadata"]["uid"], placement_uid=work.uid
        )
        if work.spec.gang and not self.gangs.open(work, book, owner=owner.reference()):
            return
        house = House(
            namespace=self.settings.guests.namespace,
            priority_class=self.settings.guests.priority_class,
            max_run_seconds=offer.max_run_seconds,
            grace_seconds=offer.reclaim_grace_seconds,
            not_ready_seconds=int(self.settings.guests.node_not_ready_seconds),
            max_storage_mib=offer.max_ephemeral_storage_mib,
            isolations=offered_isolations(offer),
            runtime_class=offer.runtime_class,
            local_queue=offer.local_queue,
        )
        for start in decisions.start:
            self.pods.start(start, work=work, book=book, owner=owner, house=house)

    def _gone_at(self, guest_set: JSON | None, book: Book, *, gone: bool) -> str | None:
        """Return what the record is to say of when its Placement went (`outbox`)."""
        if guest_set is None:
            return None
        before: str | None = guest_set["spec"].get("goneAt")
        if not self.hub.placements.synced.is_set():
            return before
        if not gone:
            return None
        late = book.seen_on_hub and went_late(
            guest_set, now=self.now(), outbox_seconds=self.settings.guests.outbox_seconds
        )
        return before or (rfc3339(self.now()) if late else None)

    def _report(self, placement: JSON, work: Work, book: Book) -> bool:
        """Have told what is to be told; False when that is put off."""
        differs, news = self.records.differs(placement, book, self.records.guest_set(work.uid))
        if not differs:
            return True
        if news or self.monotonic() >= book.reported_at + COUNTS_EVERY_SECONDS:
            book.reported_at = self.monotonic()
            self.records.report(work, book, news=news)
            return True
        return False
