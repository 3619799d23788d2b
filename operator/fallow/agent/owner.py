"""What the owner sees: Offer.status, and the agent's own metrics.

The Offer's spec is the owner's alone. Where none exists the agent creates a closed one, so that there is
something to edit; it never writes a spec again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any

import structlog
from prometheus_client import Counter, Gauge
from pydantic import ValidationError

from fallow.agent.bought_back import BoughtBack, sentence
from fallow.agent.cage import NOTHING_PROVEN, Cage, unproven_checks
from fallow.agent.guests import Guest
from fallow.agent.offering import Offering
from fallow.agent.outcomes import Ending
from fallow.agent.views import HubViews, MemberViews
from fallow.errors import AlreadyExists, Conflict, FallowError
from fallow.kube.client import ApiServer
from fallow.kube.compare_and_set import merge_patch, write_status
from fallow.kube.conditions import condition, merged, rfc3339
from fallow.kube.kinds import OFFER
from fallow.kube.writers import Writers
from fallow.resources.offer import OFFER_NAME, Observed, OfferSpec, OfferStatus, UsedDay
from fallow.telemetry import Telemetry

log = structlog.get_logger(__name__)

STATUS_EVERY_SECONDS = 2.0
OBSERVED_EVERY_SECONDS = 10.0
"""What was observed grows all the time; this is often enough to lose little at a restart."""
CONTACT_EVERY_SECONDS = 60.0
"""The time of the last contact alone is not worth more than one write a minute."""
_GROWING = {"lastContact", "usedDays", "boughtBack"}
"""What changes all the time: written once a minute, or with whatever else is."""


class OwnerReport:
    """Writes Offer.status and keeps the metrics."""

    def __init__(
        self,
        api: ApiServer,
        writers: Writers,
        views: MemberViews,
        hub: HubViews,
        *,
        telemetry: Telemetry,
        last_contact: Callable[[], datetime | None],
        hub_problem: Callable[[], str | None],
        monotonic: Callable[[], float],
        wake: Callable[[], None],
    ) -> None:
        self._api = api
        self._writers = writers
        self._views = views
        self._hub = hub
        self._last_contact = last_contact
        self._hub_problem = hub_problem
        self._monotonic = monotonic
        self._wake = wake
        self._next_at = 0.0
        self._offered: Offering | None = None
        self._offer = OfferSpec()
        self._observed: tuple[Observed, ...] | None = None
        self._observed_next_at = 0.0
        self._guests = 0
        self._use = BoughtBack()
        self._cage = NOTHING_PROVEN
        registry = telemetry.registry
        self._guest_gauge = Gauge(
            "fallow_agent_guests", "Guest pods that have not finished.", registry=registry
        )
        self._offered_gauge = Gauge(
            "fallow_agent_offered_accelerators",
            "Accelerators on offer, guests not subtracted.",
            registry=registry,
        )
        self._ended = Counter(
            "fallow_agent_ended", "Attempts that ended here, by outcome.", ["outcome"], registry=registry
        )

    def create_closed_offer(self) -> None:
        """Create an Offer that offers nothing, for the owner to edit."""

        async def create() -> None:
            try:
                made = await self._api.create(
                    OFFER, {"metadata": {"name": OFFER_NAME}, "spec": OfferSpec().wire()}
                )
            except AlreadyExists:
                return
            self._views.offers.apply(made)
            log.info("created a closed Offer", name=OFFER_NAME)

        if not self._writers.pending(("offer", "create")):
            self._writers.submit(("offer", "create"), create, on_done=self._told)

    def count(self, ending: Ending) -> None:
        """Count one attempt that ended."""
        self._ended.labels(ending.ended.outcome.word).inc()

    def observed(self) -> tuple[Observed, ...]:
        """Return what the status says was observed so far; nothing where it cannot be read."""
        status = (self._views.offers.get(OFFER_NAME) or {}).get("status") or {}
        try:
            return tuple(Observed.model_validate(each) for each in status.get("observed") or ())
        except ValidationError as error:
            log.warning("what was observed cannot be read: observing starts anew", error=str(error))
            return ()

    def tell(
        self,
        offered: Offering,
        offer: OfferSpec,
        *,
        guests: Collection[Guest],
        now: datetime,
        observed: Callable[[], tuple[Observed, ...]] | None = None,
        cage: Cage = NOTHING_PROVEN,
    ) -> float:
        """Write the status when it says something new; returns the seconds until it may be due anyhow.

        `observed` gives the totals of what stood idle, while the Offer only observes.
        """
        self._offered, self._offer, self._guests, self._cage = offered, offer, len(guests), cage
        self._count_use(offered, guests, now=now)
        if observed is not None and self._monotonic() >= self._observed_next_at:
            self._observed_next_at = self._monotonic() + OBSERVED_EVERY_SECONDS
            self._observed = observed()
        longest = CONTACT_EVERY_SECONDS if observed is None else OBSERVED_EVERY_SECONDS
        self._guest_gauge.set(len(guests))
        self._offered_gauge.set(offered.accelerators)
        found = self._views.offers.get(OFFER_NAME)
        if found is None or self._writers.pending(("offer", "status")):
            return longest
        before = found.get("status") or {}
        patch = merge_patch(before, self._status(found, now=now))
        if not (patch.keys() - _GROWING) and not self._contact_is_old(before, now=now):
            return longest
        wait = self._next_at - self._monotonic()
        if not patch or wait > 0:
            return wait if patch else longest
        self._next_at = self._monotonic() + STATUS_EVERY_SECONDS

        async def put() -> None:
            read = self._views.offers.get(OFFER_NAME)
            if read is not None:
                answer = await write_status(self._api, OFFER, read, self._status(read, now=now))
                self._views.offers.apply(answer)

        self._writers.submit(("offer", "status"), put, priority=8, on_done=self._told)
        return longest

    def _status(self, found: dict[str, Any], *, now: datetime) -> dict[str, Any]:
        offered = self._offered
        assert offered is not None
        spec = self._offer
        before = found.get("status") or {}
        problem = self._hub_problem()
        contact = self._last_contact()
        generation = found["metadata"]["generation"]
        why = offered.closed or next((n.reason for n in offered.not_offered()), "")
        conditions = merged(
            before.get("conditions"),
            [
                condition(
                    "Offering",
                    not offered.closed,
                    reason="Open" if not offered.closed else "Paused" if offered.paused else "Closed",
                    message=offered.closed,
                    observed_generation=generation,
                ),
                _cage_condition(self._cage, spec, observed_generation=generation),
                condition(
                    "HubReachable",
                    problem is None,
                    reason="Heard" if problem is None else "Silent",
                    message=problem or "",
                ),
            ],
            now=now,
        )
        used = self._use.told()
        status = OfferStatus(
            observed_generation=generation,
            nodes=offered.open_nodes,
            accelerators=offered.accelerators,
            not_offered=offered.not_offered(),
            cage=tuple(self._cage.proofs[pool] for pool in sorted(self._cage.proofs)),
            observed=self._observed if self._observed is not None else self.observed(),
            guests=self._guests,
            earned=self._told_by_hub("earned"),
            waiting=self._told_by_hub("waiting"),
            used_days=used,
            bought_back=sentence(used),
            last_contact=rfc3339(contact) if contact is not None else before.get("lastContact"),
            message=why,
        ).wire()
        return {**status, "conditions": conditions}

    def _count_use(self, offered: Offering, guests: Collection[Guest], *, now: datetime) -> None:
        status = (self._views.offers.get(OFFER_NAME) or {}).get("status") or {}
        self._use.load(_used_days(status))
        used = sum(sum(g.requests.devices.values()) for g in guests if g.node)
        self._use.look(used=used, idle=offered.idle, monotonic=self._monotonic(), now=now)

    def _told_by_hub(self, amount: str) -> str:
        provider = next(iter(self._hub.providers), None)
        return str(((provider or {}).get("status") or {}).get(amount) or "0")

    def _contact_is_old(self, before: dict[str, Any], *, now: datetime) -> bool:
        told = before.get("lastContact")
        return told is None or (now - datetime.fromisoformat(told)).total_seconds() >= CONTACT_EVERY_SECONDS

    def _told(self, error: Exception | None) -> None:
        if isinstance(error, FallowError) and not isinstance(error, Conflict):
            log.warning("Offer.status not written", error=str(error))
        self._wake()


def _used_days(status: Mapping[str, Any]) -> tuple[UsedDay, ...]:
    try:
        return tuple(UsedDay.model_validate(each) for each in status.get("usedDays") or ())
    except ValidationError as error:
        log.warning("the days' use cannot be read: counted anew", error=str(error))
        return ()


def _cage_condition(cage: Cage, offer: OfferSpec, *, observed_generation: int) -> dict[str, Any]:
    """Say whether canary guests have proven the cage, and else what they reached or why they did not run."""
    waived = ", ".join(offer.accept_unproven)
    if not unproven_checks(offer):
        return condition(
            "CageEnforced",
            False,
            reason="Waived",
            message=f"Waived by name: {waived}",
            observed_generation=observed_generation,
        )
    pools = sorted(cage.proofs.keys() | cage.problems.keys())
    open_ones = [pool for pool in pools if not cage.why_closed(pool, offer)]
    against = [why for pool in pools if (why := cage.why_closed(pool, offer))]
    reached = any(cage.broken(pool, offer) for pool in pools)
    proven = bool(open_ones) and not against
    said = "; ".join(against)
    if proven:
        said = f"Proven in {', '.join(open_ones)}" + (f"; waived by name: {waived}" if waived else "")
    return condition(
        "CageEnforced",
        proven,
        reason="Proven" if proven else "Reached" if reached else "NotProven",
        message=(said or f"Not proven: {', '.join(unproven_checks(offer))}")[:1000],
        observed_generation=observed_generation,
    )
