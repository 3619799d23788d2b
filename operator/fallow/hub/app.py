"""`fallow hub`: take the lease, follow the API server, decide, write, until told to stop.

A standby follows too, so that its view is filled when the lease comes to it; it decides nothing before it has
seen all that the leader before it wrote, and what that one might still try is refused by its term. When the
lease is lost this process writes nothing more, forgets all that it knew, and stands by like any other.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import time
import uuid
from contextlib import AsyncExitStack

import structlog

from fallow.errors import ApiError, NotLeading
from fallow.hub.carrying import Carrier
from fallow.hub.cycle import Cycle
from fallow.hub.desk import Clock, Desk
from fallow.hub.door import run_door
from fallow.hub.metrics import HubMetrics
from fallow.hub.placements import JSON
from fallow.hub.slices import in_slices
from fallow.hub.staleness import SilenceLimits, Staleness
from fallow.hub.view import HubView
from fallow.kube.client import ApiServer
from fallow.kube.kopf_host import run_with_kopf
from fallow.kube.lease import Leadership
from fallow.kube.watch import Reflector
from fallow.kube.writers import Writers
from fallow.resources.naming import PROVIDER_NAMESPACE_PREFIX
from fallow.settings import HubSettings
from fallow.telemetry import Telemetry, serve

log = structlog.get_logger(__name__)

TICK_SECONDS = 1.0
"""Silence is counted this often, and what was put off is looked at again."""
DRAIN_SECONDS = 10.0
HEAD_START_SECONDS = 0.5
"""So long the lease may take where nobody holds it."""
CATCH_UP_SECONDS = 0.02


def run(settings: HubSettings) -> None:
    """Run the hub until SIGTERM or SIGINT."""
    asyncio.run(main(settings))


async def main(settings: HubSettings) -> None:
    """Run the hub in the present event loop."""
    telemetry = Telemetry("hub")
    metrics = HubMetrics(telemetry.registry)
    hub = Hub(settings, telemetry, metrics)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(
            serve(telemetry, address=settings.metrics_address, unwell=lambda: hub.unwell())
        )
        api = await stack.enter_async_context(
            await ApiServer.connect(settings.kubeconfig, name="hub", telemetry=telemetry)
        )
        door = asyncio.create_task(run_door(settings, api), name="door")
        try:
            while True:
                try:
                    await hub.lead_and_follow(api)
                except NotLeading as error:
                    log.warning("following again", why=str(error))
                    hub = Hub(settings, telemetry, metrics)
                else:
                    return
        finally:
            door.cancel()
            await asyncio.gather(door, return_exceptions=True)


class Reign:
    """The lease as one term of this process: waited for, kept, lost."""

    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership
        self.begun = asyncio.Event()
        self.lost = False

    async def run(self, stop: asyncio.Event) -> None:
        """Wait for the lease and keep it; returns when it is lost, or when told to stop before."""
        if await self._leadership.acquired(stop):
            self.begun.set()
            await self._leadership.keep()
            self.lost = True


class Hub:
    """One term as leader, the wait for it included; nothing of it outlives the term."""

    def __init__(self, settings: HubSettings, telemetry: Telemetry, metrics: HubMetrics) -> None:
        self._settings = settings
        self._telemetry = telemetry
        silence = settings.silence
        self._staleness = Staleness(
            SilenceLimits(
                suspect_providers=silence.mass_silence_providers,
                silent_seconds=silence.silent_seconds,
                window_seconds=silence.mass_silence_window_seconds,
                hold_seconds=silence.mass_silence_hold_seconds,
            )
        )
        self._metrics = metrics
        self._cycled_at: float | None = None
        self._shown_at = float("-inf")

    def unwell(self) -> str | None:
        """Return what is wrong with this process, for /healthz."""
        if self._cycled_at is not None and time.monotonic() - self._cycled_at > 60:
            return "the cycle has not run for a minute"
        return None

    async def lead_and_follow(self, api: ApiServer) -> None:
        """Wait for the lease, then decide until stopped. Raises NotLeading when the lease is lost."""
        lease = self._settings.lease
        leadership = Leadership(
            api,
            namespace=self._settings.system_namespace,
            name=lease.name,
            identity=f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}",
            duration_seconds=lease.duration_seconds,
            renew_seconds=lease.renew_seconds,
        )
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        reign = Reign(leadership)
        # NB: made before Kopf, which at its end cancels every task that was started after it.
        keeping = asyncio.create_task(reign.run(stop), name="lease")
        try:
            view = HubView(decimals=self._settings.payments.token_decimals, on_lease=self._heard)
            await run_with_kopf(
                api,
                view.kopf_feeds,
                lambda stop: self._decide(api, view, leadership, reign, stop),
                stop=stop,
            )
            if reign.lost:
                raise NotLeading("the lease was lost; another process leads now")
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            await leadership.release()

    def _heard(self, lease: JSON) -> None:
        """Take in an agent's heartbeat."""
        meta, spec = lease["metadata"], lease.get("spec") or {}
        provider = meta["namespace"].removeprefix(PROVIDER_NAMESPACE_PREFIX)
        seconds = float(spec.get("leaseDurationSeconds") or 0)
        self._staleness.heard(provider, meta["resourceVersion"], lease_seconds=seconds)

    async def _decide(
        self,
        api: ApiServer,
        view: HubView,
        leadership: Leadership,
        reign: Reign,
        stop: asyncio.Event,
    ) -> None:
        settings = self._settings
        # Where nobody else leads, the lists come after the lease and are all that there is to know.
        await _first_of(stop, reign.begun, seconds=HEAD_START_SECONDS)
        stood_by = not reign.begun.is_set()
        reflectors = [
            Reflector(
                api,
                one,
                page_size=settings.watch.page_size,
                silence_seconds=settings.watch.silence_seconds,
            )
            for one in view.reflected
        ]
        following = [asyncio.create_task(one.run(), name=f"watch {one.view.resource}") for one in reflectors]
        heartbeats = next(one for one in reflectors if one.view is view.leases)
        # Our own lease is in that watch too: it speaks at least as often as we renew.
        patience = settings.lease.renew_seconds * 2 + 2
        try:
            async with Writers(
                in_flight=settings.writers.in_flight,
                per_second=settings.writers.per_second,
                burst=settings.writers.burst,
                slow_answer_seconds=settings.writers.slow_answer_seconds,
                may_write=leadership.may_write,
                telemetry=self._telemetry,
            ) as writers:
                desk = Desk(
                    view,
                    Carrier(api, view, writers, monotonic=time.monotonic),
                    self._staleness,
                    settings,
                    clock=Clock(monotonic=time.monotonic, unix=lambda: int(time.time())),
                    term=lambda: leadership.term,
                    watching=lambda: heartbeats.alive(within_seconds=patience),
                )
                await self._synced(view, stop)
                while not reign.begun.is_set() and not stop.is_set():
                    await _first_of(stop, reign.begun, seconds=TICK_SECONDS)
                if stood_by:
                    await _caught_up(api, view, reign, stop)
                await self._loop(Cycle(desk), desk, reign, stop)
                await writers.drain(timeout_seconds=DRAIN_SECONDS)
        finally:
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)

    async def _synced(self, view: HubView, stop: asyncio.Event) -> None:
        """Wait until every kind was listed; nothing is decided before."""
        while not view.synced() and not stop.is_set():
            await _first_of(stop, view.dirty, seconds=0.1)
            view.dirty.clear()
        log.info(
            "synced",
            jobs=len(view.jobs),
            providers=len(view.providers),
            placements=len(view.placements),
            claims=len(view.claims),
        )

    async def _loop(self, cycle: Cycle, desk: Desk, reign: Reign, stop: asyncio.Event) -> None:
        view = desk.view
        debounce = self._settings.cycle.debounce_seconds
        # NB: what came with the lists stays, and the cyclic collector would walk it all again and again while
        # more comes: most of a start with 10,000 jobs. What dies by its last reference dies all the same.
        gc.disable()
        started_up = False
        while not stop.is_set() and not reign.lost:
            view.dirty.clear()
            started = time.monotonic()
            try:
                await in_slices(cycle.steps(), held=self._metrics.sliced)
            except Exception:
                # NB: a bug must not end the process: it would come back to the same objects and die again.
                log.exception("the cycle failed")
                self._metrics.failed_cycles.inc()
                await asyncio.sleep(TICK_SECONDS)
            if not started_up:
                started_up = True
                gc.freeze()
                gc.enable()
            self._cycled_at = time.monotonic()
            self._telemetry.cycle_seconds.observe(self._cycled_at - started)
            if self._cycled_at - self._shown_at >= TICK_SECONDS:
                self._shown_at = self._cycled_at
                self._metrics.show(desk)
            await _first_of(stop, view.dirty, seconds=cycle.due_in(self._cycled_at, at_most=TICK_SECONDS))
            if view.dirty.is_set() and debounce:
                # A lone change is decided on soon; of many that follow each other a cycle sees some at once.
                since = time.monotonic() - started
                await asyncio.sleep(max(debounce / 5, debounce - since))


async def _caught_up(api: ApiServer, view: HubView, reign: Reign, stop: asyncio.Event) -> None:
    """Wait until the view has every object that the leader before us may have written.

    A watch may lag behind the lease: what was written before it was taken is compared, by version, with
    what has come. Compare-and-set would refuse the rest; this spares it, and keeps a task from being placed
    under a name that the last leader used for others.
    """
    for one in (view.jobs, view.placements, view.claims):
        wanted: dict[tuple[str, str], int] | None = None
        while not stop.is_set() and not reign.lost:
            try:
                wanted = await api.versions(one.resource) if wanted is None else wanted
            except ApiError as error:
                log.warning("cannot see yet what the last leader wrote", why=str(error))
                await asyncio.sleep(TICK_SECONDS)
                continue
            wanted = {key: version for key, version in wanted.items() if not one.knows(key, version)}
            if not wanted:
                break
            await asyncio.sleep(CATCH_UP_SECONDS)


async def _first_of(*events: asyncio.Event, seconds: float) -> None:
    """Wait until one of the events is set, or so long."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
