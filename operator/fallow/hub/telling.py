"""How often statuses that only tell may be written: at once while little else is, else a few a second.

A status that something waits for (a job is complete, more placement numbers are needed) is no telling and
never waits here. All others say how far a job is, or why it waits; thousands of them must not take an API
server from the work that they tell of. What waits is made when its turn comes, so a job that ended meanwhile
costs one write, not two.
"""

from __future__ import annotations

BUSY_WRITES = 8
"""Writes under way or waiting from which on telling is rationed."""
PER_SECOND = 10.0
"""Statuses a second that are told however busy the hub is: 10,000 waiting jobs hear within a quarter of an
hour, for a few hundredths of one API server."""


class Telling:
    """The ration. Whoever is refused comes again."""

    def __init__(self) -> None:
        self._next_at = float("-inf")

    def may(self, now: float, *, writes: int) -> bool:
        """Say whether a status may be told now (in monotonic seconds), `writes` being under way."""
        if writes < BUSY_WRITES:
            return True
        if now < self._next_at:
            return False
        self._next_at = now + 1 / PER_SECOND
        return True
