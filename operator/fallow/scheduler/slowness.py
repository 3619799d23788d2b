"""When the last tasks of a job are moved off a place that is slow: when starting anew is sooner than waiting.

How long a task still takes is not known; that it takes as long again as it has taken is the usual bet of
whoever knows nothing (and right for long-tailed times). So a task that has run for longer than a usual one
takes, times a factor, is expected to be done sooner elsewhere. Moving is cheaper too: the attempt that is
taken away is not paid, the new one costs what a usual task costs.
"""

from __future__ import annotations

from dataclasses import dataclass

from fallow.scheduler.fitting import copies, vector
from fallow.scheduler.requirements import first_obstacle, price_of
from fallow.scheduler.snapshot import Provider, Shape


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is."""

    tasks: int
    held: int
    """Tasks that are with providers."""
    waiting: int
    succeeded: int
    seconds: int
    """Of all successes together."""

    @property
    def usual_seconds(self) -> float:
        """Return how long a task takes on average."""
        return self.seconds / self.succeeded if self.succeeded else float("inf")


@dataclass(frozen=True, slots=True)
class Patience:
    """From when on a task counts as slow."""

    factor: float = 2.0
    """Times the usual duration."""
    least_seconds: float = 60.0
    """Never sooner than this."""
    least_succeeded: int = 3
    """Successes that say what is usual."""
    last_share: float = 0.2
    """Only while at most this share of the tasks (and at least one) is left."""

    def slow_after(self, job: Progress) -> float | None:
        """Return after how many seconds a task of the job is slow; None while it is too early to say."""
        if job.waiting or job.succeeded < self.least_succeeded:
            return None
        if job.held > max(1, int(job.tasks * self.last_share)):
            return None
        return max(self.least_seconds, self.factor * job.usual_seconds)


def room_elsewhere(
    shape: Shape, providers: tuple[Provider, ...], *, but: frozenset[str], most_price: int | None
) -> int:
    """Return how many more such tasks fit now at providers other than `but`, at no more than this price."""
    names = tuple(name for name, _ in shape.request)
    wanted = tuple((at, amount) for at, (_, amount) in enumerate(shape.request) if amount > 0)
    room = 0
    for provider in providers:
        if provider.name in but:
            continue
        for pool in provider.pools:
            price = price_of(shape, pool)
            dearer = price is None or (most_price is not None and price > most_price)
            if dearer or first_obstacle(shape, provider, pool) is not None:
                continue
            here = sum(copies(vector(node.free, names), wanted) for node in pool.nodes)
            room += here if provider.guests_left is None else min(here, provider.guests_left)
    return room
