"""The agent's one cycle: from what is in view to decisions, and from these to writes.

    1. where the owner's waiting pods will go   reclaim: room held, guests vacated
    2. what is on offer now                     canaries, offering, NetworkPolicies, Quote, ProviderNodes
    3. which guests the Offer does not cover    evictions
    4. each placement                           decide: start, stop, record, let go, report
    5. what the hub no longer wants             records past their time
    6. what the owner is told                   Offer.status

It is synchronous and does no I/O: writes are handed to bounded writers, whose answers enter the views and
wake the next cycle. Any cycle may be the last one of this process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog

from fallow.agent.attending import Attending, Standing
from fallow.agent.guests import Guest
from fallow.agent.network import NetworkWrites
from fallow.agent.offering import Offering
from fallow.agent.outcomes import overdue_at
from fallow.agent.owner import OwnerReport
from fallow.agent.policy import Policy
from fallow.agent.supply import Supply
from fallow.agent.views import HubViews, MemberViews
from fallow.settings import AgentSettings

log = structlog.get_logger(__name__)

ATTENTIVE_SECONDS = 1.0
"""Pause between cycles while something is due that no event announces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """All that one cycle needs; `run` is called whenever something changed or came due."""

    settings: AgentSettings
    member: MemberViews
    hub: HubViews
    policy: Policy
    attending: Attending
    network: NetworkWrites
    supply: Supply
    owner: OwnerReport
    now: Callable[[], datetime]

    def run(self) -> float:
        """Look, decide and hand out writes once; returns the seconds until the next cycle is due anyhow."""
        now, policy = self.now(), self.policy
        offer = policy.current_offer()
        if offer is None or not self.member.synced:
            return ATTENTIVE_SECONDS
        guests = list(self.member.guests())
        reclaim_in = policy.make_room_for_owners(guests, now=now)
        offer, changes_in = policy.in_force(offer, now=now)
        proven_in = policy.prove_cage(offer, now=now)
        clear_in = policy.look_for_leftovers(guests)
        offered = policy.offering(offer, guests, now=now)
        wait = min(reclaim_in, changes_in, policy.ripe_in(), proven_in, clear_in)
        wait = min(wait, self.network.tell(offer))
        cage = policy.canaries.cage
        wait = min(wait, self.supply.tell(offer, offered, now=now, shut=policy.shut, cage=cage))

        site = policy.site(offered, guests, offer, now=now, stopped=self.attending.stopped)
        room = policy.room(offered, guests, offer)
        by_placement = _by_placement(guests)
        known = self.attending.each(
            by_placement, Standing(offer=offer, offered=offered, site=site, room=room)
        )
        self.attending.orphans(by_placement)
        self._forget(known, guests)
        told = self.owner.tell(
            offered,
            offer,
            guests=[g for g in guests if not g.finished],
            now=now,
            observed=policy.observe(offer, now=now),
            cage=cage,
        )
        return min(wait, told, self._next_look(offered, guests, now=now))

    def _forget(self, known: set[str], guests: list[Guest]) -> None:
        """Drop records past their time, and memory of what is no more."""
        held = {g.placement_uid for g in guests}
        present = {g.uid for g in guests}
        stopped = self.attending.stopped
        self.attending.stopped = {uid: why for uid, why in stopped.items() if uid in present}
        self.attending.drop_old(known | held)
        self.attending.books.keep_only(known | held)
        self.member.missing = {uid: g for uid, g in self.member.missing.items() if uid in known}
        for book in self.attending.books:
            book.leaving -= self.member.departed
        self.member.departed.clear()

    def _next_look(self, offered: Offering, guests: list[Guest], *, now: datetime) -> float:
        """Seconds until something may be due that no event announces."""
        longest = float(self.settings.cycle.resync_seconds)
        if any(book.endings or book.returned for book in self.attending.books):
            longest = min(longest, ATTENTIVE_SECONDS)
        if any(not o.node.ready for o in offered.nodes.values()) and guests:
            longest = min(longest, ATTENTIVE_SECONDS)
        for book in self.attending.books:
            if book.next_mark_at is not None:
                due_in = (book.next_mark_at - now).total_seconds()
                longest = min(longest, max(ATTENTIVE_SECONDS, due_in))
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
