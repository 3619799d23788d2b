"""The directory of a rig: made fresh, held while somebody works on it, and what ends all that it records."""

import fcntl
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from devkit.errors import RigError
from devkit.rig.processes import Processes
from devkit.rig.real import sweep

GRACE_SECONDS = 10.0
_FILES = ("rig.json", "mark")
_DIRECTORIES = ("etcd", "planes", "nodes", "identities", "run", "logs", "chain", "archive", "keys")


def prepare_directory(state: Path) -> Processes:
    """Make the directory a fresh rig's; refuse one where a rig is up or that holds anything else."""
    mark = state / "mark"
    if mark.exists():
        old = processes_of(state)
        if any(old.running(name) for name in old.names()):
            raise RigError(f"A rig is up in {state}. End it first: hack/rig down --state {state}")
        end(state)  # what it started beside, such as a child of a killed program
    else:
        foreign = sorted(path.name for path in state.iterdir() if path.name != ".lock")
        if foreign:
            raise RigError(f"{state} holds other things ({foreign[0]}); name an empty directory.")
    for name in (*_FILES, *_DIRECTORIES):
        path = state / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    identity = secrets.token_hex(16)
    mark.write_text(identity + "\n")
    return Processes(state, mark=identity)


def end(state: Path) -> None:
    """End every process of the rig, and remove what would be of no use without them; logs stay."""
    processes = processes_of(state)
    gently = [name for name in processes.names() if name.startswith("fallow.") or name == "anvil"]
    processes.end_all(gently=gently, grace_seconds=GRACE_SECONDS)
    sweep(state, processes.mark)
    (state / "rig.json").unlink(missing_ok=True)  # its presence means: up
    shutil.rmtree(state / "etcd", ignore_errors=True)  # 64 MB at least, and of no use without its servers


def processes_of(state: Path) -> Processes:
    """Return the processes of the rig in `state`, for who wants to kill or restart one."""
    return Processes(state, mark=(state / "mark").read_text().strip())


@contextmanager
def alone(state: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Keep other calls away from a rig while it is brought up or down; a killed caller keeps nobody away."""
    state.mkdir(parents=True, exist_ok=True)
    with (state / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say(f"Another command works on the rig in {state}; waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
