"""Providers in the cycle: judged when something happened to them, reported every few seconds."""

from __future__ import annotations

from datetime import UTC, datetime

import structlog

from fallow.hub import provider_status
from fallow.hub.carrying import provider_key
from fallow.hub.desk import Desk
from fallow.hub.placements import JSON, payee_of
from fallow.hub.providers import Hearing, read_quote, standing
from fallow.hub.staleness import NEVER_HEARD
from fallow.hub.view import AGENT_LEASE
from fallow.kube.compare_and_set import merge_patch
from fallow.resources.naming import provider_namespace

log = structlog.get_logger(__name__)

STATUS_SECONDS = 3.0
"""A Provider's counters follow at most this often. Its conditions are written as soon as they change."""


class Supply:
    """Where each provider stands."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._written_at: dict[str, float] = {}

    def judge(self, name: str) -> None:
        """Work out anew where a provider stands."""
        desk, memory = self._desk, self._desk.memory
        provider = desk.view.providers.get(name)
        if provider is None:
            memory.standings.pop(name, None)
            memory.terms.pop(name, None)
            desk.staleness.forget(name)
            desk.flapping.forget(name)
            return
        namespace = provider_namespace(name)
        lease = desk.view.leases.get(AGENT_LEASE, namespace=namespace)
        if lease is None:  # counted from now: an agent that never comes is silent after a while
            desk.staleness.heard(name, NEVER_HEARD)
        quote = desk.quote_of(name)
        if quote is None:
            memory.terms.pop(name, None)
        elif name not in memory.terms or memory.terms[name].version != quote["metadata"]["resourceVersion"]:
            memory.terms[name] = read_quote(quote, domain=desk.domain)
        before = memory.standings.get(name)
        after = memory.standings[name] = standing(
            provider,
            memory.terms.get(name),
            self._hearing(name, lease),
            now=desk.clock.unix(),
            payee_unregistered=desk.view.unregistered_payees.get(namespace, 0) > 0,
            suspicious=desk.staleness.suspects_itself(),
        )
        if before is None or before.refuses != after.refuses:
            log.info("provider", provider=name, schedulable=not after.refuses, reason=after.refuses)

    def _hearing(self, name: str, lease: JSON | None) -> Hearing:
        desk, now = self._desk, self._desk.clock.monotonic()
        left = desk.flapping.backs_off(name, now)
        if left:
            desk.memory.later_providers.setdefault(name, now + left)
        return Hearing(
            seen=lease is not None,
            silent=desk.staleness.silent(name),
            flapped=desk.flapping.times(name, now) if left else 0,
        )

    def report(self, name: str, now: float) -> bool:
        """Write a provider's status where it differs, but not too often. `now` is monotonic.

        False when too many writes wait already: come again.
        """
        desk = self._desk
        provider, known = desk.view.providers.get(name), desk.memory.standings.get(name)
        if provider is None or known is None:
            self._written_at.pop(name, None)
            return True
        if desk.carrier.busy(provider_key(name)):
            return True  # looked at again when that write is answered
        if desk.carrier.crowded:
            return False
        lease = desk.view.leases.get(AGENT_LEASE, namespace=provider_namespace(name))
        renewed = (lease or {}).get("spec", {}).get("renewTime")
        status = provider_status.status_of(
            provider,
            known,
            desk.view.nodes_of(name),
            desk.view.holdings,
            earned=desk.view.earned[payee_of(provider)],
            waiting=desk.view.waiting[name],
            decimals=desk.decimals,
            last_contact=datetime.fromisoformat(renewed) if renewed else None,
            now=datetime.fromtimestamp(desk.clock.unix(), UTC),
            record=desk.records.next_record(
                name,
                provider.get("status") or {},
                is_there=lambda counted: self._is_there(counted, provider=name),
            ),
        )
        before = provider.get("status") or {}
        if merge_patch(before, status):
            due = self._written_at.get(name, float("-inf")) + STATUS_SECONDS
            if now < due and _stands(before) == _stands(status):
                desk.memory.later_providers[name] = due
                return True
            self._written_at[name] = now
            desk.records.told(name)
            desk.carrier.provider_status(provider, status)
        return True

    def _is_there(self, counted: str, *, provider: str) -> bool:
        """Return whether a placement that a record names still exists; see `records.Records.counted`."""
        placement, _, elsewhere = counted.partition(".")
        namespace = provider_namespace(elsewhere or provider)
        return self._desk.view.placements.get(placement, namespace=namespace) is not None


def _stands(status: JSON) -> list[tuple[str, str, str]]:
    """Return what a status says of where a provider stands: type, status and reason of each condition."""
    return [(one["type"], one["status"], one["reason"]) for one in status.get("conditions") or ()]
