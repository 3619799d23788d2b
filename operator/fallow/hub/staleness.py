"""Which providers are silent: by this process's own clock, never by comparing clocks.

A provider's silence is the time since this process last saw its Lease change, counted only while the watch
on Leases lives, and from first sight after a restart. So a hub that was away finds nobody silent, and a lost
watch makes nobody silent. When many fall silent at once the hub suspects itself and releases nothing for a
while (DESIGN.md section 6).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

NEVER_HEARD = ""
"""Version of a Lease that is not there."""


@dataclass(frozen=True, slots=True)
class SilenceLimits:
    """When silence means something; all in seconds but the first two."""

    suspect_providers: int = 3
    """Fewest providers for which the hub may suspect itself."""
    suspect_share: float = 0.5
    """More than this share of the providers must fall silent."""
    silent_seconds: float = 20
    window_seconds: float = 30
    hold_seconds: float = 600
    usual_lease_seconds: float = 20
    """What an agent's Lease lasts at most when nothing is announced (the agent's default)."""


@dataclass(slots=True)
class _Heard:
    version: str
    silence: float = 0.0
    """Seconds of silence counted so far."""
    promised: float = 0.0
    """Seconds of silence that the Lease announces: a planned restart is not silence."""
    fell_silent_at: float | None = None


@dataclass(slots=True)
class Staleness:
    """Counts silence. `advance` moves time on, `heard` resets a provider's count."""

    limits: SilenceLimits = field(default_factory=SilenceLimits)
    suspected_until: float | None = None
    """While the hub suspects itself: when that ends at the latest, in monotonic seconds."""
    _providers: dict[str, _Heard] = field(default_factory=dict)
    _now: float | None = None
    _watching: bool = False

    def heard(self, provider: str, version: str, *, lease_seconds: float = 0.0) -> None:
        """Take in a provider's Lease: a new version is a sign of life, the same one is not.

        `lease_seconds` is the duration that the Lease announces.
        """
        known = self._providers.get(provider)
        if known is None:
            self._providers[provider] = _Heard(version, promised=lease_seconds)
        elif known.version != version:
            known.version = version
            known.silence = 0.0
            known.promised = lease_seconds
            known.fell_silent_at = None

    def forget(self, provider: str) -> None:
        """Drop a provider that left."""
        self._providers.pop(provider, None)

    def advance(self, now: float, *, watching: bool) -> None:
        """Move on to the monotonic time `now`; silence is counted only while the watch lives."""
        passed = 0.0 if self._now is None else max(0.0, now - self._now)
        self._now = now
        # NB: whoever was silent before a gap may have spoken in it: all counts start again.
        if watching and not self._watching:
            for heard in self._providers.values():
                heard.silence = 0.0
                heard.fell_silent_at = None
            passed = 0.0
        self._watching = watching
        if not watching:
            return
        for heard in self._providers.values():
            heard.silence += passed
            if heard.fell_silent_at is None and heard.silence >= max(
                self.limits.silent_seconds, self._announced(heard)
            ):
                heard.fell_silent_at = now
        self._suspect(now)

    def silence(self, provider: str) -> float | None:
        """Return seconds of silence (0 while an announced pause lasts); None when it was never seen."""
        heard = self._providers.get(provider)
        if heard is None:
            return None
        return heard.silence if heard.silence >= self._announced(heard) else 0.0

    def silent(self, provider: str) -> bool:
        """Return whether a provider gets no new work."""
        silence = self.silence(provider)
        return silence is None or silence >= self.limits.silent_seconds

    def suspects_itself(self) -> bool:
        """Return whether so many fell silent at once that the hub's own network is the likelier cause."""
        return self.suspected_until is not None

    def released(self, provider: str, *, unreachable_seconds: float) -> bool:
        """Return whether a job that waits `unreachable_seconds` moves its tasks elsewhere now."""
        silence = self.silence(provider)
        return silence is not None and silence >= unreachable_seconds and not self.suspects_itself()

    def silent_providers(self) -> Iterable[str]:
        """Return the silent ones, sorted."""
        return sorted(name for name in self._providers if self.silent(name))

    def _announced(self, heard: _Heard) -> float:
        """Return the pause that a Lease longer than usual announces; 0 for others."""
        usual = max(self.limits.usual_lease_seconds, self.limits.silent_seconds)
        return heard.promised if heard.promised > usual else 0.0

    def _suspect(self, now: float) -> None:
        # NB: one whose agent never came cannot fall silent, and says nothing about our own network.
        known = [heard for heard in self._providers.values() if heard.version != NEVER_HEARD]
        silent = [heard.fell_silent_at for heard in known if heard.fell_silent_at is not None]
        total = len(known)
        if self.suspected_until is not None:
            # The hold ends by time, or as soon as the larger part speaks again.
            if now >= self.suspected_until or len(silent) <= total * self.limits.suspect_share:
                self.suspected_until = None
            return
        recent = [at for at in silent if now - at <= self.limits.window_seconds]
        at_once = len(recent) > total * self.limits.suspect_share
        if total >= self.limits.suspect_providers and at_once:
            self.suspected_until = now + self.limits.hold_seconds
