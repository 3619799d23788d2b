"""The hub's cycle: from what changed to what to write, in numbered steps.

It reads the view, decides and submits; it waits for no answer. What something happened to is looked at; the
rest is left alone, but for its turn once every `resync_seconds`. Where there is much to do (10,000 jobs after
a start) it is done in slices, between which events and answers come in (`slices`).
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from fallow.hub.demand import Demand
from fallow.hub.desk import Desk
from fallow.hub.dispatch import Dispatch
from fallow.hub.retention import Retention, Turns
from fallow.hub.slices import Slices, at_once
from fallow.hub.steps import Steps
from fallow.hub.supply import Supply

log = structlog.get_logger(__name__)

LEAST_UNREACHABLE_SECONDS = 5
"""Smallest `unreachableSeconds`: below it silence means nothing to anybody."""
LISTEN_SECONDS = 0.2
"""Silence is counted in steps of at least this long: it costs a look at every provider."""
LOOK_AGAIN_SECONDS = 1.0
"""What waits is scheduled again this often where nothing announces a change: a back-off that ended, the time
of day."""
UNTOLD_SECONDS = 0.1
"""While statuses are still to be told, a cycle comes at least this often."""
SILENCE_STEP_SECONDS = 1.0
"""Silence moves no object, so whoever waits for its end is looked at this often."""


class Cycle:
    """Decides. One per process; `run` once per wake-up."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._supply = Supply(desk)
        self._demand = Demand(desk, Steps(desk))
        self._dispatch = Dispatch(desk)
        seconds = desk.settings.cycle.resync_seconds
        self._jobs_in_turn = Turns(lambda: {*desk.view.jobs_by_uid, *desk.view.placed}, seconds=seconds)
        self._providers_in_turn = Turns(
            lambda: [one["metadata"]["name"] for one in desk.view.providers], seconds=seconds
        )
        self._retention = Retention(desk, round_seconds=seconds)
        self._jobs_to_tell, self._providers_to_tell = Backlog(), Backlog()
        self._silence_followed_at = float("-inf")
        self._listened_at = float("-inf")
        self._silent: frozenset[str] = frozenset()
        self._dispatched_at = float("-inf")

    def run(self) -> None:
        """Decide on everything that was touched since the last time, and on all that waits, at once."""
        at_once(self.steps())

    def steps(self) -> Slices[None]:
        """Do the same in steps. The view may change between them; that is for the next cycle."""
        now = self._desk.clock.monotonic()
        view = self._desk.view
        # 1. Time: who is silent, whose status was put off until now, and whose turn it is.
        if now - self._listened_at >= LISTEN_SECONDS:
            self._listened_at = now
            self._listen(now)
        yield from self._recall(now)
        # 2. Providers that something happened to: where they stand, and so who may be given work.
        providers = _taken(view.touched_providers)
        yield from _each(providers, self._supply.judge)
        # 3. Jobs that something happened to: add up, and take each placement its next step.
        jobs = _taken(view.touched_jobs)
        yield from _each(jobs, self._demand.follow)
        self._dispatch.touch(jobs)
        # 4. Schedule whatever waits on whatever is free; add up again what that changed.
        waiting = self._desk.memory.waiting
        moved, view.money_moved = view.money_moved, False
        news = moved or providers or not jobs.isdisjoint(waiting)
        if waiting and (news or now - self._dispatched_at >= LOOK_AGAIN_SECONDS):
            self._dispatched_at = now
            placed, told = yield from self._dispatch.steps()
            yield from _each(placed, self._demand.follow)
            self._dispatch.touch(placed)
            jobs |= placed | told
        # 5. Say so: statuses of what was touched, jobs first.
        yield from self._jobs_to_tell.tell(jobs, lambda uid: self._demand.report(uid, now))
        yield from self._providers_to_tell.tell(providers, lambda name: self._supply.report(name, now))

    def due_in(self, now: float, *, at_most: float) -> float:
        """Return the seconds until something that was put off is due."""
        memory = self._desk.memory
        if self._jobs_to_tell or self._providers_to_tell:
            at_most = min(at_most, UNTOLD_SECONDS)
        due = min((*memory.later_jobs.values(), *memory.later_providers.values()), default=now + at_most)
        return min(at_most, max(0.0, due - now))

    def _listen(self, now: float) -> None:
        view, staleness = self._desk.view, self._desk.staleness
        suspicious = staleness.suspects_itself()
        staleness.advance(now, watching=self._desk.watching())
        # NB: compared with the last look: a heartbeat ends a silence when it arrives, between two looks.
        before, self._silent = self._silent, frozenset(staleness.silent_providers())
        for name in sorted(before ^ self._silent):
            self._turned(name, now, heard=name in before)
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

    def _turned(self, provider: str, now: float, *, heard: bool) -> None:
        """Take in that a provider fell silent or is heard again; one that flaps is believed later."""
        log.info("provider is heard again" if heard else "provider is silent", provider=provider)
        flapping = self._desk.flapping
        if heard:
            if flapping.heard_again(provider, now) is not None:
                log.warning("provider flaps", provider=provider, times=flapping.times(provider, now))
        elif not self._desk.staleness.suspects_itself():
            flapping.fell_silent(provider, now)
        self._desk.view.touch_provider(provider)

    def _recall(self, now: float) -> Slices[None]:
        view, memory = self._desk.view, self._desk.memory
        view.touched_jobs.update(self._jobs_in_turn.due(now))
        view.touched_providers.update(self._providers_in_turn.due(now))
        yield from self._retention.look(now)
        view.touched_jobs |= _due(memory.later_jobs, now)
        view.touched_providers |= _due(memory.later_providers, now)


class Backlog:
    """Whose status is still to be told, while writes are crowded; oldest first."""

    def __init__(self) -> None:
        self._names: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._names)

    def tell(self, news: set[str], report: Callable[[str], bool]) -> Slices[None]:
        """Report the news, some of which cannot wait, and then what is left from before."""

        def told(name: str) -> None:
            self._names.pop(name, None)
            if not report(name):
                self._names[name] = None

        yield from _each(news, told)
        for name in list(self._names):
            yield None
            del self._names[name]  # first: one that fails is not tried for ever
            if not report(name):
                self._names[name] = None
                return


def _taken(names: set[str]) -> set[str]:
    """Empty a set and return what was in it."""
    taken = set(names)
    names.clear()
    return taken


def _due(later: dict[str, float], now: float) -> set[str]:
    """Take out and return the names whose time has come."""
    due = {name for name, at in later.items() if at <= now}
    for name in due:
        del later[name]
    return due


def _each(names: set[str], act: Callable[[str], None]) -> Slices[None]:
    """Act on each; one that fails unexpectedly is logged and does not take the others with it."""
    for name in sorted(names):
        yield None
        try:
            act(name)
        except Exception:
            log.exception("one of many failed", about=name)
