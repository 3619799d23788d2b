"""What is known of a provider's word: how its attempts ended, and whether its results agreed with others'.

A placement is counted into its Provider's status before it is deleted, in one write that also names it
(`record.counted`); a placement that is named there is not counted again. So each is counted once, whatever
dies in between. Placements of which nothing but successes is to tell do not wait for that write: their
number is added to the next one, and a hub that dies may forget the last few.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from fallow.hub.folding import Folded
from fallow.hub.placements import JSON, Placed
from fallow.resources.ended import Outcome
from fallow.resources.ranges import EMPTY, IndexRanges

MAX_COUNTED = 256
"""Names that one status holds; further placements wait for the next write."""


@dataclass(frozen=True, slots=True)
class Tally:
    """How attempts ended. `agreed` and `disagreed` are those whose results were compared with others'."""

    succeeded: int = 0
    lost: int = 0
    reclaimed: int = 0
    agreed: int = 0
    disagreed: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing to tell but successes."""
        return self == Tally(succeeded=self.succeeded)


def tally(placed: Placed, folded: Folded) -> Tally:
    """Return what an ended placement adds to its provider's record."""
    counts = dict.fromkeys(Outcome, 0)
    for one in placed.ended:
        counts[one.outcome] += 1
    agreed = disagreed = 0
    if placed.replicas > 1:
        disagreed = len(folded.dissent.get(placed.number, EMPTY))
        compared = (IndexRanges.of(placed.votes) & folded.succeeded) - folded.dissent.get(
            placed.number, EMPTY
        )
        agreed = len(compared)
    return Tally(
        succeeded=counts[Outcome.SUCCEEDED],
        lost=counts[Outcome.LOST] + len(placed.released),
        reclaimed=counts[Outcome.RECLAIMED],
        agreed=agreed,
        disagreed=disagreed,
    )


def read(status: Mapping[str, Any]) -> Tally:
    """Return the record in a Provider's status."""
    raw = status.get("record") or {}
    return Tally(**{one.name: raw.get(one.name) or 0 for one in fields(Tally)})


class Records:
    """What is to be added to Providers' statuses."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[str, Tally]] = {}
        """By provider and placement: not in a status yet."""
        self._plain: dict[str, int] = {}
        """Successes of plain placements, by provider."""

    def counted(self, name: str, placement: str, found: Tally, provider: JSON | None) -> bool:
        """Return whether a placement may be deleted as far as the record of the provider `name` goes.

        If not, it is in the next status that `next_record` gives. `placement` is its name; of a sample, which
        tells of another provider than its own, `<name>.<its provider>`.
        """
        if provider is None:
            return True
        if found.is_plain:
            self._plain[name] = self._plain.get(name, 0) + found.succeeded
            return True
        record = (provider.get("status") or {}).get("record") or {}
        if placement in (record.get("counted") or ()):
            self._waiting.get(name, {}).pop(placement, None)
            return True
        self._waiting.setdefault(name, {})[placement] = found
        return False

    def next_record(
        self, provider: str, status: Mapping[str, Any], *, is_there: Callable[[str], bool]
    ) -> JSON:
        """Return the record to write, with all that waits; `is_there` tells of a placement whether it is."""
        before = (status.get("record") or {}).get("counted") or ()
        kept = [name for name in before if is_there(name)]
        total = read(status) + Tally(succeeded=self._plain.get(provider, 0))
        for name, found in sorted(self._waiting.get(provider, {}).items()):
            if name not in kept and is_there(name) and len(kept) < MAX_COUNTED:
                kept.append(name)
                total = total + found
        record: JSON = {one.name: getattr(total, one.name) for one in fields(Tally)}
        return {**record, "counted": kept} if kept else record

    def told(self, provider: str) -> None:
        """Take note that what `next_record` gave is on its way."""
        self._plain.pop(provider, None)
