"""Placement (`plc`): a set of tasks of one job given to one provider. Spec by the hub, status by its agent.

Every task of a placement ends in exactly one of `ended` (it ran) and `handedBack` (it never started); when
all have, the placement is Finished. A placement tries each index at most once, and its number within the job
is the attempt number of all its tasks: a retry is always another placement.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fallow.resources.base import (
    AGE,
    MAX_TASKS_PER_PLACEMENT,
    Column,
    Conditions,
    ElapsedString,
    EndedString,
    JobRef,
    Kind,
    Model,
    Name,
    Ranges,
    RevealString,
    Text,
    condition_column,
    rule,
)
from fallow.resources.computejob import Isolation
from fallow.resources.receipt import SignedReceipt
from fallow.resources.template import Template
from fallow.resources.terms import Terms

MAX_LOG_BYTES = 2048
PLACEMENT_STATES = ("Pending", "Running", "Finished")


class Assignment(Model):
    """Tasks pinned to a node. At most `slots` run at once; the rest wait in the agent, in index order."""

    node: Name
    slots: Annotated[int, Field(ge=1, le=MAX_TASKS_PER_PLACEMENT)]
    tasks: Ranges


class PlacementSpec(Model):
    """What the provider is to run, on which nodes, on which terms."""

    job: JobRef
    attempt: Annotated[int, Field(ge=0, le=2**31 - 1)]
    """The placement's number within the job: the attempt number of all its tasks."""
    term: Annotated[int, Field(ge=0)]
    """leaseTransitions of the hub's Lease when it was created; a lower one than the current is refused."""
    template: Template
    assignments: Annotated[
        tuple[Assignment, ...],
        Field(
            min_length=1,
            max_length=MAX_TASKS_PER_PLACEMENT,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["node"]},
        ),
    ]
    isolation: Isolation | None = None
    """Weakest isolation from other tenants that the job accepts."""
    gang: bool = False
    """All pods are created together, or the placement is handed back."""
    released: Ranges = ""
    """Tasks that the hub took away again. Written before they are placed elsewhere; what still ends here
    for such an index does not count."""
    preempted: Ranges = ""
    """Tasks that give way to a job of higher priority: they stop, stay this placement's until they have
    ended, and are paid up to then."""
    reveal: Ranges = ""
    """Replicated tasks whose result is wanted now: every copy has committed to one (decision record 220)."""
    commitments: Annotated[str, Field(max_length=64)] = ""
    """SHA-256 of the `ended` strings of `reveal`, as they were when they were asked about."""
    desired: Literal["Run", "Stop"] = "Run"
    """Stop: end every guest, start none."""
    stop_reason: (
        Literal["JobDeleted", "JobSuspended", "JobFinished", "BudgetSpent", "ProviderRemoved"] | None
    ) = None
    """Why; attempts that the submitter cancels are paid up to then."""
    results: Literal["Digest", "Inline"] = "Digest"
    terms: Terms
    """The snapshot of all that paying needs."""


class HandedBack(Model):
    """Tasks that never started here, and why."""

    tasks: Ranges
    reason: Annotated[str, Field(max_length=64)]
    """One word: NoRoom, Refused, OfferClosed, Released, Stopped, GangDidNotFit."""
    message: Text = ""


class LastWords(Model):
    """What a failed guest left."""

    index: Annotated[int, Field(ge=0)]
    outcome: Annotated[str, Field(max_length=16)]
    exit_code: int | None = None
    reason: Annotated[str, Field(max_length=128)] = ""
    message: Annotated[str, Field(max_length=2048)] = ""
    log: Annotated[str, Field(max_length=MAX_LOG_BYTES)] = ""
    """Its last 20 lines, at most 2 KiB of them."""


class InlineResult(Model):
    """A task's result, copied because the job asked for it."""

    index: Annotated[int, Field(ge=0)]
    value: Annotated[str, Field(max_length=1024)]


class Progress(Model):
    """What has become of a placement's tasks: the same record in the GuestSet and in the Placement."""

    ended: Annotated[
        tuple[EndedString, ...],
        Field(max_length=MAX_TASKS_PER_PLACEMENT, json_schema_extra={"x-kubernetes-list-type": "atomic"}),
    ] = ()
    """One string per ended attempt, in the order in which they ended; entries are only ever appended."""
    elapsed: Annotated[
        tuple[ElapsedString, ...],
        Field(max_length=MAX_TASKS_PER_PLACEMENT, json_schema_extra={"x-kubernetes-list-type": "atomic"}),
    ] = ()
    """With PerInterval: seconds of attempts, ended ones too, that are final. They never fall."""
    handed_back: Annotated[
        tuple[HandedBack, ...], Field(max_length=64, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = ()
    last_words: Annotated[
        tuple[LastWords, ...], Field(max_length=32, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = ()
    results: Annotated[
        tuple[InlineResult, ...],
        Field(max_length=256, json_schema_extra={"x-kubernetes-list-type": "atomic"}),
    ] = ()
    reveals: Annotated[
        tuple[RevealString, ...],
        Field(max_length=MAX_TASKS_PER_PLACEMENT, json_schema_extra={"x-kubernetes-list-type": "atomic"}),
    ] = ()
    """What the commitments of replicated tasks were made from: `index:salt:digest`. All of them in the
    GuestSet, on the hub those that `spec.reveal` asked for."""
    receipt: SignedReceipt | None = None
    """The latest; it covers every entry of `ended` and `elapsed`."""


class PlacementStatus(Progress):
    """The agent's report."""

    observed_generation: Annotated[int, Field(ge=0)] = 0
    conditions: Conditions = ()
    """Accepted (the agent agrees to the terms) and Finished."""
    state: Literal["Pending", "Running", "Finished"] = "Pending"
    running: Annotated[int, Field(ge=0)] = 0
    """Guests running now."""
    waiting: Annotated[int, Field(ge=0)] = 0
    """Tasks accepted and not yet running."""


PLACEMENT = Kind(
    kind="Placement",
    plural="placements",
    short_names=("plc",),
    spec=PlacementSpec,
    status=PlacementStatus,
    description="A set of tasks of one ComputeJob, given to one provider and pinned to its nodes.",
    selectable=(".status.state",),
    spec_is_written_whole=True,
    columns=(
        Column(name="Job", path=".spec.job.name", description="The ComputeJob."),
        Column(name="State", path=".status.state", description="Pending, Running or Finished."),
        Column(name="Running", path=".status.running", type="integer", description="Guests running now."),
        Column(
            name="Waiting", path=".status.waiting", type="integer", description="Tasks that wait for a slot."
        ),
        Column(name="Desired", path=".spec.desired", description="Run or Stop."),
        condition_column("Accepted", description="Whether the agent agrees to the terms.", wide=True),
        AGE,
    ),
    rules=(
        rule(
            "!has(oldSelf.status) || !has(oldSelf.status.state) || oldSelf.status.state != 'Finished' || "
            "(has(self.status) && has(self.status.state) && self.status.state == 'Finished')",
            "a finished placement stays finished",
        ),
    ),
)
