"""The agent's parts, put together: from two connections, views and writers to one cycle."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from fallow.agent.attending import Attending
from fallow.agent.books import Books
from fallow.agent.canaries import Canaries
from fallow.agent.contract_payers import ContractPayers
from fallow.agent.cycle import Cycle
from fallow.agent.gangs import GangWrites
from fallow.agent.heartbeat import HubPulse
from fallow.agent.last_lines import LastLines
from fallow.agent.network import NetworkWrites
from fallow.agent.owner import OwnerReport
from fallow.agent.pod_writes import PodWrites
from fallow.agent.policy import Policy
from fallow.agent.quoting import Identity
from fallow.agent.record_writes import RecordWrites
from fallow.agent.supply import Supply
from fallow.agent.views import HubViews, MemberViews
from fallow.kube.client import ApiServer
from fallow.kube.writers import Writers
from fallow.resources import naming
from fallow.settings import AgentSettings
from fallow.telemetry import Telemetry


@dataclass(frozen=True, slots=True, kw_only=True)
class Connections:
    """Both API servers, what is seen of them, and who asks."""

    settings: AgentSettings
    identity: Identity
    telemetry: Telemetry
    member: ApiServer
    hub: ApiServer
    member_views: MemberViews
    hub_views: HubViews
    pulse: HubPulse
    now: Callable[[], datetime]
    wake: Callable[[], None]
    """Has the next cycle run soon."""


def wired(to: Connections, to_member: Writers, to_hub: Writers) -> Cycle:
    """Return a cycle that reads from these connections and writes through these writers."""
    settings, wake = to.settings, to.wake
    records = RecordWrites(
        member=to.member,
        member_writers=to_member,
        member_views=to.member_views,
        hub=to.hub,
        hub_writers=to_hub,
        hub_views=to.hub_views,
        namespace=settings.guests.namespace,
        key=to.identity.key,
        now=to.now,
        last_lines=LastLines(to.member, namespace=settings.guests.namespace, monotonic=time.monotonic),
        wake=wake,
    )
    supply = Supply(
        to.hub,
        to_hub,
        to.hub_views,
        namespace=naming.provider_namespace(settings.provider),
        identity=to.identity,
        valid_seconds=settings.quote.valid_seconds,
        debounce_seconds=settings.nodes.debounce_seconds,
        now=to.now,
        monotonic=time.monotonic,
        wake=wake,
    )
    owner = OwnerReport(
        to.member,
        to_member,
        to.member_views,
        to.hub_views,
        telemetry=to.telemetry,
        last_contact=lambda: to.pulse.last_contact,
        hub_problem=to.pulse.problem,
        monotonic=time.monotonic,
        wake=wake,
    )
    attending = Attending(
        settings=settings,
        identity=to.identity,
        member=to.member_views,
        hub=to.hub_views,
        books=Books(),
        pods=PodWrites(to.member, to_member, to.member_views, wake=wake),
        gangs=GangWrites(to.member, to_member, namespace=settings.guests.namespace, wake=wake),
        records=records,
        owner=owner,
        contract_payers=ContractPayers(
            settings.chain,
            chain_id=settings.payments.chain_id,
            wake=wake,
            monotonic=time.monotonic,
        ),
        now=to.now,
        monotonic=time.monotonic,
    )
    policy = Policy(
        settings=settings,
        token_decimals=to.identity.token_decimals,
        member=to.member_views,
        hub=to.hub_views,
        owner=owner,
        canaries=Canaries(
            to.member,
            to_member,
            to.member_views,
            settings=settings.canary,
            guests=settings.guests,
            wake=wake,
        ),
        monotonic=time.monotonic,
    )
    return Cycle(
        settings=settings,
        member=to.member_views,
        hub=to.hub_views,
        policy=policy,
        attending=attending,
        network=NetworkWrites(
            to.member,
            to_member,
            namespace=settings.guests.namespace,
            monotonic=time.monotonic,
            wake=wake,
        ),
        supply=supply,
        owner=owner,
        now=to.now,
    )
