"""Every setting of the programs: one tree of small typed groups, parsed in one place.

Each field's docstring says what it is, in which unit, and why the default is what it is; `--help`
prints the same text. A field is set by a flag (`--payments.mode`) or a variable
(`FALLOW_PAYMENTS__MODE`: two underscores step into a group); the flag wins. `parse` is the only
reader of either. Secrets are never values here, only paths of files: an environment is readable
by too many.
"""

from fallow.settings.agent import (
    AgentChainSettings,
    AgentJoinSettings,
    AgentLeaseSettings,
    AgentSettings,
    AgentWriterSettings,
    CanarySettings,
    GuestSettings,
    HeartbeatSettings,
    NodeSettings,
    QuoteSettings,
)
from fallow.settings.base import (
    ENV_PREFIX,
    NESTED,
    CommonSettings,
    CycleSettings,
    Group,
    KeyFileSettings,
    LeaseSettings,
    PaymentsSettings,
    ProgramSettings,
    WatchSettings,
    WriterSettings,
)
from fallow.settings.hub import (
    HubSettings,
    JobSettings,
    JoinSettings,
    PreemptionSettings,
    ProviderSilenceSettings,
    SharingSettings,
    SlownessSettings,
    TrustSettings,
    VerificationSettings,
)
from fallow.settings.parsing import flag_of, parse, unknown_variables, variable_of, variables
from fallow.settings.probe import ProbeHealthSettings, ProbeIdlenessSettings, ProbeSettings
from fallow.settings.settler import (
    ChainSettings,
    EpochSettings,
    RemoteSignerSettings,
    S3Settings,
    SettlerLeaseSettings,
    SettlerSettings,
)

__all__ = [
    "ENV_PREFIX",
    "NESTED",
    "AgentChainSettings",
    "AgentJoinSettings",
    "AgentLeaseSettings",
    "AgentSettings",
    "AgentWriterSettings",
    "CanarySettings",
    "ChainSettings",
    "CommonSettings",
    "CycleSettings",
    "EpochSettings",
    "Group",
    "GuestSettings",
    "HeartbeatSettings",
    "HubSettings",
    "JobSettings",
    "JoinSettings",
    "KeyFileSettings",
    "LeaseSettings",
    "NodeSettings",
    "PaymentsSettings",
    "PreemptionSettings",
    "ProbeHealthSettings",
    "ProbeIdlenessSettings",
    "ProbeSettings",
    "ProgramSettings",
    "ProviderSilenceSettings",
    "QuoteSettings",
    "RemoteSignerSettings",
    "S3Settings",
    "SettlerLeaseSettings",
    "SettlerSettings",
    "SharingSettings",
    "SlownessSettings",
    "TrustSettings",
    "VerificationSettings",
    "WatchSettings",
    "WriterSettings",
    "flag_of",
    "parse",
    "unknown_variables",
    "variable_of",
    "variables",
]
