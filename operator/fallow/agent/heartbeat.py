"""The agent's sign of life at the hub, and what it tells the owner about the hub."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Never

import structlog

from fallow.errors import ApiError
from fallow.kube.client import ApiServer
from fallow.kube.lease import Heartbeat
from fallow.settings import HeartbeatSettings

log = structlog.get_logger(__name__)

LEASE_NAME = "agent"
RESTART_SECONDS = 120
"""What a planned restart announces: image pull and start of a new agent, with room to spare."""


class HubPulse:
    """Beats the Lease every few seconds, outside the write budget: silence would cost more than a write."""

    def __init__(
        self,
        api: ApiServer,
        *,
        namespace: str,
        identity: str,
        settings: HeartbeatSettings,
        now: Callable[[], datetime],
        on_change: Callable[[], None],
    ) -> None:
        self._heartbeat = Heartbeat(
            api,
            namespace=namespace,
            name=LEASE_NAME,
            identity=identity,
            duration_seconds=settings.lease_duration_seconds,
            now=now,
        )
        self._seconds = settings.seconds
        self._now = now
        self._on_change = on_change
        self._problem: str | None = "The hub was not heard yet."
        self.last_contact: datetime | None = None
        """When the hub last answered a heartbeat."""

    def problem(self) -> str | None:
        """Say why the hub is not heard, in one sentence; None while it is."""
        return self._problem

    async def run(self) -> Never:
        """Beat until cancelled."""
        while True:
            await self._beat()
            await asyncio.sleep(self._seconds)

    async def announce_restart(self) -> None:
        """Tell the hub to wait longer than usual: the next agent comes soon."""
        try:
            await self._heartbeat.beat(announce_seconds=RESTART_SECONDS)
        except ApiError as error:
            log.info("restart not announced", error=str(error))

    async def _beat(self) -> None:
        before = self._problem is None
        try:
            await self._heartbeat.beat()
        except ApiError as error:
            self._problem = f"The hub does not answer: {error}"[:1024]
        else:
            self._problem, self.last_contact = None, self._now()
        if before != (self._problem is None):
            if self._problem is None:
                log.info("hub heard")
            else:
                log.warning("hub not heard", why=self._problem)
            self._on_change()
