"""What a task-hour costs and what is owed: exact integers, rounded down once, in the payer's favour.

A quote has prices per hour of one CPU core, one GiB of memory and one device. A pod requests
millicores, MiB and devices. All is brought over one denominator (1000 millicores x 1024 MiB), and
the floor is taken once over the whole sum, so that many small parts do not each lose a unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fallow.errors import MoneyError
from fallow.receipts.requests import Requests

SECONDS_PER_HOUR = 3600
_MILLICORES_PER_CORE = 1000
_MIB_PER_GIB = 1024


class UnpricedError(MoneyError):
    """The pod asks for a resource that the quote has no price for: it cannot run there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitPrices:
    """Prices for one hour of one unit, in the token's smallest unit (whole numbers >= 0)."""

    cpu_core_hour: int
    memory_gib_hour: int
    device_hour: Mapping[str, int] = field(default_factory=dict)
    """By resource name (nvidia.com/gpu), already resolved for the node's product."""


def price_per_task_hour(requests: Requests, prices: UnitPrices) -> int:
    """floor(cores x core price + GiB x GiB price + devices x device price), in smallest units.

    Cores and GiB are exact fractions (millicores / 1000, MiB / 1024); only the final sum is
    rounded. Raises UnpricedError when a requested device has no price.
    """
    missing = sorted(requests.devices.keys() - prices.device_hour.keys())
    if missing:
        raise UnpricedError(f"the quote has no price for {', '.join(missing)}")
    numerator = (
        requests.cpu_millicores * prices.cpu_core_hour * _MIB_PER_GIB
        + requests.memory_mib * prices.memory_gib_hour * _MILLICORES_PER_CORE
        + sum(count * prices.device_hour[name] for name, count in requests.devices.items())
        * (_MILLICORES_PER_CORE * _MIB_PER_GIB)
    )
    if numerator < 0:
        raise ValueError("prices and quantities are never negative")
    return numerator // (_MILLICORES_PER_CORE * _MIB_PER_GIB)


def cumulative_amount(*, total_seconds: int, price_per_task_hour: int) -> int:
    """Return what `total_seconds` of paid attempts cost: floor(seconds x price / 3600)."""
    if total_seconds < 0 or price_per_task_hour < 0:
        raise ValueError("seconds and prices are never negative")
    return total_seconds * price_per_task_hour // SECONDS_PER_HOUR


def amount_owed(*, total_seconds: int, price_per_task_hour: int, already_claimed: int) -> int:
    """Return the part of a placement's cumulative amount that earlier claims have not asked for yet.

    The floor is taken over the whole placement so that n claims together equal one. Never
    negative: when earlier claims already cover more, nothing is owed.
    """
    total = cumulative_amount(total_seconds=total_seconds, price_per_task_hour=price_per_task_hour)
    return max(0, total - already_claimed)
