"""Every setting of the programs: one tree of small typed groups, parsed in one place.

Each field's docstring says what it is, in which unit, and why the default is what it is; `--help`
prints the same text. A field is set by a flag (`--payments.mode`) or a variable
(`FALLOW_PAYMENTS__MODE`: two underscores step into a group); the flag wins. `parse` is the only
reader of either. Secrets are never values here, only paths of files: an environment is readable
by too many.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, CliSettingsSource, NoDecode, SettingsConfigDict
from pydantic_settings import SettingsError as ParserError

from fallow.errors import InvalidSetting

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
    duration_seconds: Seconds = 15
    """How long a leader that stops renewing is believed, in seconds. Kubernetes' own default:
    short enough for a fail-over before providers notice, long enough for a slow API server."""
    renew_seconds: Seconds = 3
    """How often the leader renews, in seconds. A fifth of the duration: four may get lost."""

    @model_validator(mode="after")
    def _renews_in_time(self) -> Self:
        if self.renew_seconds * 2 > self.duration_seconds:
            raise ValueError("renew_seconds must be at most half of duration_seconds")
        return self


class SettlerLeaseSettings(LeaseSettings):
    """Leader election among settlers."""

    # NB: a class of its own, not LeaseSettings(name=…): setting one field would bring back the hub's name.
    name: Label = "fallow-settler"
    """Name of the Lease, in the system namespace."""


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


class AgentWriterSettings(WriterSettings):
    """The provider's write budget on the hub; the hub's priority and fairness enforces it too."""

    in_flight: int = Field(default=16, ge=1, le=1000)
    """Writes under way at once to either API server."""
    per_second: float = Field(default=20, gt=0, le=1000)
    """Writes a second to the hub, sustained. 20 lets 100 providers share one hub."""
    burst: int = Field(default=200, ge=1, le=10_000)
    """Writes that may go out at once after a quiet time."""


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
    """Pause between the first change and the cycle, in seconds, so that one cycle sees many
    changes. 50 ms is below what a person notices."""
    resync_seconds: Seconds = 30
    """Longest time without a cycle, in seconds: what no event announces, such as a time-out,
    is seen by then."""


class ProviderSilenceSettings(Group):
    """When the hub takes a provider for gone. Counted only while the hub's own watch lives."""

    silent_seconds: Seconds = 20
    """After this many seconds without a heartbeat a provider gets no new work."""
    mass_silence_providers: int = Field(default=3, ge=2)
    """With at least this many providers, and more than half of them silent at once, the hub
    suspects itself."""
    mass_silence_window_seconds: Seconds = 30
    """Providers that fall silent within this many seconds count as silent at once."""
    mass_silence_hold_seconds: Seconds = 600
    """How long the hub then releases nothing, in seconds: a partition of the hub must not run
    everything twice."""


class JobSettings(Group):
    """How long finished things stay, and how big a placement may be."""

    ttl_seconds: Seconds = 7 * 86_400
    """A finished ComputeJob is deleted after this many seconds."""
    claim_ttl_seconds: Seconds = 7 * 86_400
    """A settled PaymentClaim is deleted this many seconds past its dispute window."""
    placement_tasks_max: int = Field(default=1024, ge=1, le=1024)
    """Most tasks in one Placement. 1,024 reports of 72 bytes stay far below etcd's 1.5 MiB."""


class SharingSettings(Group):
    """How accounts share what is free."""

    half_life_seconds: Seconds = 7 * 86_400
    """After how long use counts half in fair sharing, in seconds. A week: who filled the fleet over the
    weekend is behind on Monday, not in a month."""
    reservations: int = Field(default=4, ge=0, le=64)
    """How many waiting gangs and large tasks keep nodes for themselves at once. Few: kept nodes take only
    what is over in time."""
    accelerators_per_account: int | None = Field(default=None, ge=0)
    """Most accelerators that the jobs of one account hold at once; no limit by default."""
    accelerators_per_namespace: int | None = Field(default=None, ge=0)
    """Most accelerators that the jobs of one namespace hold at once; no limit by default."""


class HubSettings(CommonSettings):
    """The hub's operator: accepts jobs, schedules them over providers and writes claims."""

    cycle: CycleSettings = CycleSettings()
    lease: LeaseSettings = LeaseSettings()
    silence: ProviderSilenceSettings = ProviderSilenceSettings()
    jobs: JobSettings = JobSettings()
    sharing: SharingSettings = SharingSettings()
    writers: WriterSettings = WriterSettings()


class KeyFileSettings(Group):
    """A key in a file: an encrypted Ethereum keystore (version 3) and its password."""

    keystore: Path | None = None
    """Path of the keystore file."""
    password_file: Path | None = None
    """Path of a file whose first line is the keystore's password."""


class HeartbeatSettings(Group):
    """The Lease by which the hub sees that the agent lives."""

    seconds: float = Field(default=3, ge=2, le=5)
    """Time between renewals in seconds. At 3, six get lost before the hub's 20 s pass."""
    lease_duration_seconds: int = Field(default=20, ge=5, le=300)
    """What the Lease announces, in seconds. A planned restart announces a longer one first."""


