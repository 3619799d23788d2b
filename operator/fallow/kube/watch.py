"""A reflector: list, then watch, for ever, so that a `View` follows its kind.

A watch that ends or breaks is opened anew from the last version seen, without a list. Only where
the server says that this position is too old (410), keeps refusing it, or says nothing at all (a store
restored from a backup knows no such version), all is listed again, and what is missing counts as deleted.
Bookmarks move the position on when nothing happens and prove that the watch lives.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Never

import structlog

from fallow.errors import ApiError, Gone, Timeout
from fallow.kube.backoff import Backoff
from fallow.kube.client import ApiServer
from fallow.kube.listing import take_list
from fallow.kube.view import Followed

log = structlog.get_logger(__name__)

_REFUSALS_BEFORE_RELIST = 3
_LONGEST_TURN_SECONDS = 0.05
"""Events that wait already are taken in without a pause for at most so long: others have to breathe."""


class Reflector:
    """Keeps one view in step with its server. `run` it as a task; nothing else is needed.

    The view holds all objects of its kind in `namespace` (or everywhere) within the selectors.
    """

    def __init__(
        self,
        api: ApiServer,
        view: Followed,
        *,
        namespace: str | None = None,
        field_selector: str | None = None,
        label_selector: str | None = None,
        page_size: int = 500,
        silence_seconds: float = 90.0,
        chance: Callable[[], float] = random.random,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.view = view
        self.last_contact: float | None = None
        """When (by `monotonic`) a list, an event or a bookmark last came; None before the first."""
        self.lists = 0
        """How many complete lists were taken in."""
        self._api = api
        self._namespace = namespace
        self._field_selector = field_selector
        self._label_selector = label_selector
        self._page_size = page_size
        self._silence_seconds = silence_seconds
        self._chance = chance
        self._monotonic = monotonic
        self._position: str | None = None
        self._watching = False

    def alive(self, *, within_seconds: float) -> bool:
        """Say whether a watch is open and something came through it lately.

        What an object's silence means may be judged only while this holds. Bookmarks come about
        once a minute where nothing else happens.
        """
        if not self._watching or self.last_contact is None:
            return False
        return self._monotonic() - self.last_contact <= within_seconds

    async def run(self) -> Never:
        """Follow until cancelled. Errors of the server are logged and outlived, whatever they are:
        a missing kind or right may appear later.
        """
        backoff = Backoff(chance=self._chance)
        refusals = 0
        while True:
            try:
                if self._position is None:
                    await self._list()
                    backoff.reset()
                await self._watch(backoff)
                refusals = 0
            except Gone:
                log.info("watch position too old: listing again", kind=str(self.view.resource))
                self._restart("gone")
                self._position = None
            except ApiError as error:
                if isinstance(error, Timeout) and self._watching:
                    # NB: not even a bookmark came. A store that was set back behind our position says
                    # nothing until it has caught up with it; only a list shows what is there now.
                    self._position = None
                # An answer (status != 0) that comes again and again is about our position.
                refusals = refusals + 1 if error.status and self._position is not None else 0
                if refusals >= _REFUSALS_BEFORE_RELIST:
                    self._position, refusals = None, 0
                wait = backoff.next_seconds(at_least=error.retry_after_seconds)
                self._restart("timeout" if error.status == 0 and self._watching else "error")
                log.warning(
                    "watch interrupted", kind=str(self.view.resource), error=str(error), wait_seconds=wait
                )
                await asyncio.sleep(wait)
            finally:
                self._watching = False

    async def _list(self) -> None:
        self._position = await take_list(
            self._api,
            self.view,
            namespace=self._namespace,
            field_selector=self._field_selector,
            label_selector=self._label_selector,
            page_size=self._page_size,
        )
        self.lists += 1
        self._contact("LIST", len(self.view))

    async def _watch(self, backoff: Backoff) -> None:
        assert self._position is not None
        async with self._api.watch(
            self.view.resource,
            resource_version=self._position,
            namespace=self._namespace,
            field_selector=self._field_selector,
            label_selector=self._label_selector,
            # Spread, so that all watches of a process do not end at the same moment.
            timeout_seconds=int(300 + 300 * self._chance()),
            silence_seconds=self._silence_seconds,
        ) as events:
            self._watching = True
            turn = time.monotonic()
            async for event in events:
                if time.monotonic() - turn > _LONGEST_TURN_SECONDS:
                    await asyncio.sleep(0)
                    turn = time.monotonic()
                if event.type == "DELETED":
                    self.view.forget(event.object)
                elif event.type != "BOOKMARK":
                    self.view.apply(event.object)
                self._position = event.object["metadata"]["resourceVersion"]
                self._contact(event.type, 1)
                backoff.reset()

    def _contact(self, event_type: str, count: int) -> None:
        self.last_contact = self._monotonic()
        if self._api.telemetry is not None:
            kind = self.view.resource.kind
            self._api.telemetry.watch_events.labels(self._api.name, kind, event_type).inc(count)

    def _restart(self, why: str) -> None:
        if self._api.telemetry is not None:
            self._api.telemetry.watch_restarts.labels(self._api.name, self.view.resource.kind, why).inc()
