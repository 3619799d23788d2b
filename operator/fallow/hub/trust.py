"""How far a provider's word is taken: by what became of it when results were compared, and what it was paid.

Nobody knows at first whether a new provider runs what it is paid for. Until enough of its results agreed with
other owners', or enough was settled to it, at most a few of its slots are used at once, if the hub's admin
wants that: this bounds what a provider that only pretends can cost.
"""

from __future__ import annotations

from fallow.hub import records
from fallow.hub.placements import JSON
from fallow.resources.money import parse_amount
from fallow.settings import TrustSettings

RANKS = 10
"""Among equal prices, providers are told apart by tenths of contradicted results."""


def rank(tally: records.Tally) -> int:
    """Return where a provider stands among equals: 0 for who was never contradicted, up to `RANKS`."""
    if not tally.disagreed:
        return 0
    return max(1, RANKS * tally.disagreed // (tally.agreed + tally.disagreed))


def slots_allowed(provider: JSON, settings: TrustSettings, *, earned: int, decimals: int) -> int | None:
    """Return how many slots of a provider may be used at once; None without a limit.

    `earned` is what was settled to its payee, in the smallest unit.
    """
    if settings.new_provider_slots is None:
        return None
    new = is_new(provider, settings, earned=earned, decimals=decimals)
    return settings.new_provider_slots if new else None


def is_new(provider: JSON, settings: TrustSettings, *, earned: int, decimals: int) -> bool:
    """Return whether nobody knows yet what a provider's word is worth."""
    known = records.read(provider.get("status") or {})
    proven = known.agreed >= settings.agreed_results and rank(known) == 0
    paid = earned >= parse_amount(settings.settled_amount, decimals=decimals)
    return not (proven or paid)
