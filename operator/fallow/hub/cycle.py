"""The hub's cycle: from what changed to what to write, in numbered steps.

`run` reads the view, decides and submits; it never waits. What something happened to is looked at; the rest
is left alone, except every `resync_seconds`.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from fallow.hub.demand import Demand
from fallow.hub.desk import Desk
from fallow.hub.dispatch import Dispatch
from fallow.hub.steps import Steps
from fallow.hub.supply import Supply

log = structlog.get_logger(__name__)

LEAST_UNREACHABLE_SECONDS = 5
"""Smallest `unreachableSeconds`: below it silence means nothing to anybody."""
SILENCE_STEP_SECONDS = 1.0
"""Silence moves no object, so whoever waits for its end is looked at this often."""


class Cycle:
    """Decides. One per process; `run` once per wake-up."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._supply = Supply(desk)
        self._demand = Demand(desk, Steps(desk))
        self._dispatch = Dispatch(desk)
        self._resynced_at = float("-inf")
        self._silence_followed_at = float("-inf")

    def run(self) -> None:
        """Decide on everything that was touched since the last time, and on all that waits."""
        now = self._desk.clock.monotonic()
        view = self._desk.view
        # 1. Time: who is silent, whose status was put off, and every so often everything.
        self._listen(now)
        self._recall(now)
        # 2. Providers that something happened to: where they stand, and so who may be given work.
        providers = _taken(view.touched_providers)
        _each(providers, self._supply.judge)
        # 3. Jobs that something happened to: add up, and take each placement its next step.
        jobs = _taken(view.touched_jobs)
        _each(jobs, self._demand.follow)
        # 4. Schedule whatever waits on whatever is free; add up again what that changed.
        if self._desk.memory.waiting:
            placed = self._dispatch.run()
            _each(placed, self._demand.follow)
            jobs |= placed
        # 5. Say so: statuses of what was touched, jobs first.
        _each(jobs, lambda uid: self._demand.report(uid, now))
        _each(providers, lambda name: self._supply.report(name, now))

    def _listen(self, now: float) -> None:
        view, staleness = self._desk.view, self._desk.staleness
        suspicious, silent = staleness.suspects_itself(), set(staleness.silent_providers())
        staleness.advance(now, watching=self._desk.watching())
        for name in silent ^ set(staleness.silent_providers()):
            log.info("provider is heard again" if name in silent else "provider is silent", provider=name)
            view.touch_provider(name)
        if staleness.suspects_itself() and not suspicious:
            log.warning("many providers fell silent at once: the hub suspects itself and moves no work")
        if suspicious != staleness.suspects_itself():
            view.touch_all()
        if now - self._silence_followed_at < SILENCE_STEP_SECONDS:
            return
        self._silence_followed_at = now
        for name in self._desk.memory.standings:
            silence = staleness.silence(name) or 0.0
            if silence >= LEAST_UNREACHABLE_SECONDS and view.holdings.guests[name]:
                view.touch_provider(name)

    def _recall(self, now: float) -> None:
        view, memory = self._desk.view, self._desk.memory
        if now - self._resynced_at >= self._desk.settings.cycle.resync_seconds:
            self._resynced_at = now
            view.touch_all()
        view.touched_jobs |= _taken(memory.later_jobs)
        view.touched_providers |= _taken(memory.later_providers)


def _taken(names: set[str]) -> set[str]:
    """Empty a set and return what was in it."""
    taken = set(names)
    names.clear()
    return taken


def _each(names: set[str], act: Callable[[str], None]) -> None:
    """Act on each; one that fails unexpectedly is logged and does not take the others with it."""
    for name in sorted(names):
        try:
            act(name)
        except Exception:
            log.exception("one of many failed", about=name)
