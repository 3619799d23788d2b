"""Leases: who leads, and who is alive.

Leadership. One process holds a Lease and renews it. Others take it over when *they* have seen it
unchanged for its whole duration: nobody compares clocks. Each change of holder raises
`leaseTransitions`: that is the holder's `term`; an admission policy refuses creates of a lower
one. A holder trusts itself only up to a deadline of its own clock, counted from before it *sent*
its last renewal, so that it always ends before anyone else may begin. A process that was frozen
(SIGSTOP, a paused machine) finds the deadline passed before it writes: ask `may_write` or `check`
before each write. The clock counts on through suspension of the machine where the system has one
that does (CLOCK_BOOTTIME).

Heartbeat. An agent's Lease at the hub: the hub takes any change of it as a sign of life.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog

from fallow.errors import AlreadyExists, ApiError, Conflict, NotFound, NotLeading
from fallow.kube.client import JSON, ApiServer
from fallow.kube.conditions import micro_time
from fallow.kube.kinds import LEASE

log = structlog.get_logger(__name__)

_RELEASE_TRIES = 3


def steady_seconds() -> float:
    """Read a clock that never goes back and does not stop while the machine sleeps, in seconds."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Term:
    """What the holder knows of its own lease: pure bookkeeping, no requests.

    `steady` is the clock; every time is in its seconds.
    """

    def __init__(self, *, duration_seconds: float, steady: Callable[[], float] = steady_seconds) -> None:
        self.number: int | None = None
        """`leaseTransitions` under which the lease is (or was last) held."""
        self._duration = duration_seconds
        self._steady = steady
        self._deadline: float | None = None
        self._seen: tuple[str, float] | None = None

    def held(self, number: int, *, asked_at: float) -> None:
        """Note a renewal that the server confirmed; it was sent at `asked_at`."""
        self.number = number
        self._deadline = asked_at + self._duration

    def lost(self) -> None:
        """Note that the lease is another's, or given back: no write from now on."""
        self._deadline = None

    def may_write(self) -> bool:
        """Say whether the lease is surely still ours at this moment."""
        return self._deadline is not None and self._steady() < self._deadline

    def expired(self, lease: JSON) -> bool:
        """Say whether another's lease, as just read, may be taken over.

        True when it is given back, or when this process has seen this very version for as long as
        the lease lasts.
        """
        spec = lease.get("spec") or {}
        if not spec.get("holderIdentity"):
            return True
        version, now = lease["metadata"]["resourceVersion"], self._steady()
        if self._seen is None or self._seen[0] != version:
            self._seen = (version, now)
        return now - self._seen[1] >= float(spec.get("leaseDurationSeconds") or self._duration)


