"""How fast to write: a token bucket whose rate halves when the server asks for less.

A 429 or an answer slower than a second halves the rate (at most once a second: thirty slow answers
to one burst are one complaint, not thirty); it then grows back by a twentieth of the full rate a
second, so a minute after the last complaint it is whole again.
"""

from __future__ import annotations

from collections.abc import Callable

_LEAST_SHARE = 1 / 32
_RECOVERY_A_SECOND = 1 / 20


class WriteBudget:
    """Tokens: `per_second` come in, at most `burst` are kept. `monotonic` is in seconds."""

    def __init__(self, *, per_second: float, burst: int, monotonic: Callable[[], float]) -> None:
        self.full_rate = per_second
        self.rate = per_second
        """Tokens a second at present."""
        self._burst = float(burst)
        self._tokens = float(burst)
        self._monotonic = monotonic
        self._counted_at = monotonic()
        self._halved_at = float("-inf")

    def wait_seconds(self) -> float:
        """Return how long until the next token is there; 0 when `take` may be called now."""
        self._count()
        # NB: a hair below one, or rounding makes a caller wait 1e-17 s for ever.
        return 0.0 if self._tokens >= 1.0 - 1e-9 else (1.0 - self._tokens) / self.rate

    def take(self) -> None:
        """Use one token; call only when `wait_seconds` is 0."""
        self._tokens -= 1.0

    def slow_down(self) -> None:
        """Halve the rate and drop what was saved up: the server asked for less."""
        self._count()
        if self._counted_at - self._halved_at < 1.0:
            return
        self._halved_at = self._counted_at
        self.rate = max(self.full_rate * _LEAST_SHARE, self.rate / 2)
        self._tokens = min(self._tokens, 1.0)

    def _count(self) -> None:
        now = self._monotonic()
        elapsed = max(0.0, now - self._counted_at)
        self._counted_at = now
        self._tokens = min(self._burst, self._tokens + elapsed * self.rate)
        self.rate = min(self.full_rate, self.rate + elapsed * self.full_rate * _RECOVERY_A_SECOND)
