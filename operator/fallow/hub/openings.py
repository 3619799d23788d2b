"""Sealed results in a Placement's report: which are opened, what they say, and whether the opening fits.

Asking for openings pins, in the same compare-and-set write, the commitments that were there: the fingerprint
of the `ended` strings asked about. An agent that exchanges a commitment afterwards has voted for nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from fallow.errors import EndedError
from fallow.resources.ended import Ended, Outcome
from fallow.resources.ranges import IndexRanges, parse_optional
from fallow.resources.reveal import Reveal


def fingerprint(ended: Iterable[Ended], asked: IndexRanges) -> str:
    """Return the SHA-256 of the commitments of the tasks asked about, as 64 hexadecimal digits."""
    said = sorted((one.index, str(one)) for one in ended if one.index in asked)
    return hashlib.sha256("\n".join(text for _, text in said).encode()).hexdigest()


def opened(
    obj: Mapping[str, Any], ended: Iterable[Ended], *, released: IndexRanges
) -> tuple[IndexRanges, dict[int, bytes]]:
    """Return of a replicated placement the counted successes still sealed, and the votes of all others.

    A vote is the result's digest; it is empty when the task left no result, when the opening does not fit
    its commitment, or when the agent has finished without it.
    """
    spec, status = obj["spec"], obj.get("status") or {}
    successes = {
        one.index: one for one in ended if one.outcome is Outcome.SUCCEEDED and one.index not in released
    }
    asked = parse_optional(spec.get("reveal"))
    pinned = not asked or spec.get("commitments") == fingerprint(ended, asked)
    openings = _openings(status.get("reveals") or ())
    finished = status.get("state") == "Finished"
    votes: dict[int, bytes] = {}
    for index, one in successes.items():
        if not one.digest:
            votes[index] = b""
        elif index in asked and (index in openings or finished):
            reveal = openings.get(index)
            fits = reveal is not None and pinned and reveal.commitment(obj["metadata"]["uid"]) == one.digest
            votes[index] = reveal.digest if reveal is not None and fits else b""
        elif finished:  # without being asked: its agent opens nothing any more
            votes[index] = b""
    return IndexRanges.of(successes) - IndexRanges.of(votes), votes


def _openings(texts: Iterable[str]) -> dict[int, Reveal]:
    first: dict[int, Reveal] = {}
    for text in texts:
        try:
            one = Reveal.parse(text)
        except EndedError:
            continue
        first.setdefault(one.index, one)
    return first
