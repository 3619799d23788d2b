"""Settings of `fallow agent`."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from fallow.settings.base import (
    Address,
    CommonSettings,
    CycleSettings,
    Group,
    KeyFileSettings,
    Label,
    LeaseSettings,
    Seconds,
    WriterSettings,
)
from fallow.settings.of_invite import OfInvite


class AgentWriterSettings(WriterSettings):
    """The provider's write budget on the hub; the hub's priority and fairness enforces it too."""

    in_flight: int = Field(default=16, ge=1, le=1000)
    """Writes under way at once to the hub."""
    per_second: float = Field(default=20, gt=0, le=1000)
    """Writes a second to the hub, sustained. 20 lets 100 providers share one hub."""
    burst: int = Field(default=200, ge=1, le=10_000)
    """Writes that may go out at once after a quiet time."""


class AgentLeaseSettings(LeaseSettings):
    """Leader election among agents of one member."""

    name: Label = "fallow-agent"
    """Name of the Lease, in the system namespace."""
    duration_seconds: Seconds = 60
    """How long an agent that stops renewing is believed, in seconds. A minute: an API server that is
    away for less must not end the agent. One that starts where the last one died need not wait."""
    renew_seconds: Seconds = 5
    """How often the agent renews, in seconds."""


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


class CanarySettings(Group):
    """The canary guests that prove the cage before anything is offered."""

    image: str = Field(default="", max_length=512)
    """Image of canary guests: the agent's own. Without one no check of the cage can be proven; the owner
    can still waive checks by name."""
    hours: float = Field(default=6, gt=0, le=720)
    """A proof is made again after this many hours; a change of the agent's version or of the egress in
    the Offer wants another one at once."""


class NodeSettings(Group):
    """How the member's nodes are advertised."""

    debounce_seconds: float = Field(default=1, ge=0, le=60)
    """Pause between a change of a node or owner pod and its ProviderNode, in seconds; closing
    does not wait for it."""


class QuoteSettings(Group):
    """The signed Quote."""

    valid_seconds: Seconds = 3600
    """How long a Quote is valid, in seconds; it is renewed at half of that."""


class AgentChainSettings(Group):
    """How the agent asks payers that are contracts (EIP-1271); for nothing else does it need the chain."""

    rpc_url: str | None = Field(default=None, exclude=True, repr=False)
    """Address of an Ethereum JSON-RPC end point that the owner trusts. Without one the Offer decides
    whether to trust the hub. Never logged: many carry a key."""
    rpc_timeout_seconds: Seconds = 5
    """Longest wait for one answer, in seconds."""
    patience_seconds: Seconds = 20
    """How long a placement waits for a usable answer before it is handed back, in seconds."""


class AgentJoinSettings(Group):
    """How the agent gets into the hub by an invite."""

    invite_file: Path | None = None
    """Path of the invite that the hub's admin sent. It brings hub-id, provider and payments too;
    what is set besides counts more."""
    identity_secret: Label = "fallow-agent-identity"  # noqa: S105 - a name
    """Name of the Secret, in the system namespace of this cluster, where the agent keeps its key
    and the hub's token. Back it up: without it a rejoin is needed."""


class AgentSettings(CommonSettings):
    """The agent: offers a member's idle capacity to one hub and runs its guests."""

    provider: Label
    """Name of this member at the hub: it may use the hub's namespace provider-NAME only."""
    hub_kubeconfig: Path | None = None
    """Path of a kubeconfig for the hub, with credentials that reach this provider's own namespace;
    not needed with an invite."""
    join: AgentJoinSettings = AgentJoinSettings()
    payee: Address
    """Address that earns. Registered on chain by its own signature before the first payment."""
    signer: KeyFileSettings = KeyFileSettings()
    """The key that signs Quotes and receipts."""
    cycle: CycleSettings = CycleSettings()
    lease: AgentLeaseSettings = AgentLeaseSettings()
    heartbeat: HeartbeatSettings = HeartbeatSettings()
    writes: AgentWriterSettings = AgentWriterSettings()
    guests: GuestSettings = GuestSettings()
    canary: CanarySettings = CanarySettings()
    nodes: NodeSettings = NodeSettings()
    quote: QuoteSettings = QuoteSettings()
    chain: AgentChainSettings = AgentChainSettings()

    @model_validator(mode="after")
    def _has_a_way_in(self) -> Self:
        if self.hub_kubeconfig is None and self.join.invite_file is None:
            raise ValueError("hub_kubeconfig must be set, or --join.invite-file instead")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the invite last."""
        return init_settings, env_settings, OfInvite(settings_cls)
