"""Offer: the owner's policy on the member cluster. Spec by the owner, status by the agent.

Closed by default: no images, no accounts, no egress. The agent creates a closed one named `default` where
none exists, and never writes a spec again.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

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


class KeepFree(Model):
    """Accelerators of one product that stay free for the owner, over the whole cluster."""

    resource: Annotated[str, Field(min_length=1, max_length=128)] = "nvidia.com/gpu"
    product: Annotated[str, Field(min_length=1, max_length=128)] = "*"
    count: Annotated[int, Field(ge=0, le=1_000_000)]


class OfferSpec(Model):
    """What is offered to whom, at which price, and for how long."""

    paused: bool = False
    """Offer nothing and drain every guest."""
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
    egress: Annotated[str, Field(pattern="^(None|AllowList|Internet)$", max_length=16)] = "None"
    isolation: Annotated[tuple[Isolation, ...], Field(max_length=8)] = ("NonRoot",)
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
    guests: Annotated[int, Field(ge=0)] = 0
    earned: DecimalAmount = "0"
    """Settled and claimed, in the token's units, as the hub last said."""
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
        Column(name="Earned", path=".status.earned", description="In the token's units."),
        condition_column("CageEnforced", description="Whether the cage was proven or waived.", wide=True),
        AGE,
        Column(name="Message", path=".status.message", description="Why nothing, or not more, is offered."),
    ),
    rules=(rule("self.metadata.name == 'default'", "a cluster has one Offer, named default"),),
)
