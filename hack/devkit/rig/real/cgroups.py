"""The control groups of real nodes: one name in every hierarchy, removed when nothing runs in it any more."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from devkit.errors import RigError

_ROOT = Path("/sys/fs/cgroup")
_EMPTY_SECONDS = 20.0


def name_of(mark: str, plane: str) -> str:
    """Return the name of a plane's groups in the rig `mark`; with no plane, what all of them begin with."""
    return f"fallow-{mark[:12]}-{plane}"


def hierarchies() -> Iterator[Path]:
    """Yield the root of each hierarchy: one with version 2, one per controller with version 1."""
    if (_ROOT / "cgroup.controllers").exists():
        yield _ROOT
        return
    for path in sorted(_ROOT.iterdir()):
        if (path / "cgroup.procs").exists() and not path.is_symlink():
            yield path


def make(name: str) -> None:
    """Make the group `name` in every hierarchy."""
    for root in hierarchies():
        group = root / name
        group.mkdir(exist_ok=True)
        if (root / "cgroup.controllers").exists():
            # Version 2 hands on only what a parent says; what a kubelet lacks it names when it starts.
            for controller in (root / "cgroup.controllers").read_text().split():
                with contextlib.suppress(OSError):
                    (root / "cgroup.subtree_control").write_text(f"+{controller}")
        for file in ("cpuset.cpus", "cpuset.mems"):
            # Version 1 starts a cpuset empty, and an empty one takes no process.
            if (group / file).exists() and not (group / file).read_text().strip():
                (group / file).write_text((root / file).read_text())


def remove(prefix: str) -> None:
    """Remove every group whose name begins with `prefix`, the inner ones first.

    A group is busy until the kernel has done with its last process. Raises RigError when one stays so.
    """
    deadline = time.monotonic() + _EMPTY_SECONDS
    while left := [group for root in hierarchies() for group in root.glob(f"{prefix}*")]:
        for group in left:
            for directory, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(directory)
        if time.monotonic() > deadline:
            raise RigError(f"Control groups stay busy: {', '.join(str(group) for group in left)}")
        time.sleep(0.02)
