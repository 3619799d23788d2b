"""Provider (`prov`): a member cluster as the hub sees it. Spec by the hub admin, status by the hub.

Joining is in it from both sides: the admin's invite and acceptance in the spec, who answered in the status.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fallow.resources.base import (
    AGE,
    Address,
    Bytes32,
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


class ProviderInvite(Model):
    """A single-use invite. The hub keeps only what proves that an answer knows it."""

    hash: Bytes32
    """SHA-256 of the invite's token."""
    expires: Timestamp
    """An invite that is not used until then is worth nothing."""


class ProviderSpec(Model):
    """What the hub admin invited and accepted."""

    accepted: bool = False
    """Nothing is scheduled before a hub admin has accepted the provider."""
    owner_id: Label63
    """Who owns the cluster; several providers may share one owner."""
    region: Label63
    payee: Address | None = None
    """Where its pay goes, as accepted. A Quote with another payee is not schedulable."""
    signer: Address | None = None
    """The agent's signing key, as accepted."""
    invite: ProviderInvite | None = None
    """By which its agent may join, once."""
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


class JoinedIdentity(Model):
    """Who answered the invite, in the agent's own words, and the credential that the hub gave it."""

    invite_hash: Bytes32
    """The invite that was used up."""
    signer: Address
    """The agent's key. Its fingerprint is what people compare out of band."""
    payee: Address
    agent_version: Annotated[str, Field(max_length=64)] = ""
    nodes: Annotated[int, Field(ge=0)] = 0
    accelerators: Annotated[int, Field(ge=0)] = 0
    joined_at: Timestamp
    asked_at_ms: Annotated[int, Field(ge=0, le=2**53)] = 0
    """Unix milliseconds in the agent's last request that was granted: an older one is a replay."""
    token_expires: Timestamp | None = None
    """When the token ends that the agent holds."""


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
    identity: JoinedIdentity | None = None
    """Who joined by invite; none where a hub admin made the credentials by hand."""


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
            "!has(self.spec.accepted) || !self.spec.accepted "
            "|| (has(self.spec.payee) && has(self.spec.signer))",
            "an accepted provider has a payee and a signer: `fallow provider accept` fills them in",
        ),
        rule(
            "size(self.metadata.name) <= 52 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
            "a provider's name is at most 52 lower-case letters, digits and dashes: "
            "provider-<name> is its namespace",
        ),
    ),
)
