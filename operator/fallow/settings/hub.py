"""Settings of `fallow hub`."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from fallow.settings.base import (
    CommonSettings,
    CycleSettings,
    Group,
    Label,
    LeaseSettings,
    Listen,
    Seconds,
    WriterSettings,
)


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
    interval_seconds_min: int = Field(default=60, ge=5, le=86_400)
    """Shortest interval that a job with interval billing may ask for, in seconds. Each costs a
    signature and two writes per placement; a minute lost is cheap."""
    interval_claim_seconds: Seconds = 3600
    """How often elapsed intervals of a placement that still runs are claimed, in seconds. An hour:
    a claim costs an object, and what is signed is safe until then."""


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


class PreemptionSettings(Group):
    """Whether guests of lower priority give way. Off: priorities are the submitters' own words."""

    enabled: bool = False
    """Whether a job that finds no room may end tasks of jobs with a lower priority."""
    tasks_per_account_per_hour: int = Field(default=64, ge=0)
    """Most running tasks that one account loses to preemption in an hour. The account pays for what they
    ran: this bounds what others' priorities cost it."""


class SlownessSettings(Group):
    """Whether the last tasks of a job are moved off a slow place. What they ran there is not paid."""

    enabled: bool = False
    """Off: owners are not paid for what is taken away from them, so whoever runs the hub has to want it."""
    factor: float = Field(default=2.0, ge=1)
    """A task is slow once it has run for this many times what the job's tasks usually take."""
    least_seconds: Seconds = 60
    """And for at least this many seconds."""


class TrustSettings(Group):
    """How much work a provider gets of which nobody knows yet whether it runs what it is paid for."""

    new_provider_slots: int | None = Field(default=None, ge=1)
    """Most slots of a new provider in use at once; no limit by default."""
    agreed_results: int = Field(default=20, ge=1)
    """A provider is new until so many of its results agreed with other owners' and none lately did not,"""
    settled_amount: str = "100"
    """or until so much was settled to its payee, in the token's units."""
    sample_share: float = Field(default=0, ge=0, le=1)
    """Share of new providers' tasks that run once more elsewhere, to compare results. The hub admin pays."""
    sample_namespace: Label = "fallow-samples"
    """Namespace of these samples, with an Account `default`; the hub must be allowed to create jobs there."""


class VerificationSettings(Group):
    """Replicated tasks: copies by distinct owners whose results are compared."""

    extra_copies: int = Field(default=2, ge=0, le=4)
    """Most further copies of a task whose copies disagree. 2: two liars among four copies are outvoted by
    the third honest one, and a task that gives another result each time costs no more than that."""


class JoinSettings(Group):
    """The door at which agents answer invites and renew their tokens (docs/joining.md)."""

    address: Listen = "off"
    """host:port where joining is served over TLS; off where credentials are made by hand."""
    url: str = Field(default="", pattern=r"^(https://[^\s/?#]+)?$")
    """How agents reach that address from their clusters, such as https://join.hub.example:8443. In
    every invite."""
    api_server: str = Field(default="", pattern=r"^(https://[^\s/?#]+)?$")
    """How agents reach this cluster's API server, such as https://api.hub.example:6443."""
    api_server_authority: Path | None = None
    """Path of the PEM by which agents know the API server; None where its certificate is one that
    every system believes."""
    token_seconds: int = Field(default=43_200, ge=600, le=86_400)
    """How long a token lasts, in seconds; agents renew at half of it. Twelve hours: a hub away for
    a night costs nobody a token, and a stolen one is soon worthless."""
    certificate: Path | None = None
    """Path of the door's certificate (PEM); without the three paths the hub makes an authority of
    its own, in a Secret."""
    private_key: Path | None = None
    """Path of the certificate's key (PEM)."""
    authority: Path | None = None
    """Path of the authority that signed it (PEM), which invites pin."""

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.address != "off":
            for name in ("url", "api_server"):
                if not getattr(self, name):
                    raise ValueError(f"{name} must be set when joining is served")
        paths = (self.certificate, self.private_key, self.authority)
        if any(paths) and not all(paths):
            raise ValueError("certificate must be set together with private_key and authority")
        return self


class HubSettings(CommonSettings):
    """The hub's operator: accepts jobs, schedules them over providers and writes claims."""

    cycle: CycleSettings = CycleSettings()
    lease: LeaseSettings = LeaseSettings()
    silence: ProviderSilenceSettings = ProviderSilenceSettings()
    jobs: JobSettings = JobSettings()
    sharing: SharingSettings = SharingSettings()
    verification: VerificationSettings = VerificationSettings()
    preemption: PreemptionSettings = PreemptionSettings()
    slowness: SlownessSettings = SlownessSettings()
    trust: TrustSettings = TrustSettings()
    join: JoinSettings = JoinSettings()
    writers: WriterSettings = WriterSettings()