class GuestSettings(Group):
    """How guest pods are made on the member."""

    namespace: Label = "fallow-guests"
    """Namespace of all guest pods and GuestSets."""
    priority_class: Label = "fallow-guest"
    """PriorityClass of guest pods: value -1000, so that every owner pod preempts them."""
    node_not_ready_seconds: Seconds = 15
    """A guest on a node that is not ready for this many seconds counts as lost."""
    owner_wait_seconds: Seconds = 2
    """An owner pod that waits longer than this many seconds for an accelerator makes the agent
    vacate a node."""
    outbox_seconds: Seconds = 7 * 86_400
    """A GuestSet is dropped this many seconds after its Placement is gone from the hub."""


class NodeSettings(Group):
    """How the member's nodes are advertised."""

    debounce_seconds: float = Field(default=1, ge=0, le=60)
    """Pause between a change of a node or owner pod and its ProviderNode, in seconds; closing
    does not wait for it."""


class QuoteSettings(Group):
    """The signed Quote."""

    valid_seconds: Seconds = 3600
    """How long a Quote is valid, in seconds; it is renewed at half of that."""


class AgentSettings(CommonSettings):
    """The agent: offers a member's idle capacity to one hub and runs its guests."""

    provider: Label
    """Name of this member at the hub: it may use the hub's namespace provider-NAME only."""
    hub_kubeconfig: Path
    """Path of the kubeconfig for the hub, with credentials that reach this provider's own
    namespace."""
    payee: Address
    """Address that earns. Registered on chain by its own signature before the first payment."""
    signer: KeyFileSettings = KeyFileSettings()
    """The key that signs Quotes and receipts."""
    cycle: CycleSettings = CycleSettings()
    heartbeat: HeartbeatSettings = HeartbeatSettings()
    writes: AgentWriterSettings = AgentWriterSettings()
    guests: GuestSettings = GuestSettings()
    nodes: NodeSettings = NodeSettings()
    quote: QuoteSettings = QuoteSettings()


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


class SettlerSettings(CommonSettings):
    """The settler: turns claims into epochs and settles them. It alone holds the operator key."""

    chain: ChainSettings = ChainSettings()
    epochs: EpochSettings = EpochSettings()
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


class ProbeIdlenessSettings(Group):
    """When a device counts as idle."""

    window_seconds: Seconds = 60
    """A device is idle when nothing ran on it for this many seconds. A minute: longer than the
    pauses of most programs between two steps; how long it must be idle before it is offered is
    the Offer's business."""
    memory_floor_mib: int = Field(default=128, ge=0, le=65_536)
    """MiB in use up to which a device counts as empty. An idle H100 shows 1 to 20, a partitioned
    one up to 80; a CUDA context alone takes over 300."""


class ProbeHealthSettings(Group):
    """When a device counts as healthy."""

    period_seconds: Seconds = 30
    """Time between two looks at error counters, in seconds; error events are taken up at every
    sample. These counters cost the driver more than the others and change seldom."""
    recovery_seconds: Seconds = 600
    """A device that was faulty is healthy again after this many seconds without a fault. Ten
    minutes: a flapping one must not collect guests in between."""
    ignored_xids: Xids = ()
    """XID numbers that do not count against a device, separated by commas, besides 13, 31, 43,
    45, 68 and 109, which are the application's own."""


class ProbeSettings(ProgramSettings):
    """The probe: tells what accelerators a node has, whether they are well and which are idle."""

    node_name: str = Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    """Name of the Node this runs on; a DaemonSet fills it from spec.nodeName."""
    period_seconds: float = Field(default=5, ge=1, le=60)
    """Time between two samples in seconds. 5 is often enough for a window of a minute, and seldom
    enough for under 1 % of a core."""
    look_again_seconds: Seconds = 600
    """How often the own annotation is read back, in seconds, in case somebody removed it."""
    proc: Path = Path("/proc")
    """Where the host's /proc is: processes on devices are explained by it. The probe runs in the
    host's process namespace, so the default is right there."""
    service_account: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount")
    """Directory with token and ca.crt; used where no kubeconfig is set."""
    idle: ProbeIdlenessSettings = ProbeIdlenessSettings()
    health: ProbeHealthSettings = ProbeHealthSettings()

    @model_validator(mode="after")
    def _window_has_samples(self) -> Self:
        if self.idle.window_seconds < self.period_seconds:
            raise ValueError("period_seconds must be at most idle.window_seconds")
        return self


S = TypeVar("S", bound=ProgramSettings)


