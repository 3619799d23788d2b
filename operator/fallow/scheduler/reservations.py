"""How much a placement reserves, and how many tasks a sum of money carries.

A placement reserves what it can cost at most: tasks times the time one may run times the price. Amounts are
rounded down once per placement, so the sum over placements is never less than what is claimed in the end.
"""

from __future__ import annotations

from fallow.receipts.pricing import SECONDS_PER_HOUR, cumulative_amount


def reserved(*, tasks: int, seconds: int, price_per_task_hour: int) -> int:
    """Return the most that `tasks` tasks of at most `seconds` each can cost."""
    return cumulative_amount(total_seconds=tasks * seconds, price_per_task_hour=price_per_task_hour)


def affordable(*, available: int, seconds: int, price_per_task_hour: int, most: int) -> int:
    """Return the largest number of tasks, at most `most`, whose reservation `available` covers."""
    if available < 0:
        return 0
    each = seconds * price_per_task_hour
    if each <= 0:
        return most
    return min(most, ((available + 1) * SECONDS_PER_HOUR - 1) // each)


def run_limit(timeout_seconds: int, max_run_seconds: int | None) -> int:
    """Return how long one task may run at a provider, in seconds."""
    return timeout_seconds if max_run_seconds is None else min(timeout_seconds, max_run_seconds)
