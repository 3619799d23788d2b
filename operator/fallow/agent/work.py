"""A Placement as the agent works on it: its spec parsed once per generation, not once per cycle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from fallow.receipts.requests import Requests, effective_requests
from fallow.resources.guestset import GuestSetSpec
from fallow.resources.placement import PlacementSpec
from fallow.resources.ranges import EMPTY, IndexRanges


@dataclass(frozen=True, slots=True)
class Share:
    """Tasks pinned to one node, of which at most `slots` run at once."""

    node: str
    slots: int
    tasks: IndexRanges


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one Placement asks for."""

    name: str
    namespace: str
    uid: str
    generation: int
    created_at: datetime
    spec: PlacementSpec

    @cached_property
    def shares(self) -> tuple[Share, ...]:
        """Its assignments, in the order of the spec."""
        return tuple(Share(a.node, a.slots, IndexRanges.parse(a.tasks)) for a in self.spec.assignments)

    @cached_property
    def tasks(self) -> IndexRanges:
        """All of its tasks."""
        everything = EMPTY
        for share in self.shares:
            everything = everything | share.tasks
        return everything

    @cached_property
    def ranks(self) -> dict[int, int]:
        """Each task's place in its gang: index → 0 … size−1."""
        return {index: rank for rank, index in enumerate(self.tasks)}

    @cached_property
    def released(self) -> IndexRanges:
        """Tasks that the hub took away again."""
        return IndexRanges.parse(self.spec.released)

    @cached_property
    def preempted(self) -> IndexRanges:
        """Tasks that give way to a job of higher priority."""
        return IndexRanges.parse(self.spec.preempted)

    @cached_property
    def reveal(self) -> IndexRanges:
        """Tasks whose sealed results the hub wants to see."""
        return IndexRanges.parse(self.spec.reveal)

    @property
    def sealed(self) -> bool:
        """Whether other owners run copies of its tasks: results are committed to first, revealed later."""
        return self.spec.terms.replicas > 1

    @cached_property
    def requests(self) -> Requests:
        """Effective requests of one task."""
        return effective_requests(self.spec.template.wire()["spec"])

    @property
    def stopped(self) -> bool:
        """Whether the hub wants everything stopped."""
        return self.spec.desired == "Stop"


def read_placement(raw: Mapping[str, Any]) -> Work:
    """Return the work that a Placement on the hub asks for. Raises pydantic's ValidationError."""
    metadata = raw["metadata"]
    return Work(
        name=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata["uid"],
        generation=metadata["generation"],
        created_at=datetime.fromisoformat(metadata["creationTimestamp"]),
        spec=PlacementSpec.model_validate(raw["spec"]),
    )


def read_guest_set(raw: Mapping[str, Any]) -> Work:
    """Return the work as the GuestSet has it: what is known while the hub is away."""
    spec = GuestSetSpec.model_validate(raw["spec"])
    return Work(
        name=spec.placement_name,
        namespace=spec.placement_namespace,
        uid=spec.placement_uid,
        generation=spec.generation,
        created_at=datetime.fromisoformat(raw["metadata"]["creationTimestamp"]),
        spec=spec.placement or PlacementSpec.model_validate_json(spec.text or ""),
    )
