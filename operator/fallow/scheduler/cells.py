"""Nodes that look alike, and the pools they are in, as one cycle splits them up.

Nodes of a pool with exactly the same free amounts are one `Cell`: what is worked out about one of them holds
for all. Capacity only shrinks within a cycle, so cells only split: a new one is logged once, and an emptied
one never returns.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fallow.scheduler.fitting import Demand, Free
from fallow.scheduler.fragmentation import Worth
from fallow.scheduler.snapshot import CPU, MEMORY, PODS, STORAGE, Pool, Provider

NATIVES = (CPU, MEMORY, STORAGE, PODS)
"""The first dimensions of every vector; accelerators follow."""
FIRST_ACCELERATOR = len(NATIVES)


class Cell:
    """Nodes of one pool with the same free amounts, and the same reservation on them."""

    __slots__ = ("accelerators", "free", "nodes", "place", "serial", "until", "worth")

    def __init__(self, place: Standing, free: Free, until: int | None, serial: int) -> None:
        self.place = place
        self.free = free
        self.until = until
        """Unix time at which a waiting job wants these nodes; None when nobody does."""
        self.serial = serial
        self.nodes: list[int] = []
        """Positions in the pool, a heap; empty means that the cell is gone for good."""
        self.accelerators = sum(amount for amount in free[FIRST_ACCELERATOR:] if amount > 0)
        self.worth: int | None = None


@dataclass(frozen=True, slots=True)
class Survey:
    """What a pool has for one more task."""

    open: int
    """Nodes that take it now."""
    kept: tuple[tuple[int, int], ...]
    """(until, nodes) of those that would, but are reserved."""
    copies: int
    """How many such tasks all of them take together."""
    most_accelerators: int
    """Free on one node."""


@dataclass(slots=True, eq=False)
class Standing:
    """A pool during a cycle."""

    key: int
    """Position in the snapshot."""
    provider: Provider
    pool: Pool
    log: list[Cell]
    """Every cell ever made in the pools of this product."""
    cells: dict[tuple[Free, int | None], Cell] = field(default_factory=dict)
    takes: list[tuple[Demand, int, int, int]] = field(default_factory=list)
    """(request, node, slots, seconds) given away in this cycle."""
    worth: Worth | None = None
    surveys: dict[Demand, tuple[int, Survey]] = field(default_factory=dict)
    """With the number of cells ever made when it was taken."""
    most: dict[Demand, int] = field(default_factory=dict)
    """Most copies that were ever found here: an upper bound, since capacity only shrinks."""
