"""Puts the report on the probe's own Node, when it says something new.

The Node's annotation is the only state: it is read at the start (an earlier process's report is
gone on from) and again now and then, in case somebody removed it; between that, what was written
last is what is there.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog
from pydantic import ValidationError

from fallow.kube.client import ApiServer
from fallow.kube.kinds import NODE
from fallow.resources.probe_report import PROBE_ANNOTATION, ProbeReport

log = structlog.get_logger(__name__)


class Publisher:
    """Writes one annotation of one Node. `look_again_seconds` is how often it is read back."""

    def __init__(
        self, api: ApiServer, *, node: str, look_again_seconds: float, monotonic: Callable[[], float]
    ) -> None:
        self._api = api
        self._node = node
        self._look_again_seconds = look_again_seconds
        self._monotonic = monotonic
        self._there: str | None = None
        self._read_at = float("-inf")

    async def earlier(self) -> ProbeReport | None:
        """Return the report that is there, or None if there is none that can be understood.

        Raises the API server's errors.
        """
        text = await self._read()
        if text is None:
            return None
        try:
            return ProbeReport.decode(text)
        except ValidationError as error:
            log.warning("earlier report not understood", problems=error.error_count())
            return None

    async def publish(self, report: ProbeReport) -> bool:
        """Write the report if it is not what is there; returns whether it wrote. Raises ApiErrors."""
        text = report.encode()
        if self._monotonic() - self._read_at >= self._look_again_seconds:
            await self._read()
        if text == self._there:
            return False
        patch = {"metadata": {"annotations": {PROBE_ANNOTATION: text}}}
        await self._api.patch(NODE, self._node, patch)
        self._there = text
        return True

    async def _read(self) -> str | None:
        node = await self._api.get(NODE, self._node)
        self._there = node["metadata"].get("annotations", {}).get(PROBE_ANNOTATION)
        self._read_at = self._monotonic()
        return self._there
