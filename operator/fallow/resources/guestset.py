"""GuestSet: the member's own record of one Placement, and controller owner of its pods.

It is the durable outbox: an outcome is written here before the pod that shows it may go, and stays here until
the hub has it. It holds all that the agent needs while the hub is away.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fallow.resources.base import AGE, Column, Kind, Label63, Model, Name, Timestamp, Uid, rule
from fallow.resources.placement import PlacementSpec, Progress


class GuestSetSpec(Model):
    """The Placement as the agent last saw it."""

    placement_name: Name
    placement_namespace: Label63
    placement_uid: Uid
    generation: Annotated[int, Field(ge=0)]
    """Generation of the Placement that all of this shows."""
    job_name: Name | None = None
    """The ComputeJob on the hub."""
    gang: bool = False
    desired: Literal["Run", "Stop"] = "Run"
    text: Annotated[str, Field(max_length=1_000_000)] | None = None
    """The Placement's spec as JSON. Only the agent reads it, and an API server need not take it apart at
    every write of what became of the tasks."""
    placement: PlacementSpec | None = None
    """The same as an object: what agents wrote before there was `text`. Read, never written."""
    gone_at: Timestamp | None = None
    """When the Placement was first missing from a synced watch, where that was long after the last attempt's
    end; otherwise that end stands for it. The record is dropped 7 days later."""


class GuestSetStatus(Progress):
    """What became of each task."""

    started: Annotated[int, Field(ge=0)] = 0
    """Pods created so far."""


GUEST_SET = Kind(
    kind="GuestSet",
    plural="guestsets",
    short_names=("gs",),
    plane="member",
    spec=GuestSetSpec,
    status=GuestSetStatus,
    description="The member's record of one Placement; owns its pods and keeps their outcomes.",
    spec_is_written_whole=True,
    columns=(
        Column(name="Job", path=".spec.jobName", description="The ComputeJob on the hub."),
        Column(name="Desired", path=".spec.desired", description="Run or Stop."),
        Column(name="Started", path=".status.started", type="integer", description="Pods created so far."),
        AGE,
    ),
    rules=(rule("self.spec.placementUid == oldSelf.spec.placementUid", "spec.placementUid is immutable"),),
)
