"""What paying for an attempt needs, copied into the Placement when it is made and from there into the claim.

Terms are a snapshot: a later change of Quote, Account or settings does not touch work already placed, and a
claim can be checked when job, account and quote are long gone.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fallow.resources.account import AccountSpec
from fallow.resources.base import Address, Bytes32, DecimalAmount, Label63, Model, Name
from fallow.resources.quote import QuoteSpec


class TaskRequests(Model):
    """What one task's price is for: Kubernetes' effective requests of its pod, rounded up to whole units."""

    cpu_millicores: Annotated[int, Field(ge=0, le=2**31)] = 0
    memory_mib: Annotated[int, Field(ge=0, le=2**31)] = 0
    accelerators: Annotated[
        dict[Annotated[str, Field(max_length=128)], Annotated[int, Field(ge=1, le=65_536)]],
        Field(max_length=16),
    ] = {}
    """Whole devices by the resource that containers request."""


class Terms(Model):
    """Who pays whom how much for what, pinned for the life of a Placement."""

    hub_id: Bytes32
    chain_id: Annotated[int, Field(ge=0, le=2**53)]
    """0 in ledger mode."""
    escrow: Address
    """The zero address in ledger mode."""
    token: Address
    token_decimals: Annotated[int, Field(ge=0, le=18)]
    account_namespace: Label63
    account_name: Name
    account: AccountSpec
    """The Account's spec, the payer's authorization included."""
    provider: Label63
    owner_id: Label63
    quote: QuoteSpec
    """The provider's signed Quote."""
    price_per_task_hour: DecimalAmount
    """In the token's units: floor(Σ quantity × unit price) over `requests` by the Quote. Whoever has the
    terms can work it out again."""
    requests: TaskRequests
    """The quantities of that sum."""
    product: Annotated[str, Field(max_length=128)] = ""
    """Product of the accelerators on its nodes: it decides which of the Quote's prices counts."""
    billing: Literal["PerTask", "PerInterval"] = "PerTask"
    interval_seconds: Annotated[int, Field(ge=5, le=86_400)] | None = None
    """With PerInterval: seconds after which an attempt's time is final."""
    task_timeout_seconds: Annotated[int, Field(ge=1)]
    """min(job's, Quote's): what one attempt can cost at most follows from it."""
    replicas: Annotated[int, Field(ge=1, le=10)] = 1
    """Successes of one index that are paid, each to another owner. More than one: the task is replicated, and
    its result stays sealed until the hub asks for it."""
    replica: Annotated[int, Field(ge=0, le=9)] = 0
    """Which copy of its tasks this placement runs; 0 unless replicated."""
    backoff_limit_per_task: Annotated[int, Field(ge=0)] = 2
    paid_failure_seconds: Annotated[int, Field(ge=0)] = 0
    """Seconds of own failures that this placement may still charge."""
