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
    EndedString,
    JobRef,
    Kind,
    Model,
    PlacementRef,
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
    """Ended attempts that are not paid, and why."""

    reason: Annotated[str, Field(max_length=64)]
    """Reclaimed, Lost, Unstartable, Released, FailureLimit, SecondSuccess, …"""
    ended: Annotated[tuple[EndedString, ...], Field(max_length=MAX_TASKS_PER_PLACEMENT)]


class Observations(Model):
    """What the hub saw itself; it bounds what the provider may say."""

    placed_at: Timestamp
    first_running_at: Timestamp | None = None
    finished_at: Timestamp | None = None


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
    """The attempts that are paid."""
    disallowed: Annotated[
        tuple[Disallowed, ...], Field(max_length=32, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = ()
    """The attempts that are not. With `ended` these are all that the receipt covers."""
    receipt: SignedReceipt
    observations: Observations
    seconds: Seconds
    """Paid seconds: the sum over `ended`, bounded by the observations."""
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
        rule("self.spec == oldSelf.spec", "a claim's spec never changes"),
        rule(
            "!has(oldSelf.status) || !has(oldSelf.status.state) || oldSelf.status.state != 'Settled' || "
            "(has(self.status) && has(self.status.state) && self.status.state == 'Settled')",
            "a settled claim stays settled",
        ),
    ),
)
