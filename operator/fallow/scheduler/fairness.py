"""Whose turn it is: priority, then the account with the smallest dominant share, then age.

Dominant-resource fairness (Ghodsi et al., NSDI '11): an account's share is the largest part that it has of
any one resource of the fleet, divided by its weight. Here "has" is what it holds now plus what it used
lately on average, so that whoever stood back is served first; use decays with a half-life. Turns are
bounded while several accounts wait, so that a job of 100,000 tasks does not take the fleet in one of them.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby

from fallow.scheduler.snapshot import PODS, Account, Job

TURNS = 64
"""While others wait, one turn takes at most this fraction (1/64) of the resource that it takes most of."""


def decayed(amount: float, *, elapsed_seconds: float, half_life_seconds: float) -> float:
    """Return what is left of an amount of use after some time."""
    return float(amount * 0.5 ** (max(0.0, elapsed_seconds) / half_life_seconds))


class Shares:
    """The accounts' shares of a fleet, kept up as a cycle gives capacity away."""

    def __init__(
        self, accounts: Iterable[Account], total: Mapping[str, int], *, half_life_seconds: float
    ) -> None:
        self._total = {name: amount for name, amount in total.items() if amount > 0 and name != PODS}
        self._weights = {account.key: account.weight for account in accounts}
        # A constant use of one unit decays to a sum of half-life / ln 2: dividing by it gives the average.
        mean_seconds = half_life_seconds / math.log(2)
        self._has: dict[str, dict[str, float]] = {}
        for account in accounts:
            has = self._has[account.key] = {name: float(amount) for name, amount in account.held}
            for name, used in account.used:
                has[name] = has.get(name, 0.0) + used / mean_seconds

    def of(self, account: str) -> float:
        """Return the weighted dominant share."""
        has = self._has.get(account, {})
        share = max((has.get(name, 0.0) / total for name, total in self._total.items()), default=0.0)
        return share / self._weights.get(account, 1.0)

    def give(self, account: str, request: Iterable[tuple[str, int]], slots: int) -> None:
        """Count slots to an account."""
        has = self._has.setdefault(account, {})
        for name, amount in request:
            has[name] = has.get(name, 0.0) + amount * slots

    def slots_in_a_turn(self, request: Iterable[tuple[str, int]]) -> int:
        """Return how many slots one turn may take while other accounts wait; at least 1."""
        largest = max(
            (amount / self._total[name] for name, amount in request if name in self._total), default=0.0
        )
        return max(1, int(1 / (TURNS * largest))) if largest > 0 else 1


Turn = Callable[[Job, int | None], bool]
"""Gives a job up to so many slots (None: no bound); returns whether it should come again."""


def take_turns(jobs: Iterable[Job], shares: Shares, turn: Turn) -> None:
    """Let every job have its turns, in order; the UID only makes the order total."""
    ordered = sorted(jobs, key=lambda job: (-job.priority, job.created, job.uid))
    for _, same_priority in groupby(ordered, key=lambda job: job.priority):
        queues: dict[str, deque[Job]] = {}
        for job in same_priority:
            queues.setdefault(job.account, deque()).append(job)
        if len(queues) == 1:  # nobody to share with
            for job in next(iter(queues.values())):
                while turn(job, None):
                    pass
            continue
        waiting = [_standing(account, queue, shares) for account, queue in queues.items()]
        heapq.heapify(waiting)
        while waiting:
            account = waiting[0][-1]
            queue = queues[account]
            job = queue[0]
            bound = shares.slots_in_a_turn(job.shape.request) if len(waiting) > 1 else None
            if not turn(job, bound):
                queue.popleft()
            if queue:
                heapq.heapreplace(waiting, _standing(account, queue, shares))
            else:
                heapq.heappop(waiting)


def _standing(account: str, queue: deque[Job], shares: Shares) -> tuple[float, int, str, str]:
    """Return an account's place in the order: its share, then the age of its first job."""
    return (shares.of(account), queue[0].created, queue[0].uid, account)
