"""PaymentClaim (`claim`): what a provider is owed for ended attempts of one placement.

Spec by the hub, once; status by the settler. It carries everything a check needs: the terms, the receipt,
every attempt the receipt covers (claimed or disallowed, with the reason), and what the hub itself observed.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fallow.resources.base import (
    AGE,
    MAX_TASKS_PER_PLACEMENT,
    Bytes32,
    Column,
    Conditions,
    DecimalAmount,
    ElapsedString,
    EndedString,
    JobRef,
    Kind,
    Model,
    PlacementRef,
    Ranges,
    Seconds,
    Text,
    Timestamp,
    condition_column,
    rule,
)
from fallow.resources.receipt import SignedReceipt
from fallow.resources.terms import Terms

CLAIM_STATES = ("Pending", "Submitted", "Settled", "Refused")


class Disallowed(Model):
    """What the receipt covers and is not paid, and why."""

    reason: Annotated[str, Field(max_length=64)]
    """Reclaimed, Lost, Unstartable, Released, FailureLimit, SecondSuccess, …"""
    ended: Annotated[tuple[EndedString, ...], Field(max_length=MAX_TASKS_PER_PLACEMENT)] = ()
    """Attempts that are not paid at all (but for their elapsed intervals, with PerInterval)."""
    elapsed: Annotated[tuple[ElapsedString, ...], Field(max_length=MAX_TASKS_PER_PLACEMENT)] = ()
    """With PerInterval: elapsed time that is not paid."""
    seconds: Seconds = 0
    """Seconds cut off attempts that are paid."""


class Observations(Model):
    """What the hub saw itself; it bounds what the provider may say.

    No attempt is paid for longer than from `placedAt` to `finishedAt`, with 5 s of slack for the two clocks.
    """

    placed_at: Timestamp
    """When the API server created the Placement."""
    first_running_at: Timestamp | None = None
    """When the hub first heard that a guest runs: later than it did, so it bounds nothing."""
    finished_at: Timestamp | None = None
    """When the hub first heard that all is over; in a partial claim, when it was made."""


class PaymentClaimSpec(Model):
    """One claim: attempts, seconds, price, amount."""

    placement: PlacementRef
    job: JobRef
    attempt: Annotated[int, Field(ge=0)]
    sequence: Annotated[int, Field(ge=0)]
    """Number of the claim within its placement."""
    claim_id: Bytes32
    """keccak(hub id, placement UID, sequence)."""
    term: Annotated[int, Field(ge=0)]
    ended: Annotated[
        tuple[EndedString, ...],
        Field(max_length=MAX_TASKS_PER_PLACEMENT, json_schema_extra={"x-kubernetes-list-type": "atomic"}),
    ]
    """The attempts that are paid; with PerInterval from their elapsed time on."""
    tasks: Ranges
    """All indexes of the placement: what is claimed is among them."""
    partial: bool = False
    """With PerInterval: whether it claims elapsed intervals only, and more claims follow."""
    elapsed: Annotated[
        tuple[ElapsedString, ...],
        Field(max_length=MAX_TASKS_PER_PLACEMENT, json_schema_extra={"x-kubernetes-list-type": "atomic"}),
    ] = ()
    """With PerInterval: elapsed time by index, from what earlier claims charged to what is charged now."""
    unjudged: Annotated[
        tuple[EndedString, ...],
        Field(max_length=MAX_TASKS_PER_PLACEMENT, json_schema_extra={"x-kubernetes-list-type": "atomic"}),
    ] = ()
    """In a partial claim: attempts that have ended; the placement's last claim says what is paid of them."""
    disallowed: Annotated[
        tuple[Disallowed, ...], Field(max_length=32, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = ()
    """What is not. With `ended`, `elapsed` and `unjudged` it is all that the receipt covers."""
    receipt: SignedReceipt
    observations: Observations
    seconds: Seconds
    """Paid seconds: the sum over `elapsed` and `ended`, each attempt bounded by the observations."""
    amount: DecimalAmount
    """floor(seconds × price per task-hour / 3600), less what earlier claims of the placement took."""
    terms: Terms


class PaymentClaimStatus(Model):
    """How far the money is."""

    observed_generation: Annotated[int, Field(ge=0)] = 0
    conditions: Conditions = ()
    """Submitted, Settled, Disputed, PayeeUnregistered."""
    state: Literal["Pending", "Submitted", "Settled", "Refused"] = "Pending"
    epoch: Annotated[int, Field(ge=0)] | None = None
    commitment: Bytes32 | None = None
    """Of the epoch that settled it: claims are matched by it, never by number."""
    transaction: Annotated[str, Field(max_length=80)] | None = None
    block: Annotated[int, Field(ge=0)] | None = None
    message: Text = ""


PAYMENT_CLAIM = Kind(
    kind="PaymentClaim",
    plural="paymentclaims",
    short_names=("claim", "claims"),
    spec=PaymentClaimSpec,
    status=PaymentClaimStatus,
    description="What a provider is owed for ended attempts of one placement.",
    selectable=(".status.state",),
    spec_is_written_whole=True,
    columns=(
        Column(name="Job", path=".spec.job.name", description="The ComputeJob."),
        Column(name="Seconds", path=".spec.seconds", type="integer", description="Paid seconds."),
        Column(name="Amount", path=".spec.amount", description="In the token's units."),
        Column(name="State", path=".status.state", description="Pending, Submitted, Settled or Refused."),
        Column(name="Epoch", path=".status.epoch", type="integer", description="Epoch that settled it."),
        Column(name="Transaction", path=".status.transaction", description="Transaction hash.", wide=True),
        condition_column("Disputed", description="Its line is disputed by the payer.", wide=True),
        condition_column("PayeeUnregistered", description="Waits for the payee's registration.", wide=True),
        AGE,
    ),
    rules=(
        rule(
            "!has(oldSelf.status) || !has(oldSelf.status.state) || oldSelf.status.state != 'Settled' || "
            "(has(self.status) && has(self.status.state) && self.status.state == 'Settled')",
            "a settled claim stays settled",
        ),
    ),
)
