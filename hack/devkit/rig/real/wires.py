"""Carries single connections between the machine's loopback and the networks of real nodes.

    python -m devkit.rig.real.wires FILE

A socket belongs to the network it was made in, whoever uses it: this process stays on the machine and makes
its sockets inside a node's network where FILE says so. A node gets at its API server so, an API server at
its kubelet (by HTTP CONNECT, as Kubernetes' egress selector speaks it), and nothing else anywhere: there is
no interface between the networks.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

_CLONE_NEWNET = 0x40000000
_CHUNK = 65_536
_HANDSHAKE_SECONDS = 10.0
_LIBC = ctypes.CDLL(None, use_errno=True)
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
End = dict[str, Any]


class Networks:
    """Makes sockets in networks of nodes, each named by the file that holds its first process's number."""

    def __init__(self) -> None:
        self._own = os.open("/proc/self/ns/net", os.O_RDONLY)

    def socket(self, network: str | None) -> socket.socket:
        """Return a new TCP socket in a node's network, or in the machine's own for None."""
        with self._inside(network) if network else contextlib.nullcontext():
            made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.setblocking(False)
        return made

    @contextlib.contextmanager
    def _inside(self, network: str) -> Iterator[None]:
        # No await in here: the whole thread is inside.
        pid = Path(network).read_text().strip()
        with open(f"/proc/{pid}/ns/net") as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(self._own)


def _enter(descriptor: int) -> None:
    if _LIBC.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Wires:
    """The wires of one file, for as long as this process lives."""

    def __init__(self) -> None:
        self._networks = Networks()

    async def lay(self, wiring: dict[str, list[End]]) -> None:
        """Listen at every place that the file names; serve until cancelled."""
        servers = [
            await self._listen(wire["listen"], self._carrier(wire["dial"])) for wire in wiring["wires"]
        ]
        servers += [await self._listen(page["listen"], _page(page["body"])) for page in wiring["pages"]]
        for proxy in wiring["proxies"]:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(proxy["socket"])
            servers.append(await asyncio.start_unix_server(self._proxy(proxy["network"]), proxy["socket"]))
            os.chmod(proxy["socket"], 0o600)
        await asyncio.gather(*(server.serve_forever() for server in servers))

    async def _listen(self, end: End, serve: Callable[..., Awaitable[None]]) -> asyncio.Server:
        listener = self._networks.socket(end["network"])
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((end["host"], end["port"]))
        return await asyncio.start_server(serve, sock=listener)

    async def _dial(self, end: End) -> Stream:
        dialled = self._networks.socket(end["network"])
        try:
            async with asyncio.timeout(_HANDSHAKE_SECONDS):
                await asyncio.get_running_loop().sock_connect(dialled, (end["host"], end["port"]))
        except BaseException:
            dialled.close()
            raise
        return await asyncio.open_connection(sock=dialled)

    def _carrier(self, end: End) -> Callable[..., Awaitable[None]]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                far = await self._dial(end)
            except OSError as error:
                print(f"{end['host']}:{end['port']}: {error}", file=sys.stderr, flush=True)
                writer.close()
                return
            await _join((reader, writer), far)

        return serve

    def _proxy(self, network: str) -> Callable[..., Awaitable[None]]:
        """Return a server of HTTP CONNECT into a network; as much of it as an API server speaks."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                async with asyncio.timeout(_HANDSHAKE_SECONDS):
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                method, target, _ = head.split(" ", 2)
                host, _, port = target.rpartition(":")
                if method != "CONNECT":
                    raise OSError(f"{method} is not CONNECT")
                far = await self._dial({"network": network, "host": host, "port": int(port)})
            except (OSError, ValueError, EOFError, asyncio.LimitOverrunError) as error:
                writer.write(f"HTTP/1.1 502 {error}\r\n\r\n".encode())
                writer.close()
                return
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await _join((reader, writer), far)

        return serve


def _page(body: str) -> Callable[..., Awaitable[None]]:
    """Return a server that answers every request with the same page."""
    answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, asyncio.LimitOverrunError):
            async with asyncio.timeout(_HANDSHAKE_SECONDS):
                await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        writer.close()

    return serve


async def _join(near: Stream, far: Stream) -> None:
    """Carry bytes both ways until both sides have said that they are done."""
    try:
        await asyncio.gather(_carry(near[0], far[1]), _carry(far[0], near[1]))
    finally:
        near[1].close()
        far[1].close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        # One side is gone: what the other still says has nobody to hear it.
        writer.close()


if __name__ == "__main__":
    asyncio.run(Wires().lay(json.loads(Path(sys.argv[1]).read_text())))
