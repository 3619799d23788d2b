"""Settlement (`stl`): one epoch, i.e. one settlement transaction. Spec and status by the settler.

The spec is written before anything is signed and never changes. The transaction stands in the status before
it is broadcast, so that a settler killed in between finds what it may have sent.
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
    Signature,
    Text,
    Timestamp,
    condition_column,
)


class SettlementLine(Model):
    """The sum of an epoch's claims between one payer and one payee."""

    payer: Address
    payee: Address
    amount: DecimalAmount


class ClaimChunk(Model):
    """Claims of one provider in this epoch."""

    provider: Label63
    claims: Annotated[tuple[Name, ...], Field(max_length=1000)]


class SettlementSpec(Model):
    """What the epoch settles."""

    epoch: Annotated[int, Field(ge=1)]
    mode: Literal["chain", "ledger"]
    hub_id: Bytes32
    chain_id: Annotated[int, Field(ge=0, le=2**53)]
    escrow: Address
    token_decimals: Annotated[int, Field(ge=0, le=18)]
    previous_commitment: Bytes32
    commitment: Bytes32
    claims_root: Bytes32
    allocations_root: Bytes32
    bundle_hash: Bytes32
    """Names the epoch's bundle in the archive."""
    lines: Annotated[tuple[SettlementLine, ...], Field(min_length=1, max_length=2000)]
    """Ascending by payer, then payee."""
    claims: Annotated[tuple[ClaimChunk, ...], Field(max_length=1000)]
    total: DecimalAmount
    signature: Signature | None = None
    """Ledger mode: the settler's EIP-712 signature over the commitment."""


class SettlementTransaction(Model):
    """A signed transaction; recorded before it is broadcast."""

    hash: Bytes32
    nonce: Annotated[int, Field(ge=0)]
    gas_limit: Annotated[int, Field(ge=0)]
    max_fee_per_gas_wei: Annotated[str, Field(pattern="^[0-9]{1,39}$", max_length=39)]
    max_priority_fee_per_gas_wei: Annotated[str, Field(pattern="^[0-9]{1,39}$", max_length=39)]
    raw: Annotated[str, Field(pattern="^0x[0-9a-f]*$", max_length=262_144)]
    """The signed bytes, so that exactly this can be sent again."""


class SettlementDispute(Model):
    """A line that its payer disputed."""

    line: Annotated[int, Field(ge=0)]
    """Number of the line in `spec.lines`, from 0."""
    state: Literal["Frozen", "Revealed", "NotRevealed", "Ruled", "Released"]
    """Frozen waits for leaves, Revealed for the arbiter; the others are final."""
    frozen: DecimalAmount
    """What was ever frozen of it."""
    refunded: DecimalAmount
    """What went back to the payer."""
    released: DecimalAmount
    """What of the frozen amount went to the payee after all."""
    deadline: Timestamp
    """Of the present state."""


class SettlementStatus(Model):
    """How far the transaction is."""

    observed_generation: Annotated[int, Field(ge=0)] = 0
    conditions: Conditions = ()
    """Submitted, Confirmed, Disputed."""
    state: Literal["Pending", "Submitted", "Confirmed", "Abandoned"] = "Pending"
    """Abandoned: it could not be settled as it is; its claims go into another epoch."""
    transactions: Annotated[tuple[SettlementTransaction, ...], Field(max_length=16)] = ()
    """Every one ever signed for this epoch, replacements of one nonce last."""
    disputes: Annotated[
        tuple[SettlementDispute, ...],
        Field(max_length=2000, json_schema_extra={"x-kubernetes-list-type": "atomic"}),
    ] = ()
    block: Annotated[int, Field(ge=0)] | None = None
    gas_used: Annotated[int, Field(ge=0)] | None = None
    message: Text = ""


SETTLEMENT = Kind(
    kind="Settlement",
    plural="settlements",
    short_names=("stl",),
    namespaced=False,
    spec=SettlementSpec,
    status=SettlementStatus,
    description="One epoch: a settlement transaction that covers many claims.",
    selectable=(".status.state",),
    spec_is_written_whole=True,
    columns=(
        Column(name="Epoch", path=".spec.epoch", type="integer", description="Number of the epoch."),
        Column(name="Total", path=".spec.total", description="Sum of its lines, in the token's units."),
        Column(name="State", path=".status.state", description="Pending, Submitted, Confirmed or Abandoned."),
        Column(name="Block", path=".status.block", type="integer", description="Block that holds it."),
        Column(name="Gas", path=".status.gasUsed", type="integer", description="Gas used.", wide=True),
        condition_column("Disputed", description="A payer disputes lines of it.", wide=True),
        AGE,
    ),
)
