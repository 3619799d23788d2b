"""Kopf inside our own event loop: it watches, we decide.

Kopf's share is small on purpose. It serves `on.event` handlers only (linear, and they patch
nothing), which feed views; Fallow's cycle and writers do the rest. Two things Kopf does not do are
added per feed: a complete list at the start, which sets `View.synced`, and one every few minutes,
because Kopf tells nothing of objects that vanished while its watch was too old (410).

For kinds of volume (placements, claims, pods) use `watch.Reflector`, twenty times cheaper.

    async def main(settings):
        async with ApiServer.connect(…) as hub:
            jobs = View(COMPUTE_JOB, dirty=dirty)
            await run_with_kopf(hub, [jobs], program)     # program: async def (stop: asyncio.Event)

How it ends matters. On SIGTERM or SIGINT `stop` is set; `program` finishes what it must (drains
writers, gives its lease back) and returns; only then is Kopf stopped, which at its end cancels
every task that was started after it. When Kopf fails, `stop` is set too and its error is raised.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Never, cast

import kopf
import structlog

from fallow.errors import ApiError
from fallow.kube.backoff import Backoff
from fallow.kube.client import ApiServer
from fallow.kube.config import Connection
from fallow.kube.listing import take_list
from fallow.kube.view import View

log = structlog.get_logger(__name__)

_KOPF_SECONDS = 2.0
_TLS_SECONDS = 0.1
"""How long Kopf's connections get to end TLS politely: it does not wait for them itself."""

Program = Callable[[asyncio.Event], Awaitable[None]]
"""A program's own work. Returns soon after the event is set; returning early ends the process."""


async def run_with_kopf(
    api: ApiServer,
    feeds: Sequence[View],
    program: Program,
    *,
    namespaces: Collection[str] = (),
    list_seconds: float = 300.0,
    grace_seconds: float = 25.0,
    stop: asyncio.Event | None = None,
) -> None:
    """Feed views from Kopf watches and run `program` until it ends or a signal arrives.

    Watches all namespaces, or only `namespaces` (exact names; a provider's agent has rights in no
    other). Waits first until every kind can be listed: Kopf's scan happens once. `grace_seconds`
    bounds the program's end after a signal; a chart's termination grace is longer. Set `stop` to
    end it from within. Raises what the program or Kopf raised.
    """
    stop = stop if stop is not None else asyncio.Event()
    _stop_on_signals(stop)
    lists = asyncio.create_task(_listed(api, feeds, namespaces), name="first lists")
    await _first(lists, stop)
    if not lists.done():
        await _cancelled(lists)
        return
    lists.result()

    before = asyncio.all_tasks()
    end_kopf = asyncio.Event()
    roots = await kopf.spawn_tasks(
        # Kopf would ask for the user's name, which a user of an image need not have.
        identity=cast(Any, f"fallow-{os.getpid()}"),
        registry=_registry(api, feeds),
        settings=_settings(),
        clusterwide=not namespaces,
        namespaces=list(namespaces),
        standalone=True,
        stop_flag=end_kopf,
    )
    # NB: right after spawning, without a pause in between: Kopf has just put its own handlers
    # there, which would stop it before our program could finish.
    _stop_on_signals(stop)
    watching = asyncio.create_task(kopf.run_tasks(roots, ignored=before), name="kopf")
    again = asyncio.create_task(_list_again(api, feeds, namespaces, seconds=list_seconds), name="lists")
    working = asyncio.ensure_future(program(stop))
    try:
        await asyncio.wait({watching, working}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            log.error("kopf ended by itself; stopping")
        stop.set()
        await asyncio.wait({working}, timeout=grace_seconds)
    finally:
        await _cancelled(again, working)
        end_kopf.set()
        # Stopped in the middle of its first scan, Kopf would wait for five seconds.
        await asyncio.wait({watching}, timeout=_KOPF_SECONDS)
        if not watching.done():
            await _cancelled(watching)
        await asyncio.sleep(_TLS_SECONDS)
    for task in (working, watching):
        if not task.cancelled():
            task.result()


def _registry(api: ApiServer, feeds: Sequence[View]) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry, id="fallow")  # type: ignore[untyped-decorator, unused-ignore]
    async def login(**_: Any) -> kopf.ConnectionInfo:
        assert isinstance(api.connection, Connection)  # nobody runs Kopf with lighter credentials
        return await api.connection.kopf_info()

    for view in feeds:
        kopf.on.event(
            view.resource.group,
            view.resource.version,
            view.resource.plural,
            registry=registry,
            id=view.resource.plural,
        )(_feeder(view))
    return registry


def _feeder(view: View) -> Any:
    async def feed(event: kopf.RawEvent, **_: Any) -> None:
        # Kopf's bodies come without what its list chunks left out; names and versions are there.
        obj: dict[str, Any] = dict(event["object"])
        obj.setdefault("apiVersion", view.resource.api_version)
        obj.setdefault("kind", view.resource.kind)
        if event["type"] == "DELETED":
            view.forget(obj)
        else:
            view.apply(obj)

    return feed


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False  # no events about handlers: we say what matters in conditions
    settings.scanning.disabled = True  # our kinds are there before we start; no watch on CRDs
    settings.peering.standalone = True  # peering is not leader election: leases are
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330  # a dead connection does not keep a watch for ever
    settings.watching.chunk_size = 500
    settings.process.ultimate_exiting_timeout = None  # our own grace period decides
    # A worker per object, for ten thousand objects at a start: they must not all wait five seconds for more.
    settings.queueing.idle_timeout = 0.2
    settings.persistence.diffbase_storage = _NoDiffs()
    return settings


class _NoDiffs(kopf.DiffBaseStorage):
    """Nothing to compare with: we handle events only, so Kopf need not copy every object to tell changes."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return cast(kopf.BodyEssence, {})

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: Any) -> None:
        pass


async def _listed(api: ApiServer, feeds: Sequence[View], namespaces: Collection[str]) -> None:
    backoff = Backoff(longest_seconds=5.0)
    for view in feeds:
        while True:
            try:
                await _list(api, view, namespaces)
            except ApiError as error:
                wait = backoff.next_seconds(at_least=error.retry_after_seconds)
                log.warning("waiting for the API", kind=str(view.resource), error=str(error))
                await asyncio.sleep(wait)
            else:
                break


async def _list_again(
    api: ApiServer, feeds: Sequence[View], namespaces: Collection[str], *, seconds: float
) -> Never:
    while True:
        await asyncio.sleep(seconds)
        for view in feeds:
            try:
                await _list(api, view, namespaces)
            except ApiError as error:
                log.warning("list failed; the next one repairs", kind=str(view.resource), error=str(error))


async def _list(api: ApiServer, view: View, namespaces: Collection[str]) -> None:
    # A cluster-wide kind has one list; so has everything when no namespaces are named.
    if not view.resource.namespaced or not namespaces:
        await take_list(api, view)
        return
    if len(namespaces) > 1:
        raise ValueError("a view is fed from one namespace or from all")
    await take_list(api, view, namespace=next(iter(namespaces)))


def _stop_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


async def _first(task: asyncio.Task[None], stop: asyncio.Event) -> None:
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    await _cancelled(stopping)


async def _cancelled(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
