"""How strongly a guest is kept apart: the weakest isolation that the owner gives and the job accepts."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, get_args

from fallow.resources.computejob import Isolation
from fallow.resources.offer import OfferSpec

STRENGTHS: tuple[Isolation, ...] = get_args(Isolation)
"""From the weakest to the strongest."""


def offered_isolations(offer: OfferSpec) -> tuple[Isolation, ...]:
    """Return what this owner can really give: a sandbox needs a runtime class."""
    return tuple(each for each in offer.isolation if each != "Sandboxed" or offer.runtime_class)


def isolation_for(wanted: Isolation | None, given: Collection[Isolation]) -> Isolation | None:
    """Return the isolation a guest gets; None where nothing offered is as strong as wanted."""
    enough = STRENGTHS[STRENGTHS.index(wanted) :] if wanted else STRENGTHS
    return next((each for each in enough if each in given), None)


def isolating(isolation: Isolation, *, runtime_class: str) -> dict[str, Any]:
    """Return the pod's fields that bring it about; NonRoot is everybody's."""
    match isolation:
        case "UserNamespace":
            return {"hostUsers": False}
        case "Sandboxed":
            return {"runtimeClassName": runtime_class}
    return {}
