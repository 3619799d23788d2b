"""Quote: a provider's signed terms, one per provider. Written by its agent from the owner's Offer.

A Placement copies the whole Quote, so that its price can be proven for as long as anyone asks.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fallow.resources.base import (
    AGE,
    Address,
    Column,
    DecimalAmount,
    Kind,
    Model,
    Signature,
    Timestamp,
    rule,
)
from fallow.resources.computejob import Isolation

QUOTE_NAME = "quote"


class AcceleratorPrice(Model):
    """Price of one accelerator for one hour."""

    resource: Annotated[str, Field(min_length=1, max_length=128)] = "nvidia.com/gpu"
    """The extended resource that containers request."""
    product: Annotated[str, Field(min_length=1, max_length=128)] = "*"
    """Product name, * as a wildcard. The first entry that matches counts."""
    price_per_hour: DecimalAmount


class Prices(Model):
    """Unit prices in the token's units. A task pays for its effective pod requests."""

    accelerators: Annotated[tuple[AcceleratorPrice, ...], Field(max_length=64)] = ()
    """An accelerator without an entry is not for sale."""
    cpu_core_hour: DecimalAmount = "0"
    memory_gib_hour: DecimalAmount = "0"


class QuoteLimits(Model):
    """What one guest, and all of them, may take."""

    max_run_seconds: Annotated[int, Field(ge=1, le=30 * 86_400)] = 86_400
    """Longest run of one attempt."""
    max_guests: Annotated[int, Field(ge=0, le=100_000)] = 10_000
    """Most guest pods at once."""
    max_ephemeral_storage_mib: Annotated[int, Field(ge=0, le=2**30)] = 20_480
    """Largest ephemeral storage of one guest."""


class QuoteSpec(Model):
    """The terms. The signature covers everything else in the spec."""

    provider: Annotated[str, Field(max_length=63)]
    prices: Prices
    closed: bool = False
    """Nothing new may start. Obeyed by hub and agent at once."""
    limits: QuoteLimits = QuoteLimits()
    isolation: Annotated[tuple[Isolation, ...], Field(max_length=8)] = ("NonRoot",)
    """Isolations that guests get on request."""
    egress: Annotated[str, Field(pattern="^(None|AllowList|Internet)$", max_length=16)] = "None"
    image_patterns: Annotated[tuple[Annotated[str, Field(max_length=512)], ...], Field(max_length=64)] = ()
    """Images that may run, * as a wildcard. Empty means none."""
    accounts_allowed: Annotated[tuple[Annotated[str, Field(max_length=64)], ...], Field(max_length=256)] = ()
    """Payer addresses that may use it, or * for all. Empty means none."""
    accounts_refused: Annotated[tuple[Annotated[str, Field(max_length=64)], ...], Field(max_length=256)] = ()
    replicate: bool = False
    """Whether the owner takes part in replicated verification."""
    payee: Address
    signer: Address
    agent_version: Annotated[str, Field(max_length=64)] = ""
    valid_until: Timestamp
    """Whole seconds. A Placement made after it is refused."""
    sequence: Annotated[int, Field(ge=0, le=2**53)]
    """Rises with every change."""
    signature: Signature
    """EIP-712 signature of a Quote by `signer`."""


QUOTE = Kind(
    kind="Quote",
    plural="quotes",
    short_names=("quo",),
    spec=QuoteSpec,
    status=None,
    description="A provider's signed terms.",
    spec_is_written_whole=True,
    columns=(
        Column(
            name="Closed", path=".spec.closed", type="boolean", description="Whether new work is refused."
        ),
        Column(
            name="Sequence", path=".spec.sequence", type="integer", description="Rises with every change."
        ),
        Column(name="Valid-Until", path=".spec.validUntil", type="date", description="End of validity."),
        Column(name="Payee", path=".spec.payee", description="Where the pay goes.", wide=True),
        AGE,
    ),
    rules=(
        rule("self.metadata.name == 'quote'", "a provider has one Quote, named quote"),
        rule("self.spec.sequence >= oldSelf.spec.sequence", "spec.sequence never falls"),
    ),
)
