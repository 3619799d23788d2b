"""How long to wait before trying again: doubling, bounded, and spread by chance."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Waits that double from `first_seconds` to `longest_seconds`, each times 0.5 to 1.5.

    The spread keeps a hundred agents that lost the same server from coming back as one.
    """

    def __init__(
        self,
        *,
        first_seconds: float = 0.2,
        longest_seconds: float = 10.0,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.failures = 0
        self._first = first_seconds
        self._longest = longest_seconds
        self._chance = chance

    def next_seconds(self, *, at_least: float | None = None) -> float:
        """Count one more failure and return the wait; `at_least` is a server's Retry-After."""
        wait = min(self._longest, self._first * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return max(at_least or 0.0, wait * (0.5 + self._chance()))

    def reset(self) -> None:
        """Count from the start again: something worked."""
        self.failures = 0
