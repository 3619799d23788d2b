"""Why nothing of the whole member is on offer, and what is wrong with the Offer's prices."""

from __future__ import annotations

from fallow.agent.cage import NOTHING_PROVEN, Cage
from fallow.errors import AmountError
from fallow.resources.money import parse_amount
from fallow.resources.offer import OfferSpec


def member_closed(
    offer: OfferSpec, *, token_decimals: int, shut: str = "", cage: Cage = NOTHING_PROVEN
) -> str:
    """Return why nothing of the member is on offer, in one sentence; "" when something may be.

    `shut`: what the schedule says against it. `cage`: what is proven of it.
    """
    if offer.paused:
        return "The Offer is paused."
    if offer.mode == "Observe":
        return "The Offer only observes; spec.mode Offer would offer."
    if shut:
        return shut
    if caged := cage.member_closed(offer):
        return caged
    if not offer.images:
        return "spec.images allows no image yet."
    if not offer.accounts_allowed:
        return "spec.accountsAllowed allows no account yet."
    return bad_price(offer, token_decimals=token_decimals)


def bad_price(offer: OfferSpec, *, token_decimals: int) -> str:
    """Say which price the token cannot express; the schema lets up to 18 decimal places pass."""
    prices = offer.prices
    named = [
        ("cpuCoreHour", prices.cpu_core_hour),
        ("memoryGiBHour", prices.memory_gib_hour),
        *((f"accelerators[{at}].pricePerHour", a.price_per_hour) for at, a in enumerate(prices.accelerators)),
    ]
    for name, price in named:
        try:
            parse_amount(price, decimals=token_decimals)
        except AmountError as error:
            return f"spec.prices.{name}: {error}."
    return ""
