"""Settings of `fallow settler`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from fallow.settings.base import (
    CommonSettings,
    Group,
    KeyFileSettings,
    Label,
    LeaseSettings,
    Seconds,
    Texts,
    WriterSettings,
)


class SettlerLeaseSettings(LeaseSettings):
    """Leader election among settlers."""

    # NB: a class of its own, not LeaseSettings(name=…): setting one field would bring back the hub's name.
    name: Label = "fallow-settler"
    """Name of the Lease, in the system namespace."""


class ChainSettings(Group):
    """How the chain is reached."""

    rpc_urls: Texts = Field(default=(), exclude=True, repr=False)
    """Addresses of Ethereum JSON-RPC end points, separated by commas; all are compared, the first
    that agrees is read. Never logged: many carry a key."""
    rpc_lag_blocks: int = Field(default=3, ge=0, le=1000)
    """An end point more than this many blocks behind the foremost is lagging and is not read."""
    rpc_agreeing: int = Field(default=1, ge=1, le=100)
    """How many end points must answer and agree. 1 by default: the others may be down. Where they
    contradict each other a majority of all of them decides, whatever this says."""
    confirmations: int = Field(default=12, ge=0, le=10_000)
    """Blocks on top of a transaction before it counts. 12 is beyond any honest reorganisation."""
    fee_ceiling_gwei: int = Field(default=200, ge=1)
    """Most gwei per gas that is paid; above it an epoch waits."""
    replace_after_blocks: int = Field(default=10, ge=1, le=10_000)
    """A transaction that is in none of this many blocks is replaced by a dearer one with the same
    nonce. Ten: a fee from recent history fits into one of the next few, unless it rose."""
    rpc_timeout_seconds: Seconds = 10
    """Longest wait for one answer of an end point, in seconds."""


class EpochSettings(Group):
    """When claims are settled."""

    max_age_seconds: float = Field(default=300, ge=0, le=30 * 86_400)
    """An epoch is settled when its oldest claim is this many seconds old. Five minutes: gas
    grows with payers and payees, not with claims, so waiting is cheap."""
    max_claims: int = Field(default=1000, ge=1, le=5000)
    """An epoch is settled at once when this many claims wait."""
    poll_seconds: Seconds = 2
    """How often claims and the chain are looked at, in seconds."""


class DisputeSettings(Group):
    """How disputes about settled lines are followed and answered."""

    poll_seconds: Seconds = 30
    """How often disputes are looked at, in seconds. Half a minute: answers have days."""
    revealer: KeyFileSettings = KeyFileSettings()
    """A key without any rights, with coins for gas, that answers disputes: reveals leaves from the
    archive, and releases what the arbiter left undecided. Unset, a person does (`fallow chain
    reveal` and `resolve`); not the operator's key, which signs settlements and nothing else."""
    leaves_per_transaction: int = Field(default=50, ge=1, le=200)
    """How many claims one transaction reveals; each takes about 60,000 gas."""


class SettlerSettings(CommonSettings):
    """The settler: turns claims into epochs and settles them. It alone holds the operator key."""

    chain: ChainSettings = ChainSettings()
    epochs: EpochSettings = EpochSettings()
    disputes: DisputeSettings = DisputeSettings()
    lease: SettlerLeaseSettings = SettlerLeaseSettings()
    writers: WriterSettings = WriterSettings()
    operator: KeyFileSettings = KeyFileSettings()
    """The key that signs settlements: on chain the operator's account, in ledger mode the
    ledger's signature."""
    salt_key_file: Path | None = None
    """Path of a file with 32 random bytes in hexadecimal: salts of leaves are derived from it,
    so that a retry gives the same roots."""
    archive_directory: Path
    """Directory of the append-only archive of epoch bundles."""
    fault_point: str = ""
    """For fault tests only: name of the step at which the process kills itself."""
