"""Offer: the owner's policy on the member cluster. Spec by the owner, status by the agent.

Closed by default: no images, no accounts, no egress. The agent creates a closed one named `default` where
none exists, and never writes a spec again.
"""

from __future__ import annotations

from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator

from fallow.resources.base import (
    AGE,
    Column,
    Conditions,
    DecimalAmount,
    Kind,
    Model,
    Text,
    Timestamp,
    condition_column,
    rule,
)
from fallow.resources.computejob import Isolation
from fallow.resources.quote import Prices

OFFER_NAME = "default"
CageCheck = Literal["ApiServer", "Kubelet", "Metadata", "Neighbour", "Pids"]
CAGE_CHECKS: tuple[CageCheck, ...] = ("ApiServer", "Kubelet", "Metadata", "Neighbour", "Pids")


Day = Literal["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
DAYS: tuple[Day, ...] = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
ClockTime = Annotated[str, Field(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$", max_length=5)]
Cidr = Annotated[str, Field(max_length=43, pattern="^[0-9a-fA-F.:]+/[0-9]{1,3}$")]
Date = Annotated[str, Field(pattern="^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$", max_length=10)]


class Window(Model):
    """A time of the week in which capacity is offered."""

    days: Annotated[tuple[Day, ...], Field(max_length=7)] = ()
    """Days on which it starts; empty means every day."""
    start: ClockTime = "00:00"
    end: ClockTime = "24:00"
    """At or before `start` it is a time of the next day."""
    prices: Prices | None = None
    """Prices while it lasts, instead of the Offer's."""


class DayException(Model):
    """A day, or several, on which the windows do not count."""

    day: Date
    last_day: Date | None = None
    """The last of several days, included."""
    offered: bool = False
    """Whether capacity is offered all day, or not at all."""


class Schedule(Model):
    """When capacity is offered. Without windows: always, but for exceptions."""

    time_zone: Annotated[str, Field(min_length=1, max_length=64)] = "UTC"
    """IANA name ("Europe/Stockholm"). Windows and days are of its clocks."""
    windows: Annotated[tuple[Window, ...], Field(max_length=32)] = ()
    """The first that counts gives the prices."""
    exceptions: Annotated[tuple[DayException, ...], Field(max_length=128)] = ()

    @field_validator("time_zone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"{name} is no time zone that this machine knows") from error
        return name


class KeepFree(Model):
    """Accelerators of one product that stay free for the owner, over the whole cluster."""

    resource: Annotated[str, Field(min_length=1, max_length=128)] = "nvidia.com/gpu"
    product: Annotated[str, Field(min_length=1, max_length=128)] = "*"
    count: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    percent: Annotated[int, Field(ge=0, le=100)] = 0
    """Of those on nodes that are ready and not cordoned, rounded up. The larger of both counts."""


class OfferSpec(Model):
    """What is offered to whom, at which price, and for how long."""

    paused: bool = False
    """Offer nothing and drain every guest."""
    mode: Literal["Offer", "Observe"] = "Offer"
    """Observe: offer nothing, and measure what stands idle and what it would have earned."""
    schedule: Schedule = Schedule()
    """When capacity is offered."""
    idle_for_seconds: Annotated[int, Field(ge=0, le=86_400)] = 0
    """How long an accelerator must have been without an owner's pod before it is offered."""
    node_selector: Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=32)] = {}
    """Only nodes with these labels; empty means every node."""
    keep_free: Annotated[tuple[KeepFree, ...], Field(max_length=64)] = ()
    prices: Prices = Prices()
    """Unit prices. An accelerator without a price is not offered."""
    images: Annotated[tuple[Annotated[str, Field(max_length=512)], ...], Field(max_length=64)] = ()
    """Images that may run, * as a wildcard. Empty means none."""
    accounts_allowed: Annotated[tuple[Annotated[str, Field(max_length=64)], ...], Field(max_length=256)] = ()
    """Payer addresses that may use it, or * for all. Empty means none."""
    accounts_refused: Annotated[tuple[Annotated[str, Field(max_length=64)], ...], Field(max_length=256)] = ()
    image_digests: bool = False
    """Only images that are named by digest (…@sha256:…)."""
    replicate: bool = False
    """Whether guests may be copies of tasks that other owners run too, so that results can be compared. Such
    work is paid once the copies agree, not when it ends."""
    trust_hub_for_contract_payers: bool = False
    """Whether to take the hub's word that a payer which is a contract agreed (EIP-1271), where the agent has
    no RPC endpoint to ask the contract itself."""
    egress: Annotated[str, Field(pattern="^(None|AllowList|Internet)$", max_length=16)] = "None"
    """What guests may reach besides their own gang: nothing, `egressRanges`, or all but private ranges."""
    egress_ranges: Annotated[tuple[Cidr, ...], Field(max_length=64)] = ()
    """With AllowList: what may be reached. A range within a private one is taken as meant; of a wider one the
    private, link-local and metadata parts are left out."""
    dns_ranges: Annotated[tuple[Cidr, ...], Field(max_length=16)] = ()
    """Where name servers are, for guests that may use names at all; empty means the pods of kube-system
    with the label k8s-app=kube-dns."""
    isolation: Annotated[tuple[Isolation, ...], Field(max_length=8)] = ("NonRoot",)
    """Isolations that guests get: the weakest of these that is as strong as the job wants."""
    runtime_class: Annotated[str, Field(max_length=253, pattern="^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$")] = ""
    """RuntimeClass of Sandboxed guests (gVisor, Kata); Sandboxed is not offered without one."""
    share_nodes: bool = True
    """Whether guests may be on a node on which a pod of yours holds an accelerator."""
    local_queue: Annotated[str, Field(max_length=63, pattern="^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$")] = ""
    """Kueue's LocalQueue in the guest namespace that guests go through, where this cluster runs Kueue."""
    max_run_seconds: Annotated[int, Field(ge=1, le=30 * 86_400)] = 86_400
    max_guests: Annotated[int, Field(ge=0, le=100_000)] = 10_000
    max_ephemeral_storage_mib: Annotated[int, Field(ge=0, le=2**30)] = 20_480
    reclaim_grace_seconds: Annotated[int, Field(ge=0, le=3600)] = 30
    """Longest that a guest may take to end when its machine is taken back."""
    accept_unproven: Annotated[tuple[CageCheck, ...], Field(max_length=5)] = ()
    """Checks of the cage that the owner waives by name. Nothing is offered while a check is neither proven
    by a canary guest nor waived. Simulated nodes cannot prove any."""


class NotOffered(Model):
    """Accelerators that are not offered, and why."""

    count: Annotated[int, Field(ge=0)]
    reason: Text


class Observed(Model):
    """What stood idle of one product since observing began."""

    resource: Annotated[str, Field(max_length=128)]
    product: Annotated[str, Field(max_length=128)] = ""
    observed_seconds: Annotated[int, Field(ge=0)] = 0
    idle_device_seconds: Annotated[int, Field(ge=0)] = 0
    would_have_earned: DecimalAmount = "0"
    """At the prices listed at each moment; within windows only."""
    idle_seconds_by_hour: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...],
        Field(max_length=168, json_schema_extra={"x-kubernetes-list-type": "atomic"}),
    ] = ()
    """Idle device-seconds by hour of the week, in the schedule's time zone; the first is Monday 00-01."""


