"""Detached processes that outlive whoever started them, and that are ended by identity, never by name.

A process writes its own record (its line of /proc/PID/stat) before it becomes the program: there is no
moment at which it runs unrecorded, however `up` dies. The record's start time tells the process from a
later stranger with the same number; signals go through a pidfd, so nothing can change in between.
What a program starts itself inherits the rig's mark in its environment and is swept up at the end.
"""

import json
import os
import select
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from devkit.errors import RigError

MARK = "DEVKIT_RIG"
"""Environment variable that all processes of a rig carry: the rig's id."""

_LAUNCHER = 'read -r line < "/proc/$$/stat" && printf "%s\\n" "$line" > "$1" && shift && exec "$@"'
_RECORD_SECONDS = 10.0


@dataclass(frozen=True)
class Identity:
    """One process: its number and when it started, in clock ticks since boot (proc(5), field 22)."""

    pid: int
    start_ticks: int


def parse_stat(line: str) -> tuple[Identity, str] | None:
    """Return identity and state letter from a line of /proc/PID/stat; None when it is not one.

    The second field is a name in parentheses that may itself hold spaces and parentheses.
    """
    head, _, tail = line.rpartition(")")
    fields = tail.split()
    number = head.split(" ", 1)[0]
    if len(fields) < 20 or not number.isdigit() or not fields[19].isdigit():
        return None
    return Identity(pid=int(number), start_ticks=int(fields[19])), fields[0]


def running(identity: Identity) -> bool:
    """Tell whether exactly this process still runs; a zombie does not."""
    try:
        seen = parse_stat(Path(f"/proc/{identity.pid}/stat").read_text())
    except OSError:
        return False
    return seen is not None and seen[0] == identity and seen[1] not in "ZX"


class Processes:
    """The processes of one rig: their records, commands and logs below its state directory."""

    def __init__(self, state: Path, *, mark: str) -> None:
        self._records = state / "run"
        self._logs = state / "logs"
        self.mark = mark
        """The rig's id, 32 hexadecimal digits."""

    def start(self, name: str, command: Sequence[str], *, environ: Mapping[str, str]) -> int:
        """Start `command` as `name` in a session of its own, its output appended to its log.

        Returns its pid. Raises RigError when it could not even be recorded.
        """
        self._records.mkdir(parents=True, exist_ok=True)
        self._logs.mkdir(parents=True, exist_ok=True)
        saved = self._records / f"{name}.json"
        saved.write_text(json.dumps({"command": list(command), "environ": dict(environ)}, indent=1))
        saved.chmod(0o600)
        record = self._records / f"{name}.stat"
        record.unlink(missing_ok=True)
        log = os.open(self.log_of(name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            pid = os.posix_spawn(
                "/bin/sh",
                ["/bin/sh", "-c", _LAUNCHER, "launch", str(record), *command],
                {**environ, MARK: self.mark},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, log, 1),
                    (os.POSIX_SPAWN_DUP2, log, 2),
                ],
                setsid=True,
            )
        finally:
            os.close(log)
        deadline = time.monotonic() + _RECORD_SECONDS
        while self.identity(name) is None:
            if time.monotonic() > deadline:
                raise RigError(f"{name} did not start; see {self.log_of(name)}.")
            time.sleep(0.002)
        return pid

    def start_again(self, name: str) -> int:
        """Start a process that has ended with the command and environment it had; return its pid."""
        if self.running(name):
            raise RigError(f"{name} is still running: stop it first.")
        saved = json.loads((self._records / f"{name}.json").read_text())
        return self.start(name, saved["command"], environ=saved["environ"])

    def kill(self, name: str) -> None:
        """End one process with SIGKILL and return once it is gone."""
        if (identity := self.identity(name)) is not None:
            end([identity], grace_seconds=0)

    def log_of(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def identity(self, name: str) -> Identity | None:
        """Return the recorded identity of `name`, None where there is no (complete) record."""
        try:
            seen = parse_stat((self._records / f"{name}.stat").read_text())
        except OSError:
            return None
        return seen[0] if seen else None

    def running(self, name: str) -> bool:
        identity = self.identity(name)
        return identity is not None and running(identity)

    def names(self) -> list[str]:
        """Return the names of all recorded processes, running or not."""
        return sorted(path.stem for path in self._records.glob("*.stat"))

    def check(self, name: str) -> None:
        """Raise RigError with the end of its log when `name` has ended."""
        if not self.running(name):
            log = self.log_of(name)
            tail = log.read_text(errors="replace").splitlines()[-5:] if log.exists() else []
            raise RigError("\n".join([*tail, f"{name} has ended; its log is {log}."]))

    def end_all(self, *, gently: Iterable[str], grace_seconds: float) -> None:
        """End every process of the rig: those named `gently` first and with SIGTERM, then the rest."""
        polite = [identity for name in gently if (identity := self.identity(name))]
        end(polite, grace_seconds=grace_seconds)
        # The planes' state is thrown away with them. Killed together none waits for another: an API
        # server that is asked to stop while etcd goes away takes a minute over it.
        end([identity for name in self.names() if (identity := self.identity(name))], grace_seconds=0)
        end(self._marked(), grace_seconds=0)

    def _marked(self) -> list[Identity]:
        """Return every process that carries the rig's mark, recorded or not."""
        wanted = f"{MARK}={self.mark}".encode()
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            try:
                variables = Path(f"/proc/{entry}/environ").read_bytes().split(b"\0")
                seen = parse_stat(Path(f"/proc/{entry}/stat").read_text())
            except OSError:
                continue  # it ended meanwhile, or is another user's
            if seen and wanted in variables:
                found.append(seen[0])
        return found


def end(identities: Sequence[Identity], *, grace_seconds: float) -> None:
    """End these processes and return once all are gone: SIGTERM, and SIGKILL after the grace.

    With no grace SIGKILL at once. One that is gone already, or whose number another process has now,
    is left alone.
    """
    handles: dict[int, Identity] = {}
    try:
        for identity in identities:
            try:
                handle = os.pidfd_open(identity.pid)
            except ProcessLookupError:
                continue
            # Only after the handle is open: from here on it can mean no other process.
            if running(identity):
                handles[handle] = identity
            else:
                os.close(handle)
                _reap(identity.pid)
        waiting = set(handles)
        if grace_seconds > 0:
            _signal(waiting, signal.SIGTERM)
            waiting = _wait(waiting, seconds=grace_seconds)
        _signal(waiting, signal.SIGKILL)
        left = _wait(waiting, seconds=30)
        if left:
            pids = ", ".join(str(handles[handle].pid) for handle in left)
            raise RigError(f"Processes {pids} do not end even on SIGKILL; they wait for the kernel.")
        for identity in handles.values():
            _reap(identity.pid)
    finally:
        for handle in handles:
            os.close(handle)


def _signal(handles: Iterable[int], number: signal.Signals) -> None:
    for handle in handles:
        try:
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            continue


def _wait(handles: set[int], *, seconds: float) -> set[int]:
    """Wait until all have ended; return those that have not after `seconds`."""
    left = set(handles)
    deadline = time.monotonic() + seconds
    poll = select.poll()
    for handle in left:
        poll.register(handle, select.POLLIN)
    while left and (remaining := deadline - time.monotonic()) > 0:
        for handle, _ in poll.poll(remaining * 1000):
            poll.unregister(handle)
            left.discard(handle)
    return left


def _reap(pid: int) -> None:
    """Take the exit status of our own child, so that no zombie stays while we live."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
