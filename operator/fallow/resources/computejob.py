"""ComputeJob (`cj`): what a submitter asks for. Spec by the submitter, status by the hub.

`tasks` copies of one pod template, each an index 0 … tasks−1. The hub splits them over providers, retries
what failed of itself within `backoffLimitPerTask`, and replaces what an owner took back without counting it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fallow.resources.base import (
    AGE,
    MAX_TASKS,
    Column,
    Conditions,
    DecimalAmount,
    Kind,
    Label63,
    Model,
    Name,
    PackedRanges,
    Ranges,
    Text,
    Timestamp,
    condition_column,
    rule,
)
from fallow.resources.template import Template

Pattern = Annotated[str, Field(min_length=1, max_length=128)]
Isolation = Literal["NonRoot", "UserNamespace", "Sandboxed"]


class Requirements(Model):
    """What a node and its provider must be. Absent means no requirement."""

    accelerator_products: Annotated[tuple[Pattern, ...], Field(max_length=32)] = ()
    """Product names as nodes advertise them, with * as a wildcard: "NVIDIA-H100*". Any one suffices."""
    min_accelerator_memory_mib: Annotated[int, Field(ge=0, le=2**24)] = 0
    """Least memory of one accelerator, in MiB."""
    interconnect: Annotated[str, Field(max_length=64)] | None = None
    """Interconnect between the accelerators of a node, e.g. NVLink."""
    isolation: Isolation | None = None
    """Weakest isolation from other tenants that is acceptable."""
    regions: Annotated[tuple[Label63, ...], Field(max_length=64)] = ()
    """Regions of the provider; any one suffices."""
    providers: Annotated[tuple[Label63, ...], Field(max_length=256)] = ()
    """Only these providers."""
    exclude_providers: Annotated[tuple[Label63, ...], Field(max_length=256)] = ()
    """None of these providers."""
    max_providers: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Most providers that the job may be split over."""
    min_agreed_results: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Least results of the provider, over all jobs, that copies by other owners confirmed."""
    max_disagreed_percent: Annotated[int, Field(ge=0, le=100)] = 100
    """Most of its compared results, in percent, that copies by other owners contradicted."""
    node_labels: Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=32)] = {}
    """Labels that the node must carry."""


class Budget(Model):
    """What the job may cost, in the token's units as decimal strings."""

    max_price_per_task_hour: DecimalAmount | None = None
    """Dearest price of one task for one hour."""
    max_total: DecimalAmount | None = None
    """Most that all tasks together may cost, time-outs and retries included. Dispatch stops there."""
    max_paid_failure_seconds: Annotated[int, Field(ge=0, le=2**31 - 1)] = 86_400
    """Most seconds of the job's own failures (exit codes, time-outs) that are paid for."""


class AccountRef(Model):
    """The Account that pays, in the job's namespace."""

    name: Name = "default"


class Verification(Model):
    """How results are checked."""

    type: Literal["None", "Replicate"] = "None"
    """Replicate runs every task on several distinct owners and compares digests."""
    copies: Annotated[int, Field(ge=2, le=5)] | None = None
    """Copies of each task; with Replicate only."""


class ComputeJobSpec(Model):
    """Immutable but for suspend, priority, parallelism and budget."""

    tasks: Annotated[int, Field(ge=1, le=MAX_TASKS)]
    """Number of tasks; their indexes are firstIndex … firstIndex+tasks−1."""
    first_index: Annotated[int, Field(ge=0, le=2**31 - 1 - MAX_TASKS)] = 0
    """Index of the first task: to run some tasks of a sweep again, or to go on where another job ended."""
    parallelism: Annotated[int, Field(ge=1, le=MAX_TASKS)] | None = None
    """Most tasks that run at once; absent means as many as fit."""
    gang: bool = False
    """All tasks run at once on one provider, or none does. At most 1,024 tasks."""
    template: Template
    """The pod of every task. JOB_COMPLETION_INDEX tells a task its index."""
    requirements: Requirements = Requirements()
    """What nodes and providers must be."""
    budget: Budget = Budget()
    """What the job may cost."""
    billing: Literal["PerTask", "PerInterval"] = "PerTask"
    """PerTask: an attempt that is lost costs nothing. PerInterval, for long tasks: intervals that have gone
    by are paid whatever becomes of the attempt; `maxPaidFailureSeconds` bounds only what comes after them."""
    billing_interval_seconds: Annotated[int, Field(ge=5, le=86_400)] | None = None
    """Length of an interval, with PerInterval only; absent means 600. The hub sets a floor."""
    account_ref: AccountRef = AccountRef()
    """Who pays."""
    priority: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = 0
    """Higher goes first."""
    task_timeout_seconds: Annotated[int, Field(ge=1, le=30 * 86_400)] = 86_400
    """Longest that one attempt may run; then it is TimedOut. Also bounds what is reserved."""
    backoff_limit_per_task: Annotated[int, Field(ge=0, le=20)] = 2
    """Own failures of one index that are tried again; one more fails the index."""
    unreachable_seconds: Annotated[int, Field(ge=5, le=86_400)] = 20
    """After a provider has been silent this long, its unfinished tasks run elsewhere."""
    suspend: bool = False
    """While true nothing starts and running tasks are stopped."""
    verification: Verification = Verification()
    """How results are checked."""
    results: Literal["Digest", "Inline"] = "Digest"
    """Inline copies each task's result (at most 1 KiB) to ConfigMaps in the job's namespace."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """The hub deletes the job this long after it finished and settled; absent means the hub's default."""


