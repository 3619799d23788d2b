"""Settings of `fallow settler`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from fallow.settings.base import (
    Address,
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
    max_claims: int = Field(default=10_000, ge=1, le=10_000)
    """An epoch is settled at once when this many claims wait, and holds at most so many. Gas does not
    grow with them; the Settlement that lists them does, and has to fit into one object."""
    max_lines: int = Field(default=2000, ge=1, le=2000)
    """Most lines, i.e. pairs of payer and payee, of one epoch. A transaction of 2,000 stays well below the
    16.7 million gas that chains let one take, and its Settlement below what one object may hold."""
    max_value: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,18}(\.[0-9]{1,18})?$")] | None = None
    """An epoch is settled at once when its claims are worth this much, in the token's units: bounds
    what providers are owed unsettled. No bound by default."""
    poll_seconds: Seconds = 2
    """How often the chain is asked for a new block, in seconds. What happens on the hub is seen at
    once."""
    resync_seconds: Seconds = 30
    """How often payers, payees and claims that wait are looked at again though nothing seems to have
    happened, in seconds: time alone ends notices and intervals."""
    tell_submitted_seconds: float = Field(default=300, ge=0, le=30 * 86_400)
    """A claim is told that it is on its way when its epoch takes longer than this many seconds; its
    Settlement says so at once. A write a claim is most of what a claim costs, and five minutes are
    longer than a healthy epoch needs."""


class RemoteSignerSettings(Group):
    """The operator's key in a signer elsewhere, instead of a keystore: it is asked to sign by JSON-RPC."""

    url: str | None = Field(
        default=None, pattern=r"^(https://|http://(127\.0\.0\.1|localhost|\[::1\])[:/])\S+$"
    )
    """Address of a signer that answers eth_signTransaction (ledger mode: eth_signTypedData_v4). Without
    TLS only on this very host: who reaches it can have things signed."""
    address: Address | None = None
    """Address of the operator's key: nothing signed by another is sent."""
    ca_file: Path | None = None
    """Path of a file with the certificates that the signer's own has to be signed by; None trusts the
    usual ones."""
    certificate_file: Path | None = None
    """Path of the certificate by which the signer knows this settler."""
    key_file: Path | None = None
    """Path of that certificate's key."""
    token_file: Path | None = None
    """Path of a file with a bearer token for the signer; read for each request."""
    timeout_seconds: Seconds = 10
    """Longest wait for a signature, in seconds."""


class S3Settings(Group):
    """The archive in a bucket of Amazon S3, or of a store that speaks its protocol."""

    bucket: str = Field(default="", pattern=r"^([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?$")
    """Name of the bucket. Empty keeps the archive in a directory. Let nobody delete from it, and keep
    versions, as of any books."""
    prefix: str = Field(default="", pattern=r"^([A-Za-z0-9][A-Za-z0-9._/-]{0,199}/)?$")
    """What all names begin with, ending in a slash; so that hubs can share a bucket."""
    endpoint: str | None = Field(default=None, pattern=r"^https?://[^\s@?#]+$")
    """Address of a store other than Amazon's."""
    region: str = Field(default="us-east-1", pattern=r"^[a-z0-9-]{1,63}$")
    """The bucket's region; most other stores take any."""
    credentials_file: Path | None = None
    """Path of a file with aws_access_key_id and aws_secret_access_key in a section [default]; read
    again when it changes. None takes the identity that the platform gives the pod."""
    ca_file: Path | None = None
    """Path of a file with the certificates that the store's own has to be signed by; None trusts the
    usual ones."""
    timeout_seconds: Seconds = 30
    """Longest silence of the store, in seconds."""


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
    signer: RemoteSignerSettings = RemoteSignerSettings()
    salt_key_file: Path | None = None
    """Path of a file with 32 random bytes in hexadecimal: salts of leaves are derived from it,
    so that a retry gives the same roots."""
    archive_directory: Path | None = None
    """Directory of the append-only archive of epoch bundles; this, or a bucket."""
    archive_s3: S3Settings = S3Settings()
    dry_run: bool = False
    """Show what would be settled and sent now, write and send nothing, and end."""
    fault_point: str = ""
    """For fault tests only: name of the step at which the process kills itself."""

    @model_validator(mode="after")
    def _is_unambiguous(self) -> Self:
        if (self.archive_directory is None) == (not self.archive_s3.bucket):
            raise ValueError("set either archive_directory or archive_s3.bucket")
        if self.signer.url is not None and self.operator.keystore is not None:
            raise ValueError("set either operator.keystore or signer.url")
        return self
