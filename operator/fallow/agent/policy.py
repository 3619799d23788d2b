"""The owner's side of one cycle: the Offer in force, what is on offer, who waits, and who has to go for it.

Each of these is a pure function elsewhere; here they get what they need, in order, and what they gave last
time. All of it is memory of this process only: a new one finds the same from what is in view.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog
from pydantic import ValidationError

from fallow.agent.canaries import Canaries
from fallow.agent.evictions import evictions
from fallow.agent.guests import Guest
from fallow.agent.leftovers import Leftovers
from fallow.agent.nodes import Amounts
from fallow.agent.observing import Observing, idle_devices
from fallow.agent.offering import Offering, lost_nodes, offering
from fallow.agent.owner import OwnerReport
from fallow.agent.reclaim import Patience, Plan, plan
from fallow.agent.ripening import Ripening
from fallow.agent.schedule import hours
from fallow.agent.site import Room, Site
from fallow.agent.views import HubViews, MemberViews
from fallow.resources.offer import Observed, OfferSpec
from fallow.resources.quote import Prices
from fallow.settings import AgentSettings

log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class Policy:
    """What the owner wants, found anew in each cycle."""

    settings: AgentSettings
    token_decimals: int
    member: MemberViews
    hub: HubViews
    owner: OwnerReport
    canaries: Canaries
    monotonic: Callable[[], float]
    shut: str = ""
    """What the schedule, or an Offer that cannot be read, says against offering now."""
    offered: Offering | None = None
    """The latest; None before the first."""
    _offer: OfferSpec | None = None
    _offer_version: str = ""
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
    _leftovers: Leftovers | None = None
    _unclear: Mapping[str, frozenset[str]] = field(default_factory=dict)
    _barred: Mapping[str, str] = field(default_factory=dict)

    def current_offer(self) -> OfferSpec | None:
        """Return the Offer as written; None while none is in view (then a closed one is created)."""
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

    def make_room_for_owners(self, guests: list[Guest], *, now: datetime) -> float:
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

    def in_force(self, offer: OfferSpec, *, now: datetime) -> tuple[OfferSpec, float]:
        """Return the Offer with the prices of this moment, and the seconds until the schedule's next turn."""
        said = hours(offer, now=now)
        said = replace(said, why=self._problem) if self._problem else said
        if (said.why, said.prices) != (self.shut, self._prices):
            self.shut, self._prices = said.why, said.prices
            self.member.offering_stale = True
        changes_in = (said.until - now).total_seconds() if said.until is not None else float("inf")
        return offer.model_copy(update={"prices": said.prices}), changes_in

    def look_for_leftovers(self, guests: list[Guest]) -> float:
        """Note where device memory is not free yet; returns the seconds until the next look is due."""
        if self._leftovers is None:
            self._leftovers = Leftovers(monotonic=self.monotonic)
        self._unclear = self._leftovers.look(self.member.all_nodes(), guests)
        barred = self._leftovers.closed()
        if barred != self._barred:
            self._barred = barred
            self.member.offering_stale = True
        return 5.0 if self._unclear else float("inf")

    def offering(self, offer: OfferSpec, guests: list[Guest], *, now: datetime) -> Offering:
        """Return what is on offer, found anew where something changed or has been idle for long enough."""
        ripe = self.monotonic() >= self._ripe_at
        if self.offered is None or self.member.offering_stale or ripe:
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
            self.offered = offering(
                self.member.all_nodes(),
                owners,
                offer,
                token_decimals=self.token_decimals,
                shut=self.shut,
                unripe=unripe,
                cage=self.canaries.cage,
                barred=self._barred,
            )
            if offer.mode == "Observe":
                self._idle = idle_devices(
                    self.member.all_nodes(), owners, offer, token_decimals=self.token_decimals
                )
        return self.offered

    def ripe_in(self) -> float:
        """Return the seconds until some device has been idle for long enough."""
        return self._ripe_at - self.monotonic()

    def prove_cage(self, offer: OfferSpec, *, now: datetime) -> float:
        """Send canary guests where the cage is to be proven; returns the seconds until more is due."""
        return self.canaries.tell(offer, self.member.all_nodes(), now=now)

    def observe(self, offer: OfferSpec, *, now: datetime) -> Callable[[], tuple[Observed, ...]] | None:
        """Count what stands idle since the last cycle, when that is what the owner wants."""
        if self._observing is None:
            self._observing = Observing(token_decimals=self.token_decimals)
        if offer.mode != "Observe":
            self._observing.pause()
            return None
        self._observing.load(self.owner.observed())
        self._observing.look(self._idle, offer, selling=not self.shut, monotonic=self.monotonic(), now=now)
        return self._observing.told

    def site(
        self,
        offered: Offering,
        guests: list[Guest],
        offer: OfferSpec,
        *,
        now: datetime,
        stopped: Mapping[str, str],
    ) -> Site:
        """Return the member's side of this cycle's decisions; `stopped`: guests told to stop, and why."""
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
            stopped=stopped,
            unclear=self._unclear,
            evicted={
                **self._plan.vacated,
                **evictions(
                    offered,
                    (g for g in guests if g.uid not in self._plan.vacated),
                    max_guests=offer.max_guests,
                ),
            },
        )

    def room(self, offered: Offering, guests: list[Guest], offer: OfferSpec) -> Room:
        """Return what is free for guests on each node."""
        free: dict[str, Amounts] = {name: o.offerable for name, o in offered.nodes.items() if not o.closed}
        holding = [g for g in guests if not g.finished]
        for guest in holding:
            node = guest.node or guest.pinned_to
            if node in free:
                free[node] = free[node].minus(guest.requests)
        return Room(free, guests=offer.max_guests - len(holding))

    def _gangs(self) -> set[str]:
        """UIDs of placements that end as a whole."""
        found = {p["metadata"]["uid"] for p in self.hub.placements if p["spec"].get("gang")}
        records = (each["spec"] for each in self.member.guest_sets)
        return found | {
            spec["placementUid"]
            for spec in records
            if spec.get("gang") or (spec.get("placement") or {}).get("gang")
        }
