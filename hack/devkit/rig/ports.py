"""Free ports on the loopback, held until the moment their server starts.

They come from below the kernel's ephemeral range, so no outgoing connection can take one in between,
and the socket that holds a port keeps other rigs away until it is released.
"""

import random
import socket
from types import TracebackType
from typing import Self

from devkit.errors import RigError

LOWEST, HIGHEST = 20_000, 32_000
_ATTEMPTS = 500


class Ports:
    """Holds free ports of 127.0.0.1 until each is released to its server."""

    def __init__(self) -> None:
        self._held: dict[int, socket.socket] = {}

    def hold(self) -> int:
        """Find a free port and hold it."""
        for _ in range(_ATTEMPTS):
            port = random.randrange(LOWEST, HIGHEST)
            holder = socket.socket()
            try:
                holder.bind(("127.0.0.1", port))
            except OSError:
                holder.close()
                continue
            self._held[port] = holder
            return port
        raise RigError(f"No free port between {LOWEST} and {HIGHEST} on 127.0.0.1: too many rigs are up.")

    def release(self, port: int) -> int:
        """Let go of a held port, right before its server is started; return it."""
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
