"""The agent's one cycle: from what is in view to decisions, and from these to writes.

    1. where the owner's waiting pods will go   reclaim: room held, guests vacated
    2. what is on offer now                     offering, Quote, ProviderNodes
    3. which guests the Offer does not cover    evictions
    4. each placement                           decide: start, stop, record, let go, report
    5. what the hub no longer wants             records past their time
    6. what the owner is told                   Offer.status

It is synchronous and does no I/O: writes are handed to bounded writers, whose answers enter the views and
wake the next cycle. Any cycle may be the last one of this process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog
from pydantic import ValidationError

from fallow.agent.admission import Refusal, offer_refusal, terms_refusal
from fallow.agent.books import Book, Books
from fallow.agent.evictions import evictions
from fallow.agent.guests import Guest
from fallow.agent.nodes import Amounts
from fallow.agent.observing import Observing, idle_devices
from fallow.agent.offering import Offering, lost_nodes, offering
from fallow.agent.outcomes import overdue_at
from fallow.agent.owner import OwnerReport
from fallow.agent.pod_writes import PodWrites
from fallow.agent.pods import House, Owner
from fallow.agent.quoting import Identity
from fallow.agent.reclaim import Patience, Plan, plan
from fallow.agent.record_writes import RecordWrites
from fallow.agent.ripening import Ripening
from fallow.agent.running import Decisions, Room, Site, decide
from fallow.agent.schedule import hours
from fallow.agent.supply import Supply
from fallow.agent.views import HubViews, MemberViews
from fallow.agent.work import Work
from fallow.kube.client import JSON
from fallow.kube.conditions import rfc3339
from fallow.resources.offer import Observed, OfferSpec
from fallow.resources.quote import Prices
from fallow.settings import AgentSettings

log = structlog.get_logger(__name__)

COUNTS_EVERY_SECONDS = 1.0
"""A report that only says how many run is sent at most this often per placement."""
ATTENTIVE_SECONDS = 1.0
"""Pause between cycles while something is due that no event announces."""


@dataclass(slots=True, kw_only=True)
class Cycle:
    """All that one cycle needs; `run` is called whenever something changed or came due."""

    settings: AgentSettings
    identity: Identity
    member: MemberViews
    hub: HubViews
    books: Books
    pods: PodWrites
    records: RecordWrites
    supply: Supply
    owner: OwnerReport
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    _offering: Offering | None = None
    _offer: OfferSpec | None = None
    _offer_version: str = ""
    _shut: str = ""
    """What the schedule says against offering now."""
    _prices: Prices = field(default_factory=Prices)
    _problem: str = ""
    """Why the Offer cannot be read."""
    _ripening: Ripening = field(default_factory=Ripening)
    _ripe_at: float = float("inf")
    """When (by the loop's clock) a device has been idle for long enough."""
    _observing: Observing | None = None
    _idle: dict[tuple[str, str], int] = field(default_factory=dict)
    """Idle accelerators by resource and product, while the Offer only observes."""
    _plan: Plan = field(default_factory=Plan)
    _patience: Patience | None = None
    _stopped: dict[str, str] = field(default_factory=dict)
    """Guests that were told to stop, and why: for their last words."""
    _closed_records: dict[str, str] = field(default_factory=dict)
    """Records of placements that are gone and settled: UID → version, looked at no more."""

    def run(self) -> float:
        """Look, decide and hand out writes once; returns the seconds until the next cycle is due anyhow."""
        now = self.now()
        offer = self._current_offer()
        if offer is None or not self.member.synced:
            return ATTENTIVE_SECONDS
        guests = list(self.member.guests())
        reclaim_in = self._make_room_for_owners(guests, now=now)
        offer, changes_in = self._in_force(offer, now=now)
        offered = self._current_offering(offer, guests, now=now)
        wait = min(reclaim_in, changes_in, self._ripe_at - self.monotonic())
        wait = min(wait, self.supply.tell(offer, offered, now=now, shut=self._shut))

        site = self._site(offered, guests, offer, now=now)
        room = self._room(offered, guests, offer)
        by_placement = _by_placement(guests)
        known: set[str] = set()
        for work, book, guest_set, gone in self._placements():
            known.add(work.uid)
            here = by_placement.pop(work.uid, [])
            try:
                self._one(work, book, guest_set, here, site, offer, room=room, gone=gone)
            except Exception:  # a bug with one placement must not stop all the others
                log.exception("placement not decided", placement=work.name)
        self._orphans(by_placement)
        self._forget(known)
        told = self.owner.tell(
            offered,
            offer,
            guests=sum(1 for g in guests if not g.finished),
            now=now,
            observed=self._observe(offer, now=now),
        )
        return min(wait, told, self._next_look(offered, guests, now=now))

    def _current_offer(self) -> OfferSpec | None:
        found = self.member.offers.get("default")
        if found is None:
            if self.member.offers.synced.is_set():
                self.owner.create_closed_offer()
            return None
        version = found["metadata"]["resourceVersion"]
        if version != self._offer_version:
            try:
                self._offer = OfferSpec.model_validate(found.get("spec") or {})
            except ValidationError as error:  # only a schema newer than this agent; then nothing is offered
                log.error("Offer not understood: closed", error=str(error))
                self._offer = OfferSpec()
                self._problem = f"The Offer is not understood: {error}"[:1000]
            else:
                self._problem = ""
            self._offer_version = version
        return self._offer

    def _make_room_for_owners(self, guests: list[Guest], *, now: datetime) -> float:
        """Plan for the owner's waiting pods; returns the seconds until one of them has waited too long."""
        if self._patience is None:
            self._patience = Patience(seconds=self.settings.guests.owner_wait_seconds)
        waiting = list(self.member.waiting_pods())
        due, wait = self._patience.due(waiting, monotonic=self.monotonic())
        before = self._plan
        self._plan = plan(
            waiting,
            due,
            self.member.all_nodes(),
            self.member.owner_pods(),
            guests,
            before=before,
            gangs=self._gangs() if waiting else (),
            now=now,
        )
        if self._plan.held != before.held:
            self.member.offering_stale = True
        return wait

    def _gangs(self) -> set[str]:
        """UIDs of placements that end as a whole."""
        found = {p["metadata"]["uid"] for p in self.hub.placements if p["spec"].get("gang")}
        records = (each["spec"] for each in self.member.guest_sets)
        return found | {spec["placementUid"] for spec in records if spec["placement"].get("gang")}

    def _in_force(self, offer: OfferSpec, *, now: datetime) -> tuple[OfferSpec, float]:
        """Return the Offer with the prices of this moment, and the seconds until the schedule's next turn."""
        said = hours(offer, now=now)
        said = replace(said, why=self._problem) if self._problem else said
        if (said.why, said.prices) != (self._shut, self._prices):
            self._shut, self._prices = said.why, said.prices
            self.member.offering_stale = True
        changes_in = (said.until - now).total_seconds() if said.until is not None else float("inf")
        return offer.model_copy(update={"prices": said.prices}), changes_in

    def _current_offering(self, offer: OfferSpec, guests: list[Guest], *, now: datetime) -> Offering:
        ripe = self.monotonic() >= self._ripe_at
        if self._offering is None or self.member.offering_stale or ripe:
            self.member.offering_stale = False
            owners = [*self.member.owner_pods(), *self._plan.held]
            unripe, wait = self._ripening.unripe(
                list(self.member.all_nodes()),
                owners,
                guests,
                idle_for_seconds=offer.idle_for_seconds,
                monotonic=self.monotonic(),
                now=now,
            )
            self._ripe_at = self.monotonic() + wait
            self._offering = offering(
                self.member.all_nodes(),
                owners,
                offer,
                token_decimals=self.identity.token_decimals,
                shut=self._shut,
                unripe=unripe,
            )
            if offer.mode == "Observe":
                self._idle = idle_devices(
                    self.member.all_nodes(), owners, offer, token_decimals=self.identity.token_decimals
                )
        return self._offering

    def _observe(self, offer: OfferSpec, *, now: datetime) -> Callable[[], tuple[Observed, ...]] | None:
        """Count what stands idle since the last cycle, when that is what the owner wants."""
        if self._observing is None:
            self._observing = Observing(token_decimals=self.identity.token_decimals)
        if offer.mode != "Observe":
            self._observing.pause()
            return None
        self._observing.load(self.owner.observed())
        self._observing.look(self._idle, offer, selling=not self._shut, monotonic=self.monotonic(), now=now)
        return self._observing.told

    def _site(self, offered: Offering, guests: list[Guest], offer: OfferSpec, *, now: datetime) -> Site:
        lost = lost_nodes(
            (o.node for o in offered.nodes.values()),
            now=now,
            after_seconds=self.settings.guests.node_not_ready_seconds,
        )
        return Site(
            now=now,
            nodes={name: o.closed for name, o in offered.nodes.items()},
            may_start=self.hub.placements.synced.is_set(),
            lost_nodes=lost,
            stopped=self._stopped,
            evicted={
                **self._plan.vacated,
                **evictions(
                    offered,
                    (g for g in guests if g.uid not in self._plan.vacated),
                    max_guests=offer.max_guests,
                ),
            },
        )

    def _room(self, offered: Offering, guests: list[Guest], offer: OfferSpec) -> Room:
        free: dict[str, Amounts] = {name: o.offerable for name, o in offered.nodes.items() if not o.closed}
        holding = [g for g in guests if not g.finished]
        for guest in holding:
            node = guest.node or guest.pinned_to
            if node in free:
                free[node] = free[node].minus(guest.requests)
        return Room(free, guests=offer.max_guests - len(holding))

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
            if uid not in seen and self._closed_records.get(uid) != version:
                book = self.books[uid]
                yield book.work_of_guest_set(guest_set), book, guest_set, self.hub.placements.synced.is_set()

    def _one(
        self,
        work: Work,
        book: Book,
        guest_set: JSON | None,
        guests: list[Guest],
        site: Site,
        offer: OfferSpec,
        *,
        room: Room,
        gone: bool,
    ) -> None:
        placement = self.hub.placements.get(work.name, namespace=work.namespace)
        told = (placement or {}).get("status") or {}
        if guest_set is None and told.get("state") == "Finished":
            return  # answered before; without a record there is nothing left to say
        seen = told.get("observedGeneration") == work.generation
        if told.get("state") == "Finished" and seen and not guests and not gone:
            return
        book.refusal = self._refusal(work, book, offer, accepted=guest_set is not None)
        book.released = work.released
        book.stopping = gone or work.stopped or book.refusal is not None
        decisions = decide(
            work,
            book.record(guest_set, placement),
            guests,
            site,
            room=room,
            gone=gone,
            refusal=book.refusal,
            missing=self.member.missing.get(work.uid, {}).values(),
            creating=book.creating,
            uncreatable=book.uncreatable,
        )
        book.running, book.waiting = decisions.running, decisions.waiting
        if gone and decisions.finished and not guests and guest_set and guest_set["spec"].get("goneAt"):
            self._closed_records[work.uid] = guest_set["metadata"]["resourceVersion"]
            return
        self._carry_out(decisions, work, book, guest_set, offer, gone=gone)
        if placement is not None:
            self._report(placement, work, book)

    def _refusal(self, work: Work, book: Book, offer: OfferSpec, *, accepted: bool) -> Refusal | None:
        if not accepted and not book.terms_checked:
            nodes = self._offering.nodes if self._offering is not None else {}
            book.terms_refusal = terms_refusal(
                work.spec,
                created_at=work.created_at,
                products={name: o.node.product for name, o in nodes.items()},
                identity=self.identity,
            )
            book.terms_checked = True
            if book.terms_refusal is not None:
                log.warning("placement refused", placement=work.name, why=book.terms_refusal.message)
        return book.terms_refusal or offer_refusal(work.spec, offer)

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
        for ending in decisions.ended:
            self.owner.count(ending)
        gone_at = self._gone_at(guest_set, gone=gone)
        if guest_set is not None:
            spec = guest_set["spec"]
            stale = spec["generation"] < work.generation or spec.get("goneAt") != gone_at
            if stale or book.endings or book.returned:
                self.records.keep(work, book, gone_at=gone_at)
        elif decisions.start or decisions.ended or len(book.being_recorded) < len(work.tasks):
            self.records.keep(work, book, gone_at=None)
        namespace = self.settings.guests.namespace
        for stop in decisions.stop:
            self._stopped[stop.guest.uid] = stop.why
            self.pods.stop(stop, namespace=namespace, longest_grace_seconds=offer.reclaim_grace_seconds)
        for guest in decisions.let_go:
            self.pods.let_go(guest, book=book, namespace=namespace)
        if guest_set is None:
            return
        owner = Owner(
            name=guest_set["metadata"]["name"], uid=guest_set["metadata"]["uid"], placement_uid=work.uid
        )
        house = House(
            namespace=namespace,
            priority_class=self.settings.guests.priority_class,
            max_run_seconds=offer.max_run_seconds,
            grace_seconds=offer.reclaim_grace_seconds,
            not_ready_seconds=int(self.settings.guests.node_not_ready_seconds),
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

    def _orphans(self, by_placement: dict[str, list[Guest]]) -> None:
        """Let go of guests of which neither hub nor record knows anything: somebody deleted the record."""
        if not self.hub.placements.synced.is_set():
            return
        for uid, guests in by_placement.items():
            for guest in guests:
                log.warning("guest without a record goes", pod=guest.name, placement_uid=uid)
                self.pods.let_go(guest, book=self.books[uid], namespace=self.settings.guests.namespace)

    def _forget(self, known: set[str]) -> None:
        """Drop records past their time, and memory of what is no more."""
        keep = timedelta(seconds=self.settings.guests.outbox_seconds)
        held = {g.placement_uid for g in self.member.guests()}
        present = {g.uid for g in self.member.guests()}
        self._stopped = {uid: why for uid, why in self._stopped.items() if uid in present}
        for guest_set in self.member.guest_sets:
            gone_at, uid = guest_set["spec"].get("goneAt"), guest_set["spec"]["placementUid"]
            if gone_at and uid not in held and self.now() >= datetime.fromisoformat(gone_at) + keep:
                self.records.drop(guest_set)
                self._closed_records.pop(uid, None)
        self.books.keep_only((known - self._closed_records.keys()) | held)
        self.member.missing = {uid: g for uid, g in self.member.missing.items() if uid in known}
        for book in self.books:
            book.leaving -= self.member.departed
        self.member.departed.clear()

    def _next_look(self, offered: Offering, guests: list[Guest], *, now: datetime) -> float:
        """Seconds until something may be due that no event announces."""
        longest = float(self.settings.cycle.resync_seconds)
        if any(book.endings or book.returned for book in self.books):
            longest = min(longest, ATTENTIVE_SECONDS)
        if any(not o.node.ready for o in offered.nodes.values()) and guests:
            longest = min(longest, ATTENTIVE_SECONDS)
        for guest in guests:
            if guest.started_at is None or guest.deleting:
                return min(longest, ATTENTIVE_SECONDS)
            due = overdue_at(guest)
            if due is not None and not guest.finished:
                longest = min(longest, max(ATTENTIVE_SECONDS, (due - now).total_seconds()))
        return longest


def _by_placement(guests: list[Guest]) -> dict[str, list[Guest]]:
    found: dict[str, list[Guest]] = {}
    for guest in guests:
        found.setdefault(guest.placement_uid, []).append(guest)
    return found
