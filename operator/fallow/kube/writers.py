"""A bounded set of writers: decisions go in, requests go out, in order per object.

Per key (an object) one write is under way and at most one waits; a later decision for the key
takes the waiting one's place, since it was made from newer knowledge. Lower `priority` goes first.
Retryable errors are repeated with growing waits, unless a newer decision came; all others end the
write and are told to `on_done`, which marks the view dirty: the next cycle looks again.

Nothing starts once `may_write` says no (the lease is another's): what waits is dropped.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any

import structlog

from fallow.errors import ApiError, FallowError, NotLeading, Retryable, Timeout, TooManyRequests
from fallow.kube.backoff import Backoff
from fallow.kube.write_budget import WriteBudget
from fallow.telemetry import Telemetry

log = structlog.get_logger(__name__)

Write = Callable[[], Awaitable[Any]]
"""Makes and awaits the request. Called again on a retry, so it must make a new one each time."""
Done = Callable[[Exception | None], None]
"""Told how a write ended: None when it succeeded, else why not."""


@dataclass
class _Waiting:
    write: Write
    on_done: Done | None
    priority: int
    sequence: int
    backoff: Backoff
    not_before: float = 0.0


class Writers:
    """Carries out writes. Use as an async context manager; leaving it cancels what is left.

    `in_flight` writes at most at once; `per_second` and `burst` are the budget (see WriteBudget);
    an answer slower than `slow_answer_seconds` counts as a complaint of the server.
    """

    def __init__(
        self,
        *,
        in_flight: int,
        per_second: float,
        burst: int,
        slow_answer_seconds: float = 1.0,
        may_write: Callable[[], bool] = lambda: True,
        telemetry: Telemetry | None = None,
        monotonic: Callable[[], float] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._monotonic = monotonic or asyncio.get_running_loop().time
        self.budget = WriteBudget(per_second=per_second, burst=burst, monotonic=self._monotonic)
        self._in_flight = in_flight
        self._slow_answer_seconds = slow_answer_seconds
        self._may_write = may_write
        self._telemetry = telemetry
        self._chance = chance
        self._waiting: dict[Hashable, _Waiting] = {}
        self._ready: list[tuple[int, int, Hashable]] = []
        self._later: list[tuple[float, int, Hashable]] = []
        self._sequence = 0
        self._running: dict[Hashable, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._dispatcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Writers:
        self._dispatcher = asyncio.create_task(self._dispatch(), name="writers")
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [*self._running.values(), *([self._dispatcher] if self._dispatcher else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def submit(self, key: Hashable, write: Write, *, priority: int = 0, on_done: Done | None = None) -> None:
        """Have `write` carried out, after the one under way for `key` and instead of one that waits.

        A write whose place is taken is never told to its `on_done`.
        """
        old = self._waiting.get(key)
        if old is None:
            self._sequence += 1
            entry = _Waiting(write, on_done, priority, self._sequence, Backoff(chance=self._chance))
        else:  # keeps its place in the queue and the waits that the server earned
            entry = replace(old, write=write, on_done=on_done, priority=min(priority, old.priority))
        self._waiting[key] = entry
        if key not in self._running:
            self._queue(key, entry)
        self._touched()

    def pending(self, key: Hashable) -> bool:
        """Say whether a write for `key` waits or is under way."""
        return key in self._waiting or key in self._running

    def __len__(self) -> int:
        return len(self._waiting) + len(self._running)

    async def drain(self, *, timeout_seconds: float) -> bool:
        """Wait until nothing waits or is under way; False when that took too long."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def _dispatch(self) -> None:
        while True:
            self._changed.clear()
            wait = self._start_some()
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _start_some(self) -> float | None:
        """Start what may start; returns the seconds until more may, None when only a change helps."""
        if self._waiting and not self._may_write():
            self._drop_all()
        now = self._monotonic()
        while self._later and self._later[0][0] <= now:
            _, sequence, key = heapq.heappop(self._later)
            entry = self._waiting.get(key)
            if entry is not None and entry.sequence == sequence:
                self._queue(key, entry)
        while self._ready and len(self._running) < self._in_flight:
            priority, sequence, key = self._ready[0]
            entry = self._waiting.get(key)
            stale = entry is None or (entry.priority, entry.sequence) != (priority, sequence)
            if stale or key in self._running:  # queued again when its present write is done
                heapq.heappop(self._ready)
                continue
            wait = self.budget.wait_seconds()
            if wait > 0:
                return wait
            self.budget.take()
            heapq.heappop(self._ready)
            self._running[key] = asyncio.create_task(self._carry_out(key, self._waiting.pop(key)))
        return max(0.0, self._later[0][0] - now) if self._later else None

    def _queue(self, key: Hashable, entry: _Waiting) -> None:
        if entry.not_before > self._monotonic():
            heapq.heappush(self._later, (entry.not_before, entry.sequence, key))
        else:
            heapq.heappush(self._ready, (entry.priority, entry.sequence, key))

    async def _carry_out(self, key: Hashable, entry: _Waiting) -> None:
        try:
            error = await self._attempt(key, entry)
            if isinstance(error, Retryable):
                self._again(key, entry, error)
            elif entry.on_done is not None:
                entry.on_done(error)
        finally:
            del self._running[key]
            waiting = self._waiting.get(key)
            if waiting is not None:
                self._queue(key, waiting)
            self._touched()

    async def _attempt(self, key: Hashable, entry: _Waiting) -> Exception | None:
        started = self._monotonic()
        error: Exception | None = None
        try:
            if not self._may_write():
                raise NotLeading("the lease was lost before this write")
            await entry.write()
        except Exception as caught:
            error = caught
            if not isinstance(caught, FallowError):  # a bug: say where, but go on with the others
                log.exception("a write failed unexpectedly", key=str(key))
        slow = self._monotonic() - started > self._slow_answer_seconds
        if slow or isinstance(error, TooManyRequests | Timeout):
            self.budget.slow_down()
        if self._telemetry is not None:
            self._telemetry.writes.labels(type(error).__name__ if error else "ok").inc()
        return error

    def _again(self, key: Hashable, entry: _Waiting, error: Retryable) -> None:
        asked = error.retry_after_seconds if isinstance(error, ApiError) else None
        wait = entry.backoff.next_seconds(at_least=asked)
        log.info("write is repeated", key=str(key), error=str(error), wait_seconds=round(wait, 3))
        # A newer decision takes the place, but waits no less: the server is the same.
        again = self._waiting.setdefault(key, entry)
        again.backoff = entry.backoff
        again.not_before = self._monotonic() + wait

    def _drop_all(self) -> None:
        dropped, self._waiting = self._waiting, {}
        for entry in dropped.values():
            if entry.on_done is not None:
                entry.on_done(NotLeading("the lease was lost before this write"))
        self._touched()

    def _touched(self) -> None:
        if self._waiting or self._running:
            self._idle.clear()
        else:
            self._idle.set()
        if self._telemetry is not None:
            self._telemetry.writes_waiting.set(len(self))
        self._changed.set()
