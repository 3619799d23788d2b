"""Providers that fall silent again and again: each return is believed a little later than the one before.

A provider that flaps takes work, loses it and takes it again; each round costs its jobs `unreachableSeconds`.
Pure: times are monotonic seconds, given by the caller.
"""

from __future__ import annotations

from collections import deque

FALLS = 3
"""Silences within the window from which on a provider counts as flapping."""
WINDOW_SECONDS = 600.0
FIRST_SECONDS = 60.0
LONGEST_SECONDS = 600.0


class Flapping:
    """Counts silences and says until when a provider gets no new work after it is heard again."""

    def __init__(self) -> None:
        self._falls: dict[str, deque[float]] = {}
        self._until: dict[str, float] = {}

    def fell_silent(self, provider: str, now: float) -> None:
        """Count one more silence."""
        falls = self._falls.setdefault(provider, deque(maxlen=FALLS + 8))
        falls.append(now)

    def heard_again(self, provider: str, now: float) -> float | None:
        """Start a back-off where it has flapped; returns when that ends."""
        falls = self._recent(provider, now)
        if falls < FALLS:
            return None
        seconds = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** (falls - FALLS))
        self._until[provider] = now + seconds
        return self._until[provider]

    def backs_off(self, provider: str, now: float) -> float:
        """Return the seconds for which it gets no new work yet; 0 for all others."""
        left = self._until.get(provider, now) - now
        if left <= 0:
            self._until.pop(provider, None)
        return max(0.0, left)

    def times(self, provider: str, now: float) -> int:
        """Return how often it fell silent within the window."""
        return self._recent(provider, now)

    def forget(self, provider: str) -> None:
        """Drop a provider that left."""
        self._falls.pop(provider, None)
        self._until.pop(provider, None)

    def _recent(self, provider: str, now: float) -> int:
        falls = self._falls.get(provider)
        while falls and now - falls[0] > WINDOW_SECONDS:
            falls.popleft()
        if falls is not None and not falls:
            del self._falls[provider]
        return len(falls or ())
