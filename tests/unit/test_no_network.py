"""The guard of this directory works: whatever reaches for the network raises."""

from __future__ import annotations

import asyncio
import socket
import urllib.request
from collections.abc import Callable

import aiohttp
import pytest


def _by_socket() -> None:
    socket.create_connection(("127.0.0.1", 1), timeout=1)


def _by_udp() -> None:
    socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)


def _by_name() -> None:
    socket.getaddrinfo("localhost", 80)


def _by_url() -> None:
    urllib.request.urlopen("http://127.0.0.1:1/", timeout=1)


def _by_aiohttp() -> None:
    async def ask() -> None:
        async with aiohttp.ClientSession() as session, session.get("http://127.0.0.1:1/"):
            pass

    asyncio.run(ask())


def _by_listening() -> None:
    asyncio.run(asyncio.start_server(lambda *_: None, "127.0.0.1", 0))


@pytest.mark.parametrize("reach", [_by_socket, _by_udp, _by_name, _by_url, _by_aiohttp, _by_listening])
def test_network__reached_for_by_any_way__raises(reach: Callable[[], None]) -> None:
    with pytest.raises(BaseException, match=r"a unit test (opened|looked up|reached)") as caught:
        reach()
    assert type(caught.value).__name__ == "NetworkReached"


def test_event_loop__within_the_process__still_works() -> None:
    async def answer() -> int:
        return await asyncio.to_thread(lambda: 42)

    assert asyncio.run(answer()) == 42
