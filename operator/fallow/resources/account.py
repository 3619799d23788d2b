"""Account (`acct`): who pays. Spec by the submitter (in ledger mode by the hub admin), status by the settler.

On a chain the payer's own EIP-712 signature binds the address to exactly this namespace (by UID), hub, chain
and escrow: nobody can charge a stranger's payer by naming it.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fallow.resources.base import (
    AGE,
    Address,
    Bytes32,
    Column,
    Conditions,
    DecimalAmount,
    Kind,
    Model,
    Signature,
    Timestamp,
    Uid,
    condition_column,
)


class AccountLimits(Model):
    """Limits that the payer signed, in the token's units."""

    max_total: DecimalAmount | None = None
    """Most that may ever be charged under this authorization; in ledger mode the credit limit."""
    max_per_day: DecimalAmount | None = None
    """Most that may be charged in 24 hours."""


class Authorization(Model):
    """The payer's signature over chain, escrow, hub, namespace UID, limits, expiry and nonce."""

    chain_id: Annotated[int, Field(ge=0, le=2**53)]
    escrow: Address
    hub_id: Bytes32
    namespace_uid: Uid
    """UID of the namespace that may charge the payer."""
    expires_at: Timestamp
    """No charge for work placed after this instant. Whole seconds."""
    nonce: Annotated[int, Field(ge=0, le=2**53)]
    """Distinguishes authorizations; a higher one of the same payer and namespace replaces a lower one."""
    signature: Signature
    """EIP-712 signature of an AccountAuthorization by the payer (EIP-1271 when it is a contract)."""


class AccountSpec(Model):
    """A payer, bound to this namespace."""

    payer: Address
    """The address that pays; in ledger mode an identifier of the same form."""
    limits: AccountLimits = AccountLimits()
    authorization: Authorization | None = None
    """Required on a chain; absent in ledger mode."""


class ProvenAuthorization(Model):
    """An authorization that a payer which is a contract has accepted on the chain (EIP-1271)."""

    digest: Bytes32
    """What was signed: the EIP-712 digest."""
    block: Annotated[int, Field(ge=0)]
    """The block at which the contract said yes."""


class AccountStatus(Model):
    """What the settler last read, at one block."""

    observed_generation: Annotated[int, Field(ge=0)] = 0
    conditions: Conditions = ()
    """Bound (the authorization is valid) and Funded (there is something to spend)."""
    balance: DecimalAmount = "0"
    """Deposited and debitable, money under notice included."""
    under_notice: DecimalAmount = "0"
    """Announced for withdrawal: still debitable, but the hub does not count on it."""
    settled: DecimalAmount = "0"
    """Debited by Fallow so far."""
    proven: Annotated[
        tuple[ProvenAuthorization, ...],
        Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "atomic"}),
    ] = ()
    """The newest last. A contract can change its mind; what was placed when it said yes stays payable."""
    observed_block: Annotated[int, Field(ge=0)] = 0
    """The block at which the above was read; in ledger mode the last epoch."""


ACCOUNT = Kind(
    kind="Account",
    plural="accounts",
    short_names=("acct",),
    spec=AccountSpec,
    status=AccountStatus,
    description="Who pays for a namespace's jobs: a payer bound by its own signature, or a ledger account.",
    columns=(
        Column(name="Payer", path=".spec.payer", description="The address that pays."),
        condition_column("Bound", description="Whether the payer's signature is valid here."),
        condition_column("Funded", description="Whether there is anything to spend."),
        Column(name="Balance", path=".status.balance", description="Debitable, in the token's units."),
        Column(name="Settled", path=".status.settled", description="Debited so far."),
        Column(name="Notice", path=".status.underNotice", description="Announced for withdrawal.", wide=True),
        AGE,
    ),
)
