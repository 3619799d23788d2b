"""Elapsed intervals in a placement's claims: what is charged of them now, and what not. Pure.

With `billing: PerInterval` a placement has several claims. Partial ones charge elapsed time only, from what
the one before charged; the last one charges the rest. What is released is claimed first (`fates`), so that
nothing that an agent says of it later counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fallow.hub.placements import JSON, Placed
from fallow.resources.elapsed import Elapsed, packed, parse_all, stops_of

NOTHING: Mapping[int, int] = {}


@dataclass(frozen=True, slots=True)
class ElapsedPart:
    """The elapsed time in one claim."""

    charged: tuple[Elapsed, ...] = ()
    """By index, also where nothing is added: from what earlier claims charged to what this one does."""
    unpaid: Mapping[str, tuple[Elapsed, ...]] = field(default_factory=dict)
    """By reason: what the provider signed beyond that."""


NO_ELAPSED = ElapsedPart()


def judge_elapsed(
    placed: Placed, node_seconds: list[int], *, longest: int, before: Mapping[int, int]
) -> ElapsedPart:
    """Judge the elapsed time that a placement's agent has signed.

    `longest` is how long an attempt can have run, `before` what earlier claims charged by index.
    `node_seconds` is what the slots of each assignment can have run; what is charged is taken off it.
    """
    if not placed.elapsed:
        return ElapsedPart()
    node_of = {index: at for at, one in enumerate(placed.assigned) for index in one.tasks}
    said = stops_of(placed.elapsed)
    stops: dict[int, int] = {}
    reasons: dict[str, dict[int, int]] = {}
    for index, signed in sorted(said.items()):
        charged, at = before.get(index, 0), node_of[index]
        released = index in placed.released
        stop = charged if released else max(charged, min(signed, longest, node_seconds[at]))
        node_seconds[at] -= stop
        stops[index] = stop
        if signed > stop:
            reason = "Released" if released else "LongerThanObserved"
            reasons.setdefault(reason, {})[index] = signed
    return ElapsedPart(
        charged=packed(stops, before),
        unpaid={reason: packed(signed, stops) for reason, signed in sorted(reasons.items())},
    )


def charged_before(partial_claims: Iterable[JSON]) -> Mapping[int, int]:
    """Return up to which second earlier claims of a placement charged each index."""
    found: dict[int, int] = {}
    for claim in partial_claims:
        for index, stop in stops_of(parse_all(claim["spec"].get("elapsed") or ())).items():
            found[index] = max(stop, found.get(index, 0))
    return found


def next_sequence(partial_claims: Sequence[JSON]) -> int:
    """Return the number of a placement's next claim."""
    return max((int(claim["spec"]["sequence"]) for claim in partial_claims), default=-1) + 1