class UsedDay(Model):
    """One day of accelerators without a pod of the owner's."""

    day: Date
    """In UTC."""
    used_device_seconds: Annotated[int, Field(ge=0)] = 0
    """Of these, held by guests."""
    idle_device_seconds: Annotated[int, Field(ge=0)] = 0


class CageFinding(Model):
    """Something that a canary guest reached although guests must not."""

    check: CageCheck
    found: Annotated[str, Field(max_length=300)] = ""


class CageProof(Model):
    """What a canary guest found in one pool of nodes; it counts for all of them."""

    pool: Annotated[str, Field(max_length=253)]
    node: Annotated[str, Field(max_length=253)]
    """Where it ran."""
    checked_at: Timestamp
    under: Annotated[str, Field(max_length=64)] = ""
    """Digest of the conditions: agent version and what the Offer opens. Other ones want another proof."""
    reached: Annotated[
        tuple[CageFinding, ...],
        Field(max_length=5, json_schema_extra={"x-kubernetes-list-type": "atomic"}),
    ] = ()
    """Empty when the cage held."""


class OfferStatus(Model):
    """What the policy comes to right now."""

    observed_generation: Annotated[int, Field(ge=0)] = 0
    conditions: Conditions = ()
    """Offering, CageEnforced, HubReachable."""
    nodes: Annotated[int, Field(ge=0)] = 0
    """Nodes with something on offer."""
    accelerators: Annotated[int, Field(ge=0)] = 0
    """Accelerators on offer, guests not subtracted."""
    not_offered: Annotated[tuple[NotOffered, ...], Field(max_length=64)] = ()
    cage: Annotated[
        tuple[CageProof, ...], Field(max_length=64, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = ()
    """What canary guests found, by pool."""
    observed: Annotated[tuple[Observed, ...], Field(max_length=16)] = ()
    """What stood idle while `mode` was Observe."""
    guests: Annotated[int, Field(ge=0)] = 0
    earned: DecimalAmount = "0"
    """Settled, in the token's units, as the hub last said."""
    waiting: DecimalAmount = "0"
    """Claimed and not settled yet, as the hub last said."""
    used_days: Annotated[
        tuple[UsedDay, ...], Field(max_length=8, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = ()
    """The last seven days."""
    bought_back: Text = ""
    """What they come to, in one sentence."""
    last_contact: Timestamp | None = None
    """When the hub was last heard."""
    message: Text = ""
    """Why nothing, or not more, is offered, in one sentence."""


OFFER = Kind(
    kind="Offer",
    plural="offers",
    short_names=("offer",),
    plane="member",
    namespaced=False,
    spec=OfferSpec,
    status=OfferStatus,
    description="The owner's policy: what of this cluster is offered, to whom, at which price.",
    columns=(
        Column(
            name="Paused", path=".spec.paused", type="boolean", description="Whether the owner paused it."
        ),
        Column(
            name="Nodes", path=".status.nodes", type="integer", description="Nodes with something on offer."
        ),
        Column(
            name="Offered", path=".status.accelerators", type="integer", description="Accelerators on offer."
        ),
        Column(name="Guests", path=".status.guests", type="integer", description="Guest pods now."),
        Column(name="Earned", path=".status.earned", description="Settled, in the token's units."),
        Column(name="Waiting", path=".status.waiting", description="Claimed and not settled yet.", wide=True),
        Column(
            name="Bought-Back",
            path=".status.boughtBack",
            description="How much of what stood idle guests used this week.",
            wide=True,
        ),
        condition_column("CageEnforced", description="Whether the cage was proven or waived.", wide=True),
        AGE,
        Column(name="Message", path=".status.message", description="Why nothing, or not more, is offered."),
    ),
    rules=(rule("self.metadata.name == 'default'", "a cluster has one Offer, named default"),),
)
