"""What every program's settings are made of: types, groups that several share, and what all need to know."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

ENV_PREFIX = "FALLOW_"
NESTED = "__"


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


Bytes32 = Annotated[str, BeforeValidator(_lower), StringConstraints(pattern=r"^0x[0-9a-f]{64}$")]
Address = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{40}$")]
Label = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
Listen = Annotated[str, StringConstraints(pattern=r"^(off|\S+:\d{1,5})$")]
Seconds = Annotated[float, Field(gt=0, le=30 * 86_400)]


def _split_commas(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, list | tuple):  # a repeated flag; each may hold commas too
        return tuple(part for item in value for part in str(item).split(",") if part)
    return value


Texts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)]
Xids = Annotated[tuple[Annotated[int, Field(ge=1, le=9999)], ...], NoDecode, BeforeValidator(_split_commas)]


class Group(BaseModel):
    """A group of settings: immutable, and nothing in it is silently ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class PaymentsSettings(Group):
    """Where money lives. The same in all programs of one hub, or signatures do not verify."""

    mode: Literal["chain", "ledger"] = "ledger"
    """chain settles on an EVM chain, ledger keeps signed books without one. Ledger by default:
    nobody should reach a chain by leaving something out."""
    chain_id: int = Field(default=0, ge=0, lt=2**63)
    """EIP-155 number of the chain; 0 in ledger mode, required in chain mode."""
    escrow: Address = "0x" + 40 * "0"
    """Address of the escrow contract; the zero address in ledger mode, required in chain mode."""
    token: Address = "0x" + 40 * "0"
    """Address of the escrow's one token; required in chain mode."""
    token_symbol: str = Field(default="USDC", min_length=1, max_length=11)
    """What people call the token; only shown, never computed with."""
    token_decimals: int = Field(default=6, ge=0, le=18)
    """Decimal places of the token: 6 for USDC. Prices with more places are refused."""

    @model_validator(mode="after")
    def _chain_is_complete(self) -> Self:
        zero = "0x" + 40 * "0"
        if self.mode == "chain":
            if self.chain_id == 0:
                raise ValueError("chain_id must be the chain's number when mode is chain")
            for name in ("escrow", "token"):
                if getattr(self, name) == zero:
                    raise ValueError(f"{name} must be the contract's address when mode is chain")
        elif self.chain_id != 0 or self.escrow != zero:
            raise ValueError("mode must be chain when chain_id or escrow is set")
        return self


class LeaseSettings(Group):
    """Leader election: one process of several acts, the others wait."""

    enabled: bool = True
    """Whether to take the lease at all. Off only where nothing else can run this program."""
    name: Label = "fallow-hub"
    """Name of the coordination.k8s.io Lease in the system namespace."""
    duration_seconds: Seconds = 8
    """How long a leader that stops renewing is believed, in seconds. A standby decides within 15
    seconds of a leader's death, before any provider counts as silent; an API server may be slow for
    longer than most are."""
    renew_seconds: Seconds = 2
    """How often the leader renews, in seconds. A quarter of the duration: three may get lost."""

    @model_validator(mode="after")
    def _renews_in_time(self) -> Self:
        if self.renew_seconds * 2 > self.duration_seconds:
            raise ValueError("renew_seconds must be at most half of duration_seconds")
        return self


class WriterSettings(Group):
    """How many writes a program has under way, and how fast it writes."""

    in_flight: int = Field(default=32, ge=1, le=1000)
    """Writes under way at once. 32 keeps one API server busy without queueing on it."""
    per_second: float = Field(default=500, gt=0, le=10_000)
    """Writes a second, sustained; halved on a 429 or a slow answer, then grows back."""
    burst: int = Field(default=1000, ge=1, le=100_000)
    """Writes that may go out at once after a quiet time."""
    slow_answer_seconds: Seconds = 1
    """An answer slower than this many seconds counts as the server asking for less."""


class WatchSettings(Group):
    """How the views of the API server are kept."""

    page_size: int = Field(default=500, ge=1, le=10_000)
    """Objects per page of a list. 500 is what kubectl and client-go use."""
    silence_seconds: Seconds = 90
    """A watch without an event or bookmark for this many seconds is opened anew. The API server
    sends a bookmark about once a minute."""


class ProgramSettings(BaseSettings):
    """What every program needs to know, whatever it is for."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=NESTED,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        cli_kebab_case=True,
        cli_avoid_json=True,
        cli_show_env_vars=True,
        cli_exit_on_error=False,
        cli_hide_none_type=True,
        cli_use_class_docs_for_groups=True,
        validate_default=True,
    )

    kubeconfig: Path | None = None
    """Path of a kubeconfig for the cluster this program runs in; None uses the pod's own service
    account."""
    log_format: Literal["json", "console"] = "json"
    """json for machines, one object a line; console for people."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is logged."""
    metrics_address: Listen = "127.0.0.1:0"
    """host:port of /metrics and /healthz; port 0 takes any free one and logs which; off serves
    none. Only local by default: a chart opens it where a scraper needs it."""


class CommonSettings(ProgramSettings):
    """What every program that belongs to a hub needs to know."""

    hub_id: Bytes32
    """The hub's identity: 0x and 64 hexadecimal digits, chosen once at install and the same in
    all programs of a hub. It is part of every signature. `openssl rand -hex 32` makes one."""
    system_namespace: Label = "fallow-system"
    """Namespace of Fallow's own leases and configuration."""
    payments: PaymentsSettings = PaymentsSettings()
    watch: WatchSettings = WatchSettings()


class CycleSettings(Group):
    """The rhythm of a program's one cycle."""

    debounce_seconds: float = Field(default=0.05, ge=0, le=10)
    """Least time from cycle to cycle while changes come in, in seconds, so that one cycle sees many;
    a change after a pause waits a fifth of it. 50 ms is below what a person notices."""
    resync_seconds: Seconds = 30
    """Longest time without a cycle, in seconds: what no event announces, such as a time-out,
    is seen by then."""


class KeyFileSettings(Group):
    """A key in a file: an encrypted Ethereum keystore (version 3) and its password."""

    keystore: Path | None = None
    """Path of the keystore file."""
    password_file: Path | None = None
    """Path of a file whose first line is the keystore's password."""