class Leadership:
    """A Lease that one of several processes holds.

    `identity` is unique to this process: a restarted process is another holder, with another
    term. `surely_dead` says of a holder that it runs no more; its lease need not run out.
    `on_change(leading)` is called when it is gained or lost.
    """

    def __init__(
        self,
        api: ApiServer,
        *,
        namespace: str,
        name: str,
        identity: str,
        duration_seconds: float = 15.0,
        renew_seconds: float = 3.0,
        steady: Callable[[], float] = steady_seconds,
        now: Callable[[], datetime] = _utc_now,
        surely_dead: Callable[[str], bool] = lambda holder: False,
        on_change: Callable[[bool], None] | None = None,
    ) -> None:
        self._surely_dead = surely_dead
        self._api = api
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._duration_seconds = duration_seconds
        self._renew_seconds = renew_seconds
        self._steady = steady
        self._now = now
        self._on_change = on_change
        self._term = Term(duration_seconds=duration_seconds, steady=steady)
        self._lease: JSON | None = None
        self._leading = False

    @property
    def term(self) -> int:
        """The term held. Raises NotLeading before the first; ask `may_write` whether it still is."""
        if self._term.number is None:
            raise NotLeading(f"Lease {self._name} was never held by {self._identity}")
        return self._term.number

    def may_write(self) -> bool:
        """Say whether this process may write now: ask right before each write."""
        return self._term.may_write()

    def check(self) -> None:
        """Raise NotLeading unless this process may write now."""
        if not self.may_write():
            raise NotLeading(f"Lease {self._name} is not held by {self._identity} (any more)")

    async def acquire(self) -> int:
        """Wait until the lease is ours; returns the term. Errors of the server are outlived."""
        while True:
            await self.step()
            if self.may_write():
                return self.term
            # Shorter than renewals: a lease given back is taken at once, a dead one in time.
            await asyncio.sleep(min(1.0, self._renew_seconds))

    async def acquired(self, stop: asyncio.Event) -> bool:
        """Wait for the lease as `acquire` does; False when told to stop first."""
        acquiring = asyncio.create_task(self.acquire(), name="acquire")
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({acquiring, stopping}, return_when=asyncio.FIRST_COMPLETED)
        won = acquiring.done()
        for task in (acquiring, stopping):
            task.cancel()
        results = await asyncio.gather(acquiring, stopping, return_exceptions=True)
        if won and isinstance(results[0], BaseException):
            raise results[0]
        return won

    async def keep(self) -> None:
        """Renew until the lease is lost; returns then. The caller stops all writing and ends."""
        while self.may_write():
            await asyncio.sleep(self._renew_seconds)
            await self.step()
        self._told(leading=False)

    async def step(self) -> None:
        """Take the lease if that is allowed, renew it if it is ours: one look, at most one write."""
        asked_at = self._steady()
        try:
            lease = self._lease if self.may_write() else None
            if lease is None:
                lease = await self._read_or_create(asked_at)
                if lease is None:
                    return
            spec = lease.get("spec") or {}
            holder = spec.get("holderIdentity") or ""
            ours = holder == self._identity
            if not ours and not self._term.expired(lease) and not self._surely_dead(holder):
                self._term.lost()
                return
            number = int(spec.get("leaseTransitions") or 0) + (0 if ours else 1)
            fresh = self._spec(number, acquired=spec.get("acquireTime") if ours else None)
            self._lease = await self._api.replace(LEASE, {**lease, "spec": fresh})
            self._term.held(number, asked_at=asked_at)
            self._told(leading=True)
        except (Conflict, AlreadyExists, NotFound):
            self._lease = None  # somebody else was quicker, or it is gone: look again next time
        except ApiError as error:
            # NB: the write may have happened; only what was confirmed moves the deadline.
            self._lease = None
            log.warning("lease not renewed", lease=self._name, error=str(error))

    async def release(self) -> None:
        """Give the lease back, so that a successor need not wait; never raises an ApiError.

        A renewal that was cut off may have been written all the same: then the lease is read again.
        """
        self._term.lost()
        self._told(leading=False)
        lease = self._lease
        for _ in range(_RELEASE_TRIES):
            try:
                if lease is None:
                    lease = await self._api.get(LEASE, self._name, namespace=self._namespace)
                spec = lease.get("spec") or {}
                if spec.get("holderIdentity") != self._identity:
                    return
                await self._api.replace(
                    LEASE, {**lease, "spec": {**spec, "holderIdentity": "", "leaseDurationSeconds": 1}}
                )
                return
            except Conflict:
                lease = None
            except NotFound:
                return
            except ApiError as error:
                log.info("lease not given back; it runs out", lease=self._name, error=str(error))
                return

    async def _read_or_create(self, asked_at: float) -> JSON | None:
        """Return the lease as it is; None when it was created and is ours by that."""
        try:
            return await self._api.get(LEASE, self._name, namespace=self._namespace)
        except NotFound:
            meta = {"name": self._name, "namespace": self._namespace}
            made = {"metadata": meta, "spec": self._spec(1, acquired=None)}
            self._lease = await self._api.create(LEASE, made)
            self._term.held(1, asked_at=asked_at)
            self._told(leading=True)
            return None

    def _spec(self, number: int, *, acquired: str | None) -> JSON:
        now = micro_time(self._now())
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": math.ceil(self._duration_seconds),
            "acquireTime": acquired or now,
            "renewTime": now,
            "leaseTransitions": number,
        }

    def _told(self, *, leading: bool) -> None:
        if leading == self._leading:
            return
        self._leading = leading
        log.info("leading" if leading else "not leading any more", lease=self._name, term=self._term.number)
        if self._api.telemetry is not None:
            self._api.telemetry.leading.set(int(leading))
        if self._on_change is not None:
            self._on_change(leading)


class Heartbeat:
    """A Lease that says "alive": one small write per beat, which follows from no read."""

    def __init__(
        self,
        api: ApiServer,
        *,
        namespace: str,
        name: str,
        identity: str,
        duration_seconds: int,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._duration_seconds = duration_seconds
        self._now = now

    async def beat(self, *, announce_seconds: int | None = None) -> JSON:
        """Renew, and announce that this holds for `announce_seconds` (default: the usual duration).

        A planned restart announces its own length first, at most 300. Creates the Lease where it
        is missing. Returns it; raises ApiErrors.
        """
        spec: dict[str, Any] = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": announce_seconds or self._duration_seconds,
            "renewTime": micro_time(self._now()),
        }
        try:
            return await self._api.patch(LEASE, self._name, {"spec": spec}, namespace=self._namespace)
        except NotFound:
            meta = {"name": self._name, "namespace": self._namespace}
            return await self._api.create(LEASE, {"metadata": meta, "spec": spec})

    async def run(self, *, seconds: float) -> None:
        """Beat every `seconds` until cancelled; a beat that fails is logged and the next one tried."""
        while True:
            try:
                await self.beat()
            except ApiError as error:
                log.warning("heartbeat failed", lease=self._name, error=str(error))
            await asyncio.sleep(seconds)
