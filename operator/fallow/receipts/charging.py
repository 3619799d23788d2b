"""What a claim charges, second by second: the sums that hub, settler and verifier must all come to.

    charged = Σ elapsed time from `from` to `to`  +  Σ paid attempts' seconds after their elapsed time

each attempt only up to what the hub can have observed. A placement's claims charge differences of one
floor: claim n = floor(seconds up to n × price / 3600) − floor(seconds before n × price / 3600).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fallow.receipts.pricing import cumulative_amount
from fallow.resources.elapsed import Elapsed, packed, stops_of
from fallow.resources.ended import Ended

OBSERVATION_SLACK_SECONDS = 5
"""How far two clocks may be apart, and whole seconds are rounded: so much longer may everything be."""


@dataclass(frozen=True, slots=True)
class Charged:
    """What one claim charges."""

    seconds: int
    cut: int
    """Seconds that its paid attempts say they had beyond `longest`."""
    before: int
    """Seconds that earlier claims of the placement charged."""

    def amount(self, price_per_task_hour: int) -> int:
        """Return the claim's amount in smallest units."""
        upto = cumulative_amount(
            total_seconds=self.before + self.seconds, price_per_task_hour=price_per_task_hour
        )
        return upto - cumulative_amount(total_seconds=self.before, price_per_task_hour=price_per_task_hour)


def longest_attempt(*, placed_at: int, seen_until: int, timeout_seconds: int) -> int:
    """Return how long an attempt can have run at most, in seconds.

    `placed_at` and `seen_until` are Unix seconds of the hub's clock: no attempt began before its
    placement was made, and none goes on after the hub heard that all is over.
    """
    return min(max(0, seen_until - placed_at) + OBSERVATION_SLACK_SECONDS, timeout_seconds)


def charged(ended: Sequence[Ended], elapsed: Sequence[Elapsed], *, longest: int) -> Charged:
    """Return what a claim of these paid attempts and this elapsed time charges."""
    stops = stops_of(elapsed)
    seconds = sum((max(one.start, min(one.stop, longest)) - one.start) * len(one.tasks) for one in elapsed)
    cut = sum(one.seconds for one in elapsed) - seconds
    for one in ended:
        paid = tail_seconds(one, stops, longest=longest)
        seconds += paid
        cut += tail_seconds(one, stops) - paid
    return Charged(seconds, cut, before=sum(one.start * len(one.tasks) for one in elapsed))


def tail_seconds(one: Ended, stops: Mapping[int, int], *, longest: int | None = None) -> int:
    """Return an ended attempt's seconds after its elapsed time, up to `longest` of its running time."""
    end = one.seconds if longest is None else min(one.seconds, longest)
    return max(0, end - stops.get(one.index, 0))


def covered_elapsed(*parts: Iterable[Elapsed]) -> tuple[Elapsed, ...]:
    """Return the elapsed time that a receipt covers, from what a claim says is paid and is not."""
    stops: dict[int, int] = {}
    for part in parts:
        for one in part:
            for index in one.tasks:
                stops[index] = max(one.stop, stops.get(index, 0))
    return packed(stops)
