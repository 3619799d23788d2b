"""Free ports on the loopback, held until the moment their server starts.

They come from below the kernel's ephemeral range, so no outgoing connection can take one in between. A socket
holds a port until its server starts; a lock file keeps other rigs away for longer, until the server has had
the time to bind it.
"""

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from devkit.errors import RigError

LOWEST, HIGHEST = 20_000, 32_000
_ATTEMPTS = 500


class Ports:
    """Holds free ports of 127.0.0.1 until each is released to its server."""

    def __init__(self) -> None:
        self._held: dict[int, socket.socket] = {}
        self._locks: list[IO[str]] = []

    def hold(self) -> int:
        """Find a free port and hold it."""
        for _ in range(_ATTEMPTS):
            port = random.randrange(LOWEST, HIGHEST)
            holder = socket.socket()
            lock = _lock_of(port)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                holder.bind(("127.0.0.1", port))
            except OSError:
                holder.close()
                lock.close()
                continue
            self._held[port] = holder
            self._locks.append(lock)
            return port
        raise RigError(f"No free port between {LOWEST} and {HIGHEST} on 127.0.0.1: too many rigs are up.")

    def release(self, port: int) -> int:
        """Let go of a held port, right before its server is started; other rigs stay away. Returns it."""
        self._held.pop(port).close()
        return port

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for holder in self._held.values():
            holder.close()
        self._held.clear()
        for lock in self._locks:
            lock.close()
        self._locks.clear()


def _lock_of(port: int) -> IO[str]:
    """Open the lock file of a port, shared by all rigs of this user."""
    directory = Path(tempfile.gettempdir()) / f"fallow-ports-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    return (directory / str(port)).open("w")
