"""Receipt: an agent's signed, cumulative statement of what it ran for one Placement."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fallow.resources.base import Bytes32, DecimalAmount, Model, Seconds, Signature, Timestamp


class SignedReceipt(Model):
    """The variable part of a receipt; the rest of what is signed stands in the Placement's terms.

    `sequence` rises by one with each receipt of a placement and `previous` is the hash of the one before
    (zeros for the first): a chain that cannot be forked unnoticed.
    """

    sequence: Annotated[int, Field(ge=1, le=2**53)]
    previous: Bytes32
    period_start: Timestamp
    """Start of the placement's first attempt. Whole seconds."""
    period_end: Timestamp
    attempts_root: Bytes32
    """Merkle root over all ended attempts so far, and all elapsed intervals; independent of their order."""
    seconds: Seconds
    """Sum over elapsed intervals and over the ended attempts whose outcome is paid at all (S, F, T, C)."""
    cumulative_amount: DecimalAmount
    """floor(seconds × price per task-hour / 3600), in the token's units: an upper bound of any claim."""
    signature: Signature
    """EIP-712 signature of a Receipt by the Quote's signer."""
