"""What a decision about a placement is made from besides its pods: the record, the site, the room there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from fallow.agent.nodes import Amounts
from fallow.agent.work import Work
from fallow.resources.ended import Ended
from fallow.resources.ranges import EMPTY, IndexRanges


class Room:
    """What is free for guests on each node, as this cycle fills it."""

    def __init__(self, free: Mapping[str, Amounts], *, guests: int = 2**31) -> None:
        self._free = dict(free)
        self._guests = guests

    def take(self, work: Work, node: str) -> bool:
        """Take one task's requests on a node, if they fit and one more guest is allowed."""
        free = self._free.get(node)
        if free is None or self._guests < 1 or not free.fits(work.requests):
            return False
        self._free[node] = free.minus(work.requests)
        self._guests -= 1
        return True

    def copy(self) -> Room:
        """Return an independent copy, to try something out."""
        return Room(self._free, guests=self._guests)

    def become(self, other: Room) -> None:
        """Take over what was tried out on a copy."""
        self._free, self._guests = dict(other._free), other._guests


@dataclass(frozen=True)
class Record:
    """What the GuestSet says of a placement's tasks."""

    ended: Mapping[int, Ended] = field(default_factory=dict)
    """By index: a placement tries each index once."""
    elapsed: Mapping[int, int] = field(default_factory=dict)
    """By index: seconds that are final, with interval billing."""
    handed_back: IndexRanges = EMPTY
    being_recorded: IndexRanges = EMPTY
    """Decided, and not confirmed yet by the API server: not decided again, but their pods stay."""

    @cached_property
    def settled(self) -> IndexRanges:
        """Tasks that the API server has confirmed as ended or handed back."""
        return IndexRanges.of(self.ended) | self.handed_back


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The member's side of one decision."""

    now: datetime
    nodes: Mapping[str, str]
    """Every node: "" while it is open, else why nothing new may start there."""
    may_start: bool = True
    """False until everything is in view: before that an absent pod may just not have been seen yet."""
    lost_nodes: frozenset[str] = frozenset()
    unclear: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Nodes with device memory that is not free yet, and whose it was: others wait there."""
    evicted: Mapping[str, str] = field(default_factory=dict)
    """Pod UIDs of guests that must go because the owner changed the Offer or needs their room, and why."""
    stopped: Mapping[str, str] = field(default_factory=dict)
    """Pod UIDs of guests that this process has stopped, and why."""

    def closed(self, node: str) -> str:
        """Return why nothing may start on a node, or ""."""
        return self.nodes.get(node, "it is no node of this cluster any more")

    def clear_for(self, work: Work, node: str) -> bool:
        """Whether no other tenant's device memory is left on a node; those without devices need none."""
        return not work.requests.devices or self.unclear.get(node, frozenset()) <= {work.uid}

    def lost(self, node: str) -> bool:
        """Say whether what runs on a node counts as lost."""
        return node in self.lost_nodes or node not in self.nodes