def parse(program: type[S], arguments: Sequence[str], *, name: str = "fallow") -> tuple[S, list[str]]:
    """Read a program's settings from flags and environment; flags win.

    Returns the settings and warnings, one sentence each, about `FALLOW_` variables that nothing
    reads. `name` is what `--help` calls the program. Raises InvalidSetting with one sentence;
    `--help` prints and exits 0 (argparse's SystemExit).
    """
    try:
        flags: CliSettingsSource[argparse.ArgumentParser] = CliSettingsSource(
            program, cli_prog_name=name, formatter_class=argparse.HelpFormatter
        )
        flags.root_parser.usage = f"{name} [--FLAG VALUE]..."
        settings = program(_cli_settings_source=flags(args=list(arguments)))
    except ValidationError as error:
        raise InvalidSetting(_sentence(program, error)) from None
    except ParserError as error:
        raise InvalidSetting(_parser_sentence(program, str(error))) from None
    return settings, unknown_variables(program, os.environ)


def variables(program: type[BaseModel], prefix: str = ENV_PREFIX) -> list[str]:
    """List all environment variables that `program` reads, groups unfolded."""
    names = []
    for name, field in program.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += variables(field.annotation, f"{prefix}{name.upper()}{NESTED}")
        else:
            names.append(f"{prefix}{name.upper()}")
    return names


def unknown_variables(program: type[ProgramSettings], environment: Mapping[str, str]) -> list[str]:
    """Write one sentence for each `FALLOW_` variable that no program reads, with the nearest name.

    A variable of another program is no mistake: one environment may serve all.
    """
    programs = (HubSettings, AgentSettings, SettlerSettings, ProbeSettings)
    known = {name for each in programs for name in variables(each)}
    groups = {name.rsplit(NESTED, 1)[0] for name in known if NESTED in name}
    sentences = []
    for name in sorted(environment):
        if not name.upper().startswith(ENV_PREFIX) or name.upper() in known | groups:
            continue
        near = difflib.get_close_matches(name.upper(), variables(program) or sorted(known), n=1)
        hint = f": did you mean {near[0]}?" if near else "."
        sentences.append(f"{name} is not a setting of Fallow and is ignored{hint}")
    return sentences


def flag_of(path: Sequence[str]) -> str:
    """Return the flag of a setting: ("payments", "chain_id") → "--payments.chain-id"."""
    return "--" + ".".join(part.replace("_", "-") for part in path)


def variable_of(path: Sequence[str]) -> str:
    """Return the variable of a setting: ("payments", "chain_id") → "FALLOW_PAYMENTS__CHAIN_ID"."""
    return ENV_PREFIX + NESTED.join(part.upper() for part in path)


_PATTERNS = {
    "^0x[0-9a-f]{64}$": "0x and 64 hexadecimal digits",
    "^0x[0-9a-fA-F]{40}$": "0x and 40 hexadecimal digits",
    "^(off|": "host:port or off",
    "^[a-z0-9]([-a-z0-9.]*": "a Node's name",
    "^[a-z0-9](": "at most 63 lower-case letters, digits and dashes, as Kubernetes names are",
}


def _sentence(program: type[ProgramSettings], error: ValidationError) -> str:
    """Say the first problem of a validation as one sentence with flag, variable and what is allowed."""
    problem = error.errors(include_url=False)[0]
    path = [str(part) for part in problem["loc"] if not isinstance(part, int)]
    path = _real_path(program, path)
    where = f"{flag_of(path)} ({variable_of(path)})"
    if problem["type"] == "missing":
        return f"{where} must be set."
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(variable_of(path), variables(program), n=1)
        return f"{where} is not a setting" + (f": did you mean {near[0]}?" if near else ".")
    text = problem["msg"]
    if problem["type"] == "value_error":  # of our own validators; they speak of fields of their group
        said = text.removeprefix("Value error, ")
        first, _, rest = said.partition(" ")
        inner = [*path, first]
        return f"{flag_of(inner)} ({variable_of(inner)}) {rest}."
    allowed = next((said for start, said in _PATTERNS.items() if start in text), None)
    if allowed is None:
        allowed = text.removeprefix("Input should be ").replace("unable to parse string as ", "")
        if problem["type"].endswith("_parsing"):
            allowed = {"int_parsing": "a whole number", "bool_parsing": "true or false"}.get(
                problem["type"], "a number"
            )
    return f"{where} must be {allowed}, not {problem['input']!r}."


def _real_path(program: type[BaseModel], path: Sequence[str]) -> list[str]:
    """Drop what pydantic adds to a location that is no field (branches of unions)."""
    real: list[str] = []
    model: type[BaseModel] | None = program
    for part in path:
        if model is None:
            break
        real.append(part)
        field = model.model_fields.get(part)
        inner = field.annotation if field else None
        model = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None
    return real


def _parser_sentence(program: type[ProgramSettings], text: str) -> str:
    """Say what argparse says, with the nearest flag where one is unknown."""
    said = text.removeprefix("error parsing CLI: ")
    unknown = re.search(r"unrecognized arguments: (\S+)", said)
    if unknown is None:
        return said.rstrip(".") + "."
    flag = unknown[1].split("=")[0]
    flags = [flag_of(name.removeprefix(ENV_PREFIX).lower().split(NESTED)) for name in variables(program)]
    near = difflib.get_close_matches(flag, flags, n=1)
    return f"{flag} is not a flag" + (f": did you mean {near[0]}?" if near else "; see --help.")
