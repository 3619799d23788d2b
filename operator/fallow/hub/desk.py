"""What all parts of the cycle work with: the view, the writers, the clocks, and what this process remembers.

All that is remembered can be derived again from the API server, but for observations (when something was
first seen, who was silent): a restart forgets those, and that is meant so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from fallow.hub.carrying import Carrier
from fallow.hub.flapping import Flapping
from fallow.hub.jobs import JobRecord
from fallow.hub.placements import JSON, Placed
from fallow.hub.providers import Standing, Terms
from fallow.hub.records import Records
from fallow.hub.staleness import Staleness
from fallow.hub.view import HubView
from fallow.receipts.typed_data import Domain
from fallow.receipts.words import from_hex
from fallow.resources.naming import provider_namespace
from fallow.resources.quote import QUOTE_NAME
from fallow.settings import HubSettings


@dataclass(frozen=True, slots=True)
class Clock:
    """The two clocks that decisions need, injected."""

    monotonic: Callable[[], float]
    unix: Callable[[], int]


@dataclass(slots=True)
class Memory:
    """What this process remembers between cycles."""

    records: dict[str, JobRecord] = field(default_factory=dict)
    """By job UID."""
    waiting: set[str] = field(default_factory=set)
    """Jobs with tasks to place."""
    standings: dict[str, Standing] = field(default_factory=dict)
    """By provider."""
    terms: dict[str, Terms] = field(default_factory=dict)
    """Quotes as read, by provider."""
    gone: set[str] = field(default_factory=set)
    """Jobs of which the API server has confirmed that they are gone."""
    first_running: dict[str, int] = field(default_factory=dict)
    """When a placement (by UID) was first seen to run, in Unix seconds."""
    first_finished: dict[str, int] = field(default_factory=dict)
    unstartable: set[str] = field(default_factory=set)
    """Placements (by UID) that made their job keep off the provider."""
    receipts: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By placement UID: the version whose receipt was checked, and what is wrong with it."""
    results_written: set[str] = field(default_factory=set)
    """Placements (by UID) whose inline results are in their job's namespace."""
    asked_since: dict[str, float] = field(default_factory=dict)
    """Since when (monotonic) a replicated placement (by UID) owes results that it was asked for."""
    later_jobs: dict[str, float] = field(default_factory=dict)
    """Jobs whose status was put off, and until when (monotonic)."""
    later_providers: dict[str, float] = field(default_factory=dict)

    def forget_placement(self, uid: str) -> None:
        """Drop what is remembered of a placement that is being deleted."""
        self.first_running.pop(uid, None)
        self.first_finished.pop(uid, None)
        self.receipts.pop(uid, None)
        self.unstartable.discard(uid)
        self.asked_since.pop(uid, None)
        self.results_written.discard(uid)


class Desk:
    """Bundles what the parts of the cycle share."""

    def __init__(
        self,
        view: HubView,
        carrier: Carrier,
        staleness: Staleness,
        settings: HubSettings,
        *,
        clock: Clock,
        term: Callable[[], int],
        watching: Callable[[], bool],
    ) -> None:
        self.view = view
        self.carrier = carrier
        self.staleness = staleness
        self.settings = settings
        self.clock = clock
        self.term = term
        """The leader's term, for what is created."""
        self.watching = watching
        """Whether the watch on heartbeats lives: only then is silence silence."""
        self.memory = Memory()
        self.flapping = Flapping()
        self.records = Records()
        self.decimals = settings.payments.token_decimals
        self.domain = Domain(
            chain_id=settings.payments.chain_id,
            escrow=settings.payments.escrow,
            hub_id=from_hex(settings.hub_id),
        )

    def account_of(self, job: JSON, record: JobRecord) -> JSON | None:
        """Return the Account that a job names."""
        assert record.wish.spec is not None
        name = record.wish.spec.account_ref.name
        return self.view.accounts.get(name, namespace=job["metadata"]["namespace"])

    def quote_of(self, provider: str) -> JSON | None:
        """Return a provider's Quote object."""
        return self.view.quotes.get(QUOTE_NAME, namespace=provider_namespace(provider))

    def object_of(self, placed: Placed) -> JSON | None:
        """Return the Placement object that was read as `placed`."""
        return self.view.placements.get(placed.name, namespace=placed.namespace)

    def is_removed(self, provider: str) -> bool:
        """Return whether a provider's work must go elsewhere for good."""
        known = self.memory.standings.get(provider)
        return self.view.providers.get(provider) is None or (known is not None and known.removed)


def has_condition(obj: JSON, type_: str) -> bool:
    """Return whether a condition of an object is True."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return any(one["type"] == type_ and one["status"] == "True" for one in conditions)
