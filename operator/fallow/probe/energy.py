"""What each pod has drawn, from the devices' own energy counters.

Between two samples a device's counter grows; the pods that were on it at either share that alike
(one pod has a GPU for itself unless it is time-sliced or partitioned: the driver counts no energy
for a MIG instance, so there it is an estimate). A pod is over when no device has seen it for a while.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Set
from dataclasses import dataclass

from fallow.resources.probe_report import PodEnergy


@dataclass(slots=True)
class _Drawn:
    first_at: float
    last_at: float
    millijoules: float = 0.0


class EnergyBook:
    """Adds up. `gone_seconds` without any process end a pod; the last `keep` that ended are kept."""

    def __init__(self, *, gone_seconds: float, keep: int = 32) -> None:
        self._gone_seconds = gone_seconds
        self._counters: dict[str, tuple[int, frozenset[str]]] = {}
        self._drawn: dict[str, _Drawn] = {}
        self._ended: deque[PodEnergy] = deque(maxlen=keep)

    def observe(self, key: str, *, millijoules: int | None, pods: Set[str], now: float) -> None:
        """Take one sample of a device: its counter (None: it has none) and the pods on it."""
        for pod in pods:
            drawn = self._drawn.setdefault(pod, _Drawn(now, now))
            drawn.last_at = now
        if millijoules is None:
            self._counters.pop(key, None)
            return
        before, pods_before = self._counters.get(key, (millijoules, frozenset()))
        self._counters[key] = (millijoules, frozenset(pods))
        sharing = [self._drawn[pod] for pod in pods | pods_before if pod in self._drawn]
        grown = millijoules - before
        if grown <= 0:  # the driver was loaded anew and counts from zero
            return
        for drawn in sharing:
            drawn.millijoules += grown / len(sharing)

    def running(self) -> dict[str, float]:
        """Return joules of each pod that is not over, by UID."""
        return {pod: drawn.millijoules / 1000 for pod, drawn in self._drawn.items()}

    def ended(self, *, now: float) -> tuple[PodEnergy, ...]:
        """Return the pods that are over, oldest first; `now` closes those not seen any more."""
        gone = [pod for pod, drawn in self._drawn.items() if now - drawn.last_at >= self._gone_seconds]
        for pod in sorted(gone, key=lambda pod: (self._drawn[pod].last_at, pod)):
            drawn = self._drawn.pop(pod)
            seconds = round(drawn.last_at - drawn.first_at)
            joules = round(drawn.millijoules / 1000)
            self._ended.append(PodEnergy(pod=pod, joules=joules, seconds=seconds))
        return tuple(self._ended)

    def resume(self, ended: tuple[PodEnergy, ...]) -> None:
        """Take over what an earlier process told of pods that were over."""
        self._ended.extend(ended)
