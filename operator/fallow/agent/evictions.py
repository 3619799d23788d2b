"""Which guests must go because the owner changed the Offer. What owner pods need, the scheduler takes itself.

The least work is lost first: of the guests that share a node too small for them now, the youngest go.
"""

from __future__ import annotations

from collections.abc import Iterable

from fallow.agent.guests import Guest
from fallow.agent.offering import NodeOffer, Offering


def evictions(offering: Offering, guests: Iterable[Guest], *, max_guests: int) -> dict[str, str]:
    """Return pod UID → why, for every guest that the Offer does not cover any more.

    Guests that are on their way out already count as gone.
    """
    staying = sorted(
        (g for g in guests if not g.finished and not g.deleting),
        key=lambda g: (g.created_at, g.index),
        reverse=True,
    )
    by_node: dict[str, list[Guest]] = {}
    for guest in staying:
        by_node.setdefault(guest.node or guest.pinned_to, []).append(guest)
    evicted: dict[str, str] = {}
    for name, here in by_node.items():
        offer = offering.nodes.get(name)
        if offer is None:
            continue
        if offer.vacate:
            evicted.update({g.uid: f"node {name}: {offer.closed}" for g in here})
        elif not offer.closed:
            evicted.update(_over_keep_free(offer, here))
    excess = len(staying) - len(evicted) - max_guests
    for guest in staying:
        if excess <= 0:
            break
        if guest.uid not in evicted:
            evicted[guest.uid] = f"the Offer allows {max_guests} guests"
            excess -= 1
    return evicted


def _over_keep_free(offer: NodeOffer, youngest_first: list[Guest]) -> dict[str, str]:
    """Only what keep-free takes is vacated: a device plugin that restarts shows no devices for a while."""
    evicted: dict[str, str] = {}
    for resource, kept in offer.kept.items():
        used = sum(g.requests.devices.get(resource, 0) for g in youngest_first if g.uid not in evicted)
        excess = min(kept, used - offer.offerable.accelerators.get(resource, 0))
        for guest in youngest_first:
            if excess <= 0:
                break
            devices = guest.requests.devices.get(resource, 0)
            if devices and guest.uid not in evicted:
                evicted[guest.uid] = f"{kept} {resource} on {offer.node.name} are kept free for the owner"
                excess -= devices
    return evicted