class TaskCounts(Model):
    """How many tasks are where. The five add up to `spec.tasks`."""

    pending: Annotated[int, Field(ge=0)] = 0
    """Not placed."""
    placed: Annotated[int, Field(ge=0)] = 0
    """Given to a provider, not yet running."""
    running: Annotated[int, Field(ge=0)] = 0
    succeeded: Annotated[int, Field(ge=0)] = 0
    failed: Annotated[int, Field(ge=0)] = 0


class FailureCount(Model):
    """The tasks that have failed of themselves exactly `count` times."""

    count: Annotated[int, Field(ge=1, le=64)]
    tasks: PackedRanges


FailureCounts = Annotated[
    tuple[FailureCount, ...],
    Field(
        max_length=64,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["count"]},
    ),
]


class ProviderShare(Model):
    """One provider's part in the job."""

    name: Label63
    placed: Annotated[int, Field(ge=0)] = 0
    """Tasks it holds now."""
    succeeded: Annotated[int, Field(ge=0)] = 0
    seconds: Annotated[int, Field(ge=0)] = 0
    """Payable seconds so far."""
    cost: DecimalAmount = "0"
    """Payable amount so far, in the token's units."""


ProviderShares = Annotated[
    tuple[ProviderShare, ...],
    Field(
        max_length=1000,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    ),
]


class Dissent(Model):
    """Tasks of one placement whose result is not what the majority of copies says."""

    placement: Annotated[int, Field(ge=0)]
    """The placement's number."""
    tasks: Ranges


class Folded(Model):
    """What placements that no longer exist have contributed; the rest is derived from live ones.

    A placement's number enters `placements` in the write that adds its contribution: it is added once.
    """

    placements: Ranges = ""
    """Numbers of the placements absorbed."""
    succeeded: PackedRanges = ""
    failures_by_count: FailureCounts = ()
    paid_failure_seconds: Annotated[int, Field(ge=0)] = 0
    providers: ProviderShares = ()
    claims: Annotated[int, Field(ge=0)] = 0
    """Claims written for absorbed placements."""
    settled_claims: Annotated[int, Field(ge=0)] = 0
    """Those of them that are settled."""
    no_majority: Ranges = ""
    """Replicated tasks on whose result no majority of copies agrees."""
    dissent: Annotated[
        tuple[Dissent, ...],
        Field(
            max_length=4096,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["placement"]},
        ),
    ] = ()
    """What live placements say otherwise than the majority; it is not paid."""


class ComputeJobStatus(Model):
    """What became of the job."""

    observed_generation: Annotated[int, Field(ge=0)] = 0
    conditions: Conditions = ()
    """Accepted, Scheduled, Succeeded or Failed, Settled."""
    message: Text = ""
    """Where the job stands and why the rest waits, in one sentence."""
    counts: TaskCounts = TaskCounts()
    succeeded_tasks: PackedRanges = ""
    """Indexes with a counted success: ranges, or beyond 8 KiB of them "~" and a bitmap in base64url."""
    failed_tasks: PackedRanges = ""
    """Indexes that failed for good."""
    failures_by_count: FailureCounts = ()
    providers: ProviderShares = ()
    cost: DecimalAmount = "0"
    """Payable so far, in the token's units."""
    placements_reserved: Annotated[int, Field(ge=0)] = 0
    """Placement numbers below this may have been used; the next is never guessed from what exists."""
    folded: Folded = Folded()
    start_time: Timestamp | None = None
    completion_time: Timestamp | None = None


COMPUTE_JOB = Kind(
    kind="ComputeJob",
    plural="computejobs",
    short_names=("cj", "cjob"),
    spec=ComputeJobSpec,
    status=ComputeJobStatus,
    description="A job of many tasks, run on the idle clusters of the federation and paid for by an Account.",
    categories=("all", "fallow"),
    columns=(
        Column(name="Tasks", path=".spec.tasks", type="integer", description="Number of tasks."),
        Column(
            name="Running", path=".status.counts.running", type="integer", description="Tasks running now."
        ),
        Column(name="Done", path=".status.counts.succeeded", type="integer", description="Tasks succeeded."),
        Column(
            name="Failed", path=".status.counts.failed", type="integer", description="Tasks failed for good."
        ),
        Column(name="Cost", path=".status.cost", description="Payable so far, in the token's units."),
        condition_column("Settled", description="Whether all of it is paid on chain."),
        AGE,
        Column(name="Message", path=".status.message", description="Where it stands and why the rest waits."),
        Column(name="Providers", path=".status.providers[*].name", description="Providers used.", wide=True),
        condition_column("Accepted", description="Whether the hub accepted it.", wide=True),
    ),
    rules=(
        rule("size(self.metadata.name) <= 63", "metadata.name must be at most 63 characters"),
        rule("!self.spec.gang || self.spec.tasks <= 1024", "a gang has at most 1024 tasks"),
        rule(
            "(self.spec.verification.type == 'Replicate') == has(self.spec.verification.copies)",
            "spec.verification.copies goes with type Replicate, and only with it",
        ),
        rule(
            "!has(self.spec.billingIntervalSeconds) || self.spec.billing == 'PerInterval'",
            "spec.billingIntervalSeconds goes with billing PerInterval only",
        ),
    ),
)
