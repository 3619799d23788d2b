"""Names of lease holders that tell, on the same machine, whether their process still runs.

A successor elsewhere must wait until a lease runs out. One that starts where the last holder died (a
container that was restarted in its pod: same host name, same /proc) can see that nobody is left to wait for.
"""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

_NAME = re.compile(r"^(?P<host>[^/]+)/(?P<pid>[0-9]+)/(?P<ticks>[0-9]+)$")
PROC = Path("/proc")


def own_name(*, proc: Path = PROC) -> str:
    """Return a holder's name for this process: host, process id, and when it started since boot."""
    return f"{socket.gethostname()}/{os.getpid()}/{_started_at(os.getpid(), proc=proc) or 0}"


def surely_dead(name: str, *, host: str | None = None, proc: Path = PROC) -> bool:
    """Say whether the process that took this name is known to have ended; False where nobody can tell.

    NB: pods that share the host's name must share its processes, too, as the agent's do not either.
    """
    found = _NAME.match(name)
    if found is None or found["host"] != (host or socket.gethostname()) or found["ticks"] == "0":
        return False
    if _started_at(os.getpid(), proc=proc) is None:  # no /proc here: nothing can be told from its absence
        return False
    return _started_at(int(found["pid"]), proc=proc) != int(found["ticks"])


def _started_at(pid: int, *, proc: Path) -> int | None:
    """Return when a process started, in clock ticks since boot; None when there is none."""
    try:
        text = (proc / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    # A zombie writes nothing any more, but keeps its number until its parent has looked.
    return int(fields[19]) if fields[0] not in ("Z", "X") else None
