"""Exact fit: how many copies of one task a node takes, in every dimension at once.

A job that fits in total but on no single node does not fit: everything is counted per node, and whole tasks
only. A resource that a node does not list is a resource that it does not have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

Free = tuple[int, ...]
"""Amounts by dimension; below zero where a node was overdrawn."""
Demand = tuple[tuple[int, int], ...]
"""What one task requests: (dimension, amount above 0), ascending."""

Where = TypeVar("Where")


def vector(amounts: Mapping[str, int], names: Iterable[str]) -> Free:
    """Return amounts in the order of `names`; what is not listed is not there."""
    return tuple([amounts.get(name, 0) for name in names])


def copies(free: Free, request: Demand) -> int:
    """Return how many tasks of `request` fit into `free`; 0 when none does or nothing is requested."""
    fit: int | None = None
    for at, amount in request:
        room = free[at] // amount
        if room <= 0:
            return 0
        if fit is None or room < fit:
            fit = room
    return fit or 0


def less(free: Free, request: Demand, count: int) -> Free:
    """Return what is left of `free` after `count` tasks."""
    left = list(free)
    for at, amount in request:
        left[at] -= amount * count
    return tuple(left)


@dataclass(frozen=True, slots=True)
class Room(Generic[Where]):
    """Nodes that look alike, each with place for `copies` tasks."""

    where: Where
    copies: int
    accelerators: int
    """Free accelerators of all kinds on each: few means that little is lost by filling the node."""
    nodes: int = 1


def fewest(rooms: Iterable[Room[Where]], count: int) -> list[tuple[Where, int]]:
    """Choose as few nodes as possible for exactly `count` tasks that talk to each other.

    The emptiest nodes first, the rest on the fullest node that takes it whole. Returns one (where, tasks)
    per node, or [] when they do not all fit.
    """
    ordered = sorted(rooms, key=lambda room: (-room.copies, room.accelerators))
    if sum(room.copies * room.nodes for room in ordered) < count:
        return []
    chosen: list[tuple[Where, int]] = []
    for at, room in enumerate(ordered):
        for used in range(room.nodes):
            if room.copies >= count:
                # Equal rooms may be used up already; the later ones are untouched.
                rest = ordered[at:] if used < room.nodes else ordered[at + 1 :]
                last = min(
                    (other for other in rest if other.copies >= count),
                    key=lambda other: (other.copies, other.accelerators),
                )
                chosen.append((last.where, count))
                return chosen
            chosen.append((room.where, room.copies))
            count -= room.copies
    return chosen
