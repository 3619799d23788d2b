"""Breaks a rig in the ways that DESIGN.md section 6 lists, one at a time, from a seed.

Each fault is a context: entering it breaks something, leaving it mends that. Which one and for how long comes
from the random source of the caller, so that a printed seed plays the same faults again.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial

from devkit.rig import Rig


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that can go wrong, and for how long it may last."""

    name: str
    breaks: Callable[[], AbstractContextManager[None]]
    seconds: tuple[float, float]
    """Shortest and longest."""

    def strike(self, dice: random.Random) -> float:
        """Break it, wait, mend it; return how long it was broken."""
        seconds = dice.uniform(*self.seconds)
        with self.breaks():
            time.sleep(seconds)  # a fault lasts for a time: this is the fault, not a wait for something
        return seconds


def all_faults(rig: Rig) -> list[Fault]:
    """Return every fault that this rig can have."""
    faults = []
    for role, name in rig.fallow.items():
        faults.append(Fault(name=f"kill {role}", breaks=partial(killed, rig, name), seconds=(0.0, 6.0)))
        # Longer than the leader's lease of 10 s, and than an agent's silence that costs it its tasks.
        if role != "settler":
            faults.append(
                Fault(name=f"freeze {role}", breaks=partial(frozen, rig, name), seconds=(3.0, 24.0))
            )
    for plane in ("hub", *rig.members):
        name = f"{plane}.apiserver"
        faults.append(Fault(name=f"kill {name}", breaks=partial(killed, rig, name), seconds=(0.0, 5.0)))
        faults.append(Fault(name=f"freeze {name}", breaks=partial(frozen, rig, name), seconds=(2.0, 12.0)))
    return faults


@contextmanager
def killed(rig: Rig, name: str) -> Iterator[None]:
    """Kill -9 a process of the rig; start it again at the end."""
    rig.processes.kill(name)
    try:
        yield
    finally:
        rig.processes.start_again(name)


@contextmanager
def frozen(rig: Rig, name: str) -> Iterator[None]:
    """Stop a process with SIGSTOP, as a paused virtual machine or a partition would; resume it at the end."""
    identity = rig.processes.identity(name)
    assert identity is not None, name
    os.kill(identity.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(identity.pid, signal.SIGCONT)


def revive(rig: Rig) -> list[str]:
    """Start every program of Fallow that has ended, as a kubelet would; return their names.

    A hub that lost its Lease ends itself rather than go on with a view it cannot trust.
    """
    ended = [name for name in rig.fallow.values() if not rig.processes.running(name)]
    for name in ended:
        rig.processes.start_again(name)
    return ended
