"""`fallow agent`: offers a member's idle capacity to one hub and runs its guests.

Two API servers: the hub, outbound, where it may use its own namespace only; and the member, where Kopf feeds
Offers and Nodes, and light reflectors feed pods and GuestSets. Either may be away at any time: a missing hub
stops no guest, and a killed agent loses nothing that it cannot read again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Never

import structlog
from eth_account.signers.local import LocalAccount

from fallow.agent.cycle import Cycle
from fallow.agent.heartbeat import HubPulse
from fallow.agent.joining import joined
from fallow.agent.quoting import Identity
from fallow.agent.views import HubViews, MemberViews
from fallow.agent.wiring import Connections, wired
from fallow.errors import NotLeading
from fallow.kube.client import ApiServer
from fallow.kube.holders import own_name, surely_dead
from fallow.kube.kopf_host import run_with_kopf
from fallow.kube.lease import Leadership
from fallow.kube.view import View
from fallow.kube.watch import Reflector
from fallow.kube.writers import Writers
from fallow.receipts.keystores import load_key
from fallow.receipts.typed_data import Domain
from fallow.receipts.words import from_hex
from fallow.resources import naming
from fallow.settings import AgentSettings
from fallow.telemetry import Telemetry, serve

log = structlog.get_logger(__name__)

MEMBER_WRITES_PER_SECOND = 500.0
"""To the owner's API server: what one control plane takes without being felt by others."""
MEMBER_WRITES_IN_FLIGHT = 64
"""More than to the hub, which many agents share: a job's pods are created at once or not in time. Each
connection costs the agent some 300 KiB while it is open."""
MEMBER_SLOW_SECONDS = 5.0
"""An answer slower than this halves the pace. Not a second as on the hub: a burst of pods makes a small
control plane slow by itself, and halving then only made it last (decision 411)."""
LONGEST_PAUSE_SECONDS = 1.0
"""Between two cycles of a member so large that one takes long."""
DRAIN_SECONDS = 5.0
"""How long writes under way get at the end."""


def run(settings: AgentSettings) -> None:
    """Run the agent until SIGTERM or SIGINT. Guests run on without it."""
    asyncio.run(run_agent(settings))


async def run_agent(settings: AgentSettings, *, stop: asyncio.Event | None = None) -> None:
    """Run the agent until `stop` is set or a signal arrives. Raises SettingsError for unusable settings."""
    telemetry = Telemetry("agent")
    agent: _Agent | None = None

    def unwell() -> str | None:
        return agent.unwell() if agent else None  # one that waits to be let in is well

    member = await ApiServer.connect(settings.kubeconfig, name="member", telemetry=telemetry)
    async with (
        serve(telemetry, address=settings.metrics_address, unwell=unwell),
        member,
        _hub_of(settings, member, telemetry) as (hub, joined_key),
    ):
        identity = identity_of(settings, joined_key)
        agent = _Agent(settings, identity, telemetry, member=member, hub=hub)
        await agent.lead(stop or asyncio.Event())


@asynccontextmanager
async def _hub_of(
    settings: AgentSettings, member: ApiServer, telemetry: Telemetry
) -> AsyncIterator[tuple[ApiServer, LocalAccount | None]]:
    """Open the way to the hub, by kubeconfig or by invite; the key is the one that joined, if any did."""
    if settings.hub_kubeconfig is not None:
        hub = await ApiServer.connect(settings.hub_kubeconfig, name="hub", telemetry=telemetry)
        async with hub:
            yield hub, None
    else:
        async with (
            joined(settings, member) as access,
            ApiServer(access, name="hub", telemetry=telemetry) as hub,
        ):
            yield hub, access.key


def identity_of(settings: AgentSettings, joined_key: LocalAccount | None = None) -> Identity:
    """Return who this agent is: its key is the one that joined, or is read from the keystore.

    Raises SettingsError.
    """
    payments = settings.payments
    return Identity(
        provider=settings.provider,
        payee=settings.payee,
        key=joined_key or load_key(settings.signer, what="signer"),
        domain=Domain(chain_id=payments.chain_id, escrow=payments.escrow, hub_id=from_hex(settings.hub_id)),
        token=payments.token,
        token_decimals=payments.token_decimals,
    )


