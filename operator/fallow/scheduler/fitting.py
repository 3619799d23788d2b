"""Exact fit: how many copies of one task a node takes, in every dimension at once.

A job that fits in total but on no single node does not fit: everything is counted per node, and whole tasks
only. A resource that a node does not list is a resource that it does not have.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fallow.scheduler.snapshot import NATIVE, Vector

Request = tuple[tuple[str, int], ...]


def copies(free: Vector, request: Request) -> int:
    """Return how many tasks of `request` fit into `free`; 0 when none does or nothing is requested."""
    fit: int | None = None
    for name, amount in request:
        if amount <= 0:
            continue
        room = free.get(name, 0) // amount
        if room <= 0:
            return 0
        if fit is None or room < fit:
            fit = room
    return fit or 0


def less(free: Vector, request: Request, count: int) -> dict[str, int]:
    """Return what is left of `free` after `count` tasks; may go below zero where it was overdrawn."""
    left = dict(free)
    for name, amount in request:
        left[name] = left.get(name, 0) - amount * count
    return left


def free_accelerators(free: Vector) -> int:
    """Return the free accelerators of a node, all kinds together."""
    return sum(amount for name, amount in free.items() if name not in NATIVE and amount > 0)


@dataclass(frozen=True, slots=True)
class Room:
    """A node with place for `copies` tasks."""

    node: str
    copies: int
    accelerators: int
    """Free accelerators of all kinds: few means that little is lost by filling the node."""


def tightest(rooms: Iterable[Room], count: int) -> list[tuple[str, int]]:
    """Choose nodes for up to `count` independent tasks: the fullest first, so that whole nodes stay whole.

    Tasks without accelerators so go where no accelerators are, as long as there is such a place.
    """
    chosen: list[tuple[str, int]] = []
    for room in sorted(rooms, key=lambda room: (room.accelerators, room.copies, room.node)):
        if count <= 0:
            break
        taken = min(count, room.copies)
        chosen.append((room.node, taken))
        count -= taken
    return chosen


def fewest(rooms: Iterable[Room], count: int) -> list[tuple[str, int]]:
    """Choose as few nodes as possible for exactly `count` tasks that talk to each other.

    The emptiest nodes first, the rest on the fullest node that takes it whole. Returns [] when they do
    not all fit.
    """
    ordered = sorted(rooms, key=lambda room: (-room.copies, room.accelerators, room.node))
    if sum(room.copies for room in ordered) < count:
        return []
    chosen: list[tuple[str, int]] = []
    for at, room in enumerate(ordered):
        if room.copies >= count:
            last = min(
                (other for other in ordered[at:] if other.copies >= count),
                key=lambda other: (other.copies, other.accelerators, other.node),
            )
            chosen.append((last.node, count))
            break
        chosen.append((room.node, room.copies))
        count -= room.copies
    return chosen
