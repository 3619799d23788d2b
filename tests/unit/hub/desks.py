"""A desk without a server: what the cycle would write is kept, and answered when a test says so."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from fallow.hub.carrying import Carrier, claim_key, job_key, placement_key, provider_key
from fallow.hub.desk import Clock, Desk
from fallow.hub.openings import fingerprint
from fallow.hub.placements import Placed
from fallow.hub.staleness import Staleness
from fallow.hub.view import HubView
from fallow.receipts.statements import timestamp
from fallow.resources.quote import AcceleratorPrice, Prices
from fallow.resources.ranges import IndexRanges
from fallow.settings import HubSettings
from unit.hub.builders import CREATED, CREATED_UNIX, GPU
from unit.hub.test_hub_providers import a_provider, a_quote

JSON = dict[str, Any]
PAYER = "0x" + 40 * "a"


class Outbox(Carrier):
    """Keeps writes instead of sending them. `under_way` are the keys whose answer has not come."""

    crowded = False

    def __init__(self) -> None:
        self.under_way: set[Hashable] = set()
        self.jobs: list[JSON] = []
        self.providers: list[JSON] = []
        self.placements: list[JSON] = []
        self.claims: list[JSON] = []
        self.deleted: list[str] = []
        self.samples: list[JSON] = []
        self.sampled: list[Callable[[], None]] = []
        self.of_provider: dict[str, JSON] = {}
        self.changes: list[tuple[Placed, JSON]] = []
        """What is to change in placements' specs."""

    def busy(self, key: Hashable) -> bool:
        return key in self.under_way

    writing = busy

    @property
    def load(self) -> int:
        return len(self.under_way)

    def job_status(self, job: JSON, status: JSON, *, urgent: bool) -> None:
        self.under_way.add(job_key(job["metadata"]["uid"]))
        self.jobs.append(status)

    def provider_status(self, provider: JSON, status: JSON) -> None:
        self.under_way.add(provider_key(provider["metadata"]["name"]))
        self.providers.append(status)
        self.of_provider[provider["metadata"]["name"]] = status

    def create_placement(self, obj: JSON) -> None:
        self.placements.append(obj)

    def create_claim(self, claim: JSON, *, job_uid: str) -> None:
        self.under_way.add(claim_key(claim["spec"]["placement"]["uid"]))
        self.claims.append(claim)

    def delete_claim(self, claim: JSON) -> None:
        self.deleted.append(claim["metadata"]["name"])

    def delete_job(self, job: JSON) -> None:
        self.deleted.append(job["metadata"]["name"])

    def create_sample(self, sample: JSON, *, for_job: str, done_for: Callable[[], None]) -> None:
        self.samples.append(sample)
        self.sampled.append(done_for)

    def reveal(self, placed: Placed, tasks: IndexRanges) -> None:
        asked = placed.asked | tasks
        self._changes(placed, {"reveal": str(asked), "commitments": fingerprint(placed.ended, asked)})

    def stop(self, placed: Placed, *, reason: str) -> None:
        self._changes(placed, {"desired": "Stop", "stopReason": reason})

    def preempt(self, placed: Placed, tasks: IndexRanges) -> None:
        self._changes(placed, {"preempted": str(placed.preempted | tasks)})

    def release(self, placed: Placed, tasks: IndexRanges, *, still: Callable[[], bool]) -> None:
        self._changes(placed, {"released": str(placed.released | tasks)})

    def _changes(self, placed: Placed, change: JSON) -> None:
        self.under_way.add(placement_key(placed))
        self.changes.append((placed, change))

    def delete_placement(self, placed: Placed) -> None:
        self.under_way.add(placement_key(placed))
        self.deleted.append(placed.name)


class Time:
    """Both clocks, moved by the test."""

    def __init__(self) -> None:
        self.passed = 0.0

    def clock(self) -> Clock:
        return Clock(monotonic=lambda: 1000.0 + self.passed, unix=lambda: CREATED_UNIX + int(self.passed))


def a_desk(*, watching: Callable[[], bool] = lambda: True) -> tuple[Desk, Outbox, Time]:
    """Return a desk with an empty view, its outbox and its time."""
    outbox, time, staleness = Outbox(), Time(), Staleness()
    view = HubView(
        decimals=6,
        on_lease=lambda lease: staleness.heard(
            lease["metadata"]["namespace"].removeprefix("provider-"), lease["metadata"]["resourceVersion"]
        ),
    )
    settings = HubSettings(hub_id="0x" + bytes(32).hex())
    desk = Desk(view, outbox, staleness, settings, clock=time.clock(), term=lambda: 1, watching=watching)
    return desk, outbox, time


def answer(desk: Desk, outbox: Outbox, obj: JSON, status: JSON, *, key: Hashable, view: str) -> JSON:
    """Answer a status write: the object with that status enters the view at its next version."""
    outbox.under_way.discard(key)
    version = str(int(obj["metadata"]["resourceVersion"]) + 1)
    after = {**obj, "metadata": {**obj["metadata"], "resourceVersion": version}, "status": status}
    getattr(desk.view, view).apply(after)
    return after


def an_account() -> JSON:
    conditions = [{"type": kind, "status": "True", "reason": "Test"} for kind in ("Bound", "Funded")]
    return {
        "metadata": {"name": "default", "namespace": "default", "uid": "a", "resourceVersion": "1"},
        "spec": {"payer": PAYER},
        "status": {"balance": "1000", "observedBlock": 1, "conditions": conditions},
    }


def a_lease(version: str = "1") -> JSON:
    meta = {"name": "agent", "namespace": "provider-aurora", "uid": "l", "resourceVersion": version}
    return {"metadata": meta, "spec": {"leaseDurationSeconds": 20, "renewTime": CREATED}}


def furnish(desk: Desk) -> JSON:
    """Put one provider with a node of eight accelerators and a funded account in view."""
    view = desk.view
    provider = a_provider()
    provider["metadata"] |= {"uid": "p", "resourceVersion": "1", "generation": 1}
    view.providers.apply(provider)
    prices = Prices(accelerators=(AcceleratorPrice(price_per_hour="2"),))
    until = timestamp(CREATED_UNIX + 3600)
    quote = a_quote(prices=prices, image_patterns=("*",), accounts_allowed=("*",), valid_until=until)
    quote["metadata"] |= {"name": "quote", "namespace": "provider-aurora", "uid": "q"}
    view.quotes.apply(quote)
    view.nodes.apply(
        {
            "metadata": {"name": "n0", "namespace": "provider-aurora", "uid": "n0", "resourceVersion": "1"},
            "spec": {
                "nodeName": "n0",
                "product": "H100",
                "offerable": {
                    "cpuMillicores": 64_000,
                    "memoryMiB": 64_000,
                    "ephemeralStorageMiB": 64_000,
                    "pods": 10,
                    "accelerators": {GPU: 8},
                },
            },
        }
    )
    view.leases.apply(a_lease())
    view.accounts.apply(an_account())
    return provider
