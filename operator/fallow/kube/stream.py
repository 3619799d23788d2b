"""The lines of a watch."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import msgspec

from fallow.errors import Unavailable
from fallow.kube.answers import JSON, error_from_answer, no_answer


class WatchEvent(msgspec.Struct, frozen=True):
    """One line of a watch."""

    type: str
    """ADDED, MODIFIED, DELETED, BOOKMARK or ERROR."""
    object: JSON


_event_decoder = msgspec.json.Decoder(WatchEvent)


async def events_of(response: aiohttp.ClientResponse, what: str) -> AsyncIterator[WatchEvent]:
    """Cut the stream into lines ourselves: aiohttp's readline refuses lines over 128 KiB."""
    parts: list[bytes] = []
    try:
        async for chunk in response.content.iter_any():
            *lines, rest = chunk.split(b"\n")
            for line in lines:
                whole = b"".join([*parts, line])
                parts = []
                if whole:
                    yield _checked(_event_decoder.decode(whole), what)
            if rest:
                parts.append(rest)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise no_answer(error, what) from error
    except msgspec.DecodeError as error:
        raise Unavailable(f"{what}: a line that is no event: {error}") from error


def _checked(event: WatchEvent, what: str) -> WatchEvent:
    if event.type == "ERROR":
        code = event.object.get("code")
        status = code if isinstance(code, int) else 500
        raise error_from_answer(status, msgspec.json.encode(event.object), {}, what)
    return event


def hang_up(response: aiohttp.ClientResponse) -> None:
    """Drop a stream's connection at once: a polite end of TLS would outlive us in the background."""
    transport = response.connection.transport if response.connection is not None else None
    response.close()
    if transport is not None:
        transport.abort()
