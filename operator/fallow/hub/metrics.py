"""What the hub's metrics endpoint tells beyond what every program tells."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from fallow.hub.desk import Desk


class HubMetrics:
    """Gauges are set once per cycle; labels are bounded by the number of providers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._jobs = Gauge("fallow_hub_jobs", "ComputeJobs known.", registry=registry)
        self._waiting = Gauge(
            "fallow_hub_jobs_waiting", "ComputeJobs with tasks that have no place.", registry=registry
        )
        self._placements = Gauge("fallow_hub_placements", "Placements not yet absorbed.", registry=registry)
        self._claims = Gauge("fallow_hub_claims", "PaymentClaims known.", registry=registry)
        self._schedulable = Gauge(
            "fallow_hub_provider_schedulable",
            "1 while a provider gets new work.",
            ["provider"],
            registry=registry,
        )
        self._slots = Gauge(
            "fallow_hub_slots_held", "Slots that placements hold.", ["provider"], registry=registry
        )
        self.failed_cycles = Counter(
            "fallow_hub_failed_cycles", "Cycles that ended in an unexpected error.", registry=registry
        )

        self._longest = 0.0
        self._slice = Gauge(
            "fallow_hub_longest_slice_seconds",
            "Longest that a cycle has held the event loop, since the start.",
            registry=registry,
        )

    def sliced(self, seconds: float) -> None:
        """Take in how long a cycle held the event loop."""
        if seconds > self._longest:
            self._longest = seconds
            self._slice.set(seconds)

    def show(self, desk: Desk) -> None:
        """Set all gauges from what the hub knows now."""
        view, memory = desk.view, desk.memory
        self._jobs.set(len(view.jobs))
        self._waiting.set(len(memory.waiting))
        self._placements.set(len(view.placements))
        self._claims.set(len(view.claims))
        self._schedulable.clear()
        self._slots.clear()
        for name, standing in memory.standings.items():
            self._schedulable.labels(name).set(int(not standing.refuses))
            self._slots.labels(name).set(view.holdings.guests[name])
