"""Provider (`prov`): a member cluster as the hub sees it. Spec by the hub admin, status by the hub."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fallow.resources.base import (
    AGE,
    Address,
    Column,
    Conditions,
    DecimalAmount,
    Kind,
    Label63,
    Model,
    Name,
    Timestamp,
    condition_column,
    rule,
)


class ProviderSpec(Model):
    """What the hub admin accepted."""

    accepted: bool = False
    """Nothing is scheduled before a hub admin has accepted the provider."""
    owner_id: Label63
    """Who owns the cluster; several providers may share one owner."""
    region: Label63
    payee: Address
    """Where its pay goes, as accepted. A Quote with another payee is not schedulable."""
    signer: Address
    """The agent's signing key, as accepted."""
    desired: Literal["Active", "Drain", "Removed"] = "Active"
    """Drain: no new work. Removed: running work is released too, and what is owed is claimed."""


class ProductCapacity(Model):
    """Accelerators of one product, or "cpu" for CPU-only nodes."""

    product: Annotated[str, Field(max_length=128)]
    nodes: Annotated[int, Field(ge=0)] = 0
    offerable: Annotated[int, Field(ge=0)] = 0
    """Accelerators on offer (CPU cores for product "cpu"), guests not subtracted."""
    held: Annotated[int, Field(ge=0)] = 0
    """Of these, held by Fallow's placements."""


class ProviderRecord(Model):
    """How its attempts ended, over all time."""

    succeeded: Annotated[int, Field(ge=0)] = 0
    lost: Annotated[int, Field(ge=0)] = 0
    """Lost with their node, or taken away because it was silent or too slow."""
    reclaimed: Annotated[int, Field(ge=0)] = 0
    agreed: Annotated[int, Field(ge=0)] = 0
    """Results that a majority of copies by other owners confirmed."""
    disagreed: Annotated[int, Field(ge=0)] = 0
    """Results that a majority of copies by other owners contradicted."""
    counted: Annotated[
        tuple[Name, ...], Field(max_length=256, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = ()
    """Placements that are counted here and not deleted yet: none is counted twice."""


class ProviderStatus(Model):
    """What the hub knows of it."""

    observed_generation: Annotated[int, Field(ge=0)] = 0
    conditions: Conditions = ()
    """Joined, Reachable, Schedulable."""
    capacity: Annotated[
        tuple[ProductCapacity, ...],
        Field(
            max_length=64,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["product"]},
        ),
    ] = ()
    offerable_accelerators: Annotated[int, Field(ge=0)] = 0
    held_accelerators: Annotated[int, Field(ge=0)] = 0
    last_contact: Timestamp | None = None
    earned: DecimalAmount = "0"
    """Sum of its lines in confirmed Settlements, in the token's units."""
    waiting: DecimalAmount = "0"
    """Sum of its claims that are not settled yet."""
    record: ProviderRecord = ProviderRecord()


PROVIDER = Kind(
    kind="Provider",
    plural="providers",
    short_names=("prov",),
    namespaced=False,
    spec=ProviderSpec,
    status=ProviderStatus,
    description="A member cluster of the federation as the hub sees it.",
    columns=(
        Column(name="Owner", path=".spec.ownerId", description="Who owns the cluster."),
        Column(name="Region", path=".spec.region", description="Where it stands."),
        condition_column("Reachable", description="Whether its agent is heard."),
        condition_column("Schedulable", description="Whether it gets new work."),
        Column(
            name="Offered",
            path=".status.offerableAccelerators",
            type="integer",
            description="Accelerators on offer.",
        ),
        Column(
            name="Held",
            path=".status.heldAccelerators",
            type="integer",
            description="Accelerators in use by Fallow.",
        ),
        Column(name="Earned", path=".status.earned", description="Settled so far, in the token's units."),
        AGE,
    ),
    rules=(
        rule(
            "size(self.metadata.name) <= 52 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
            "a provider's name is at most 52 lower-case letters, digits and dashes: "
            "provider-<name> is its namespace",
        ),
    ),
)
