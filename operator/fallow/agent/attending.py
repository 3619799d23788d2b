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
    closed_records: dict[str, str] = field(default_factory=dict)
    """Records of placements that are gone and settled: UID → version, looked at no more."""

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
            yield work, book, self.records.guest_set(uid), False
        for guest_set in self.member.guest_sets:
            uid, version = guest_set["spec"]["placementUid"], guest_set["metadata"]["resourceVersion"]
            if uid not in seen and self.closed_records.get(uid) != version:
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
        told = (placement or {}).get("status") or {}
        if guest_set is None and told.get("state") == "Finished":
            return  # answered before; without a record there is nothing left to say
        seen = told.get("observedGeneration") == work.generation
        if told.get("state") == "Finished" and seen and not guests and not gone:
            self._part(work, book)
            return
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
        if gone and decisions.finished and not guests and guest_set and guest_set["spec"].get("goneAt"):
            self.closed_records[work.uid] = guest_set["metadata"]["resourceVersion"]
            return
        self._carry_out(decisions, work, book, guest_set, standing.offer, gone=gone)
        if placement is not None:
            self._report(placement, work, book)

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
        gone: bool,
    ) -> None:
        book.endings.update({e.ended.index: e for e in decisions.ended})
        book.returned.extend(decisions.handed_back)
        book.marks.update(decisions.marks)
        book.next_mark_at = decisions.next_mark_at
        for ending in decisions.ended:
            self.owner.count(ending)
        gone_at = self._gone_at(guest_set, gone=gone)
        if guest_set is not None:
            spec = guest_set["spec"]
            stale = spec["generation"] < work.generation or spec.get("goneAt") != gone_at
            if stale or book.endings or book.returned or book.marks:
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

    def _gone_at(self, guest_set: JSON | None, *, gone: bool) -> str | None:
        if guest_set is None:
            return None
        before: str | None = guest_set["spec"].get("goneAt")
        if not self.hub.placements.synced.is_set():
            return before
        return (before or rfc3339(self.now())) if gone else None

    def _report(self, placement: JSON, work: Work, book: Book) -> None:
        differs, news = self.records.differs(placement, book, self.records.guest_set(work.uid))
        if not differs:
            return
        if news or self.monotonic() >= book.reported_at + COUNTS_EVERY_SECONDS:
            book.reported_at = self.monotonic()
            self.records.report(work, book, news=news)
