"""Where built and installed programs are kept, and how two processes share that without harm.

Everything in the cache is complete or absent: it is made under a temporary name beside its place and
renamed into it while a lock is held. What an interrupted run left is cleared by the next one.
"""

import fcntl
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def cache_root() -> Path:
    """Return $FALLOW_CACHE, else $XDG_CACHE_HOME/fallow, else ~/.cache/fallow; made when absent."""
    named = os.environ.get("FALLOW_CACHE")
    if named:
        root = Path(named)
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        root = Path(base) / "fallow"
    root.mkdir(parents=True, exist_ok=True)
    return root.resolve()


def target() -> str:
    """Return what programs are built for, as Go names it: linux-amd64."""
    machine = platform.machine()
    return f"{platform.system().lower()}-{_MACHINES.get(machine, machine)}"


def log_path(name: str) -> Path:
    """Return the file that a build or an installation of `name` logs to."""
    logs = cache_root() / "logs"
    logs.mkdir(exist_ok=True)
    return logs / f"{name}.log"


@contextmanager
def locked(name: str, *, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the cache's lock `name`; `waiting` is called once when another process has it.

    The kernel drops the lock with its process, so a killed build never blocks the next.
    """
    locks = cache_root() / "locks"
    locks.mkdir(exist_ok=True)
    with (locks / name).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def making(place: Path) -> Iterator[Path]:
    """Yield a temporary path beside `place`; on a clean exit it becomes `place`.

    Only under `locked`: what an earlier, interrupted attempt left is removed first.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.parent / f".{place.name}.making"
    remove(temporary)
    try:
        yield temporary
        temporary.rename(place)
    finally:
        remove(temporary)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
