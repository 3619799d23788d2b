"""The last lines that a failed guest wrote, for the report: asked of its node through the API server.

They are a courtesy to the submitter: bounded in lines, bytes and time, and never waited for twice. Where they
cannot be had, the report says so. A node that does not answer is not asked again for a while, so that a
thousand failures on it cost the report one wait and not a thousand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

from fallow.agent.outcomes import Ending
from fallow.errors import FallowError, NotFound
from fallow.kube.client import ApiServer
from fallow.resources import naming
from fallow.resources.ended import Outcome
from fallow.resources.placement import MAX_LOG_BYTES

LINES = 20
READ_BYTES = 16_384
"""Asked for at most: a node cuts from the front of these lines, so the end has to be within."""
ANSWER_SECONDS = 2.0
SILENT_NODE_SECONDS = 60.0
MOST = 32
"""No more are kept in a report."""


class LastLines:
    """Fetches logs of failed guests."""

    def __init__(self, api: ApiServer, *, namespace: str, monotonic: Callable[[], float]) -> None:
        self._api = api
        self._namespace = namespace
        self._monotonic = monotonic
        self._silent_until: dict[str, float] = {}

    async def added(self, endings: Mapping[int, Ending], *, placement_uid: str) -> dict[int, Ending]:
        """Return those of the endings to which their last lines, or why there are none, were added."""
        due = [e for e in endings.values() if _wanted(e)][-MOST:]
        found = await asyncio.gather(*(self._one(each, placement_uid) for each in due))
        return {each.ended.index: each for each in found}

    async def _one(self, ending: Ending, placement_uid: str) -> Ending:
        assert ending.last_words is not None
        lines, problem = await self._asked(ending, placement_uid)
        said = ending.last_words
        message = "; ".join(part for part in (said.message, problem) if part)
        return replace(
            ending, lines_asked=True, last_words=said.model_copy(update={"log": lines, "message": message})
        )

    async def _asked(self, ending: Ending, placement_uid: str) -> tuple[str, str]:
        node = ending.node
        if self._silent_until.get(node, float("-inf")) > self._monotonic():
            return "", "its log cannot be had: the node does not answer"
        name = naming.pod_name(placement_uid, index=ending.ended.index, attempt=ending.ended.attempt)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                text = await self._api.pod_log(
                    name,
                    namespace=self._namespace,
                    container=ending.container,
                    tail_lines=LINES,
                    limit_bytes=READ_BYTES,
                )
        except TimeoutError:
            self._silent_until[node] = self._monotonic() + SILENT_NODE_SECONDS
            return "", "its log cannot be had: the node does not answer"
        except NotFound:
            return "", "its log cannot be had: the pod is gone"
        except FallowError as error:
            return "", f"its log cannot be had: {error}"[:300]
        return clipped(text), ""


def clipped(text: str) -> str:
    """Return the last lines within the bytes that a report keeps, whole lines where there are several."""
    lines = text.replace("\x00", "").rstrip("\n").split("\n")[-LINES:]
    data = "\n".join(lines).encode()
    if len(data) <= MAX_LOG_BYTES:
        return data.decode()
    kept = data[-MAX_LOG_BYTES:].decode(errors="ignore")
    return kept.partition("\n")[2] or kept


def _wanted(ending: Ending) -> bool:
    """Whether it ran and failed of itself: then its own words say more than anybody else's."""
    own = ending.ended.outcome in (Outcome.FAILED, Outcome.TIMED_OUT)
    return own and ending.ended.seconds > 0 and not ending.lines_asked