class _Agent:
    """The agent's parts, wired; lives for one process."""

    def __init__(
        self,
        settings: AgentSettings,
        identity: Identity,
        telemetry: Telemetry,
        *,
        member: ApiServer,
        hub: ApiServer,
    ) -> None:
        self._settings = settings
        self._identity = identity
        self._telemetry = telemetry
        self._member = member
        self._hub = hub
        self._namespace = naming.provider_namespace(settings.provider)
        self._dirty = asyncio.Event()
        self.member_views = MemberViews(guest_namespace=settings.guests.namespace, dirty=self._dirty)
        self._hub_views = HubViews(dirty=self._dirty)
        self._pulse = HubPulse(
            hub,
            namespace=self._namespace,
            identity=f"{socket.gethostname()}-{os.getpid()}",
            settings=settings.heartbeat,
            now=_now,
            on_change=self._dirty.set,
        )
        self._connections = Connections(
            settings=settings,
            identity=identity,
            telemetry=telemetry,
            member=member,
            hub=hub,
            member_views=self.member_views,
            hub_views=self._hub_views,
            pulse=self._pulse,
            now=_now,
            wake=self._dirty.set,
        )
        self._cycled_at = time.monotonic()
        self._leadership = Leadership(
            member,
            namespace=settings.system_namespace,
            name=settings.lease.name,
            identity=own_name(),
            duration_seconds=settings.lease.duration_seconds,
            renew_seconds=settings.lease.renew_seconds,
            surely_dead=surely_dead,
        )

    async def lead(self, stop: asyncio.Event) -> None:
        """Wait for the member's lease, then work until stopped: two agents never act at once.

        Raises NotLeading when the lease is lost: what this process still has in mind may be old by then.
        """
        if not self._settings.lease.enabled:
            await self._follow_both(stop)
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        if not await self._leadership.acquired(stop):
            return
        # NB: made before Kopf, which at its end cancels every task that was started after it.
        keeping = asyncio.create_task(self._leadership.keep(), name="lease")
        keeping.add_done_callback(lambda _: stop.set())
        try:
            await self._follow_both(stop)
            if keeping.done():
                raise NotLeading("the lease was lost; another agent acts here now")
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            await self._leadership.release()

    async def _follow_both(self, stop: asyncio.Event) -> None:
        views = self.member_views
        await run_with_kopf(self._member, [views.offers, views.nodes], self.work, stop=stop)

    def _may_write(self) -> bool:
        return not self._settings.lease.enabled or self._leadership.may_write()

    def unwell(self) -> str | None:
        """Say what is wrong with this process, for /healthz; a silent hub is not its fault."""
        if not self._may_write():  # it waits, or is about to end
            return None
        since = time.monotonic() - self._cycled_at
        longest = self._settings.cycle.resync_seconds * 2 + 60
        return f"No cycle for {since:.0f} s." if since > longest else None

    async def work(self, stop: asyncio.Event) -> None:
        """Follow both servers and cycle until told to stop; then say so to the hub and finish writes."""
        async with self._writers_of_member() as to_member, self._writers_of_hub() as to_hub:
            cycle = wired(self._connections, to_member, to_hub)
            async with _background(stop, *self._reflectors(), self._pulse.run()):
                await self._loop(cycle, stop)
                log.info("stopping; guests run on")
                await self._pulse.announce_restart()
                await to_member.drain(timeout_seconds=DRAIN_SECONDS)
                await to_hub.drain(timeout_seconds=DRAIN_SECONDS)

    async def _loop(self, cycle: Cycle, stop: asyncio.Event) -> None:
        debounce = self._settings.cycle.debounce_seconds
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                self._dirty.clear()
                self._cycled_at = started = time.monotonic()
                try:
                    wait = cycle.run()
                except Exception:  # a bug in one decision must not end all of them: say so and look again
                    log.exception("cycle failed")
                    wait = 5.0
                took = time.monotonic() - started
                self._telemetry.cycle_seconds.observe(took)
                changed = asyncio.create_task(self._dirty.wait())
                await asyncio.wait({changed, stopping}, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                if not stop.is_set():
                    # Cycles take a third of the loop at most: what they decided has to be written, too.
                    await asyncio.sleep(max(debounce, min(LONGEST_PAUSE_SECONDS, 2 * took)))
        finally:
            stopping.cancel()

    def _writers_of_member(self) -> Writers:
        writes = self._settings.writes
        return Writers(
            in_flight=max(writes.in_flight, MEMBER_WRITES_IN_FLIGHT),
            per_second=MEMBER_WRITES_PER_SECOND,
            burst=int(2 * MEMBER_WRITES_PER_SECOND),
            slow_answer_seconds=max(writes.slow_answer_seconds, MEMBER_SLOW_SECONDS),
            may_write=self._may_write,
            telemetry=self._telemetry,
        )

    def _writers_of_hub(self) -> Writers:
        writes = self._settings.writes
        return Writers(
            in_flight=writes.in_flight,
            per_second=writes.per_second,
            burst=writes.burst,
            slow_answer_seconds=writes.slow_answer_seconds,
            may_write=self._may_write,
            telemetry=self._telemetry,
        )

    def _reflectors(self) -> list[Coroutine[Any, Any, Never]]:
        hub, member = self._hub_views, self.member_views
        own = f"metadata.name={self._settings.provider}"
        return [
            self._follow(self._member, member.pods),
            self._follow(self._member, member.guest_sets, namespace=self._settings.guests.namespace),
            self._follow(self._hub, hub.placements, namespace=self._namespace),
            self._follow(self._hub, hub.quotes, namespace=self._namespace),
            self._follow(self._hub, hub.provider_nodes, namespace=self._namespace),
            self._follow(self._hub, hub.providers, field_selector=own),
        ]

    def _follow(
        self, api: ApiServer, view: View, *, namespace: str | None = None, field_selector: str | None = None
    ) -> Coroutine[Any, Any, Never]:
        watch = self._settings.watch
        return Reflector(
            api,
            view,
            namespace=namespace,
            field_selector=field_selector,
            page_size=watch.page_size,
            silence_seconds=watch.silence_seconds,
        ).run()


@asynccontextmanager
async def _background(stop: asyncio.Event, *coroutines: Coroutine[Any, Any, Never]) -> AsyncIterator[None]:
    """Run coroutines beside the block and cancel them at its end; one that fails ends the process."""

    def ended(task: asyncio.Task[Never]) -> None:
        if not task.cancelled():
            log.error("a part of the agent ended; stopping", part=task.get_name())
            stop.set()

    tasks = [asyncio.create_task(c, name=getattr(c, "__qualname__", None)) for c in coroutines]
    for task in tasks:
        task.add_done_callback(ended)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task


def _now() -> datetime:
    return datetime.now(UTC)
