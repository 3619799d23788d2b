"""What stands idle while the Offer only observes, by product and hour of the week, and what it would earn.

Totals live in Offer.status; this keeps them in memory between writes, so that a restart loses a few
seconds. Idle is what would be on offer if the Offer were open to all: without owner pods, beyond what is kept
free, on nodes that are selected, ready and healthy. Earned would only be what falls into the windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from zoneinfo import ZoneInfo

from fallow.agent.nodes import Node, OwnerPod
from fallow.agent.offering import offering
from fallow.errors import AmountError
from fallow.resources.money import format_amount, parse_amount
from fallow.resources.offer import CAGE_CHECKS, Observed, OfferSpec
from fallow.resources.quote import AcceleratorPrice, Prices

HOURS_OF_WEEK = 168
LONGEST_STEP_SECONDS = 300.0
"""A longer gap between two looks was no looking: a suspended machine. It counts for nothing."""
MAX_PRODUCTS = 16
_Key = tuple[str, str]


@dataclass(slots=True)
class _Total:
    observed_ms: int = 0
    idle_ms: int = 0
    earned_unit_ms: int = 0
    """Σ device-milliseconds × price per hour in the token's smallest unit."""
    by_hour_ms: list[int] = field(default_factory=lambda: [0] * HOURS_OF_WEEK)


def idle_devices(
    nodes: Iterable[Node], owners: Iterable[OwnerPod], offer: OfferSpec, *, token_decimals: int
) -> dict[_Key, int]:
    """Return idle accelerators by (resource, product), priced or not; 0 for what is all in use."""
    known = list(nodes)
    resources = {name for node in known for name in node.allocatable.accelerators}
    free_of_charge = tuple(AcceleratorPrice(resource=r, price_per_hour="0") for r in sorted(resources))
    open_to_all = offer.model_copy(
        update={
            "paused": False,
            "mode": "Offer",
            "images": ("*",),
            "accounts_allowed": ("*",),
            "accept_unproven": CAGE_CHECKS,
            "prices": Prices(accelerators=free_of_charge),
        }
    )
    found: dict[_Key, int] = {}
    offered = offering(known, owners, open_to_all, token_decimals=token_decimals)
    for each in offered.nodes.values():
        for resource, count in each.offerable.accelerators.items():
            key = (resource, each.node.product)
            found[key] = found.get(key, 0) + max(0, count)
    return found


class Observing:
    """Sums up what stood idle, one look after the other."""

    def __init__(self, *, token_decimals: int) -> None:
        self._decimals = token_decimals
        self._totals: dict[_Key, _Total] = {}
        self._looked_at: float | None = None
        self._loaded = False

    def load(self, before: Iterable[Observed]) -> None:
        """Go on from what the status says; only the first call counts."""
        if self._loaded:
            return
        self._loaded = True
        for each in before:
            hours = [s * 1000 for s in each.idle_seconds_by_hour][:HOURS_OF_WEEK]
            earned = parse_amount(each.would_have_earned, decimals=self._decimals)
            self._totals[each.resource, each.product] = _Total(
                observed_ms=each.observed_seconds * 1000,
                idle_ms=each.idle_device_seconds * 1000,
                earned_unit_ms=earned * 3_600_000,
                by_hour_ms=hours + [0] * (HOURS_OF_WEEK - len(hours)),
            )

    def pause(self) -> None:
        """Nothing is observed from here to the next look."""
        self._looked_at = None

    def look(
        self,
        idle: Mapping[_Key, int],
        offer: OfferSpec,
        *,
        selling: bool,
        monotonic: float,
        now: datetime,
    ) -> None:
        """Count the time since the last look, at the prices in `offer`; `selling`: a window is open."""
        last, self._looked_at = self._looked_at, monotonic
        if last is None or not 0 <= monotonic - last <= LONGEST_STEP_SECONDS:
            return
        step_ms = round((monotonic - last) * 1000)
        local = now.astimezone(ZoneInfo(offer.schedule.time_zone))
        hour = local.weekday() * 24 + local.hour
        for key, count in sorted(idle.items()):
            if key not in self._totals and len(self._totals) >= MAX_PRODUCTS:
                continue
            total = self._totals.setdefault(key, _Total())
            total.observed_ms += step_ms
            total.idle_ms += count * step_ms
            total.by_hour_ms[hour] += count * step_ms
            if selling:
                total.earned_unit_ms += count * step_ms * self._price(offer, key)

    def told(self) -> tuple[Observed, ...]:
        """Return the totals as the status shows them, whole seconds and amounts rounded down."""
        return tuple(
            Observed(
                resource=resource,
                product=product,
                observed_seconds=total.observed_ms // 1000,
                idle_device_seconds=total.idle_ms // 1000,
                would_have_earned=format_amount(total.earned_unit_ms // 3_600_000, decimals=self._decimals),
                idle_seconds_by_hour=tuple(ms // 1000 for ms in total.by_hour_ms),
            )
            for (resource, product), total in sorted(self._totals.items())
        )

    def _price(self, offer: OfferSpec, key: _Key) -> int:
        resource, product = key
        for entry in offer.prices.accelerators:
            if entry.resource == resource and fnmatchcase(product, entry.product):
                try:
                    return parse_amount(entry.price_per_hour, decimals=self._decimals)
                except AmountError:
                    return 0
        return 0
