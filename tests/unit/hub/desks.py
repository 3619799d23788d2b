"""A desk without a server: what the cycle would write is kept, and answered when a test says so."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from fallow.hub.carrying import Carrier, claim_key, job_key, placement_key, provider_key
from fallow.hub.desk import Clock, Desk
from fallow.hub.placements import Placed
from fallow.hub.staleness import Staleness
from fallow.hub.view import HubView
from fallow.settings import HubSettings
from unit.hub.builders import CREATED_UNIX

JSON = dict[str, Any]


class Outbox(Carrier):
    """Keeps writes instead of sending them. `under_way` are the keys whose answer has not come."""

    def __init__(self) -> None:
        self.under_way: set[Hashable] = set()
        self.jobs: list[JSON] = []
        self.providers: list[JSON] = []
        self.placements: list[JSON] = []
        self.claims: list[JSON] = []
        self.deleted: list[str] = []

    def busy(self, key: Hashable) -> bool:
        return key in self.under_way

    writing = busy

    def job_status(self, job: JSON, status: JSON, *, urgent: bool) -> None:
        self.under_way.add(job_key(job["metadata"]["uid"]))
        self.jobs.append(status)

    def provider_status(self, provider: JSON, status: JSON) -> None:
        self.under_way.add(provider_key(provider["metadata"]["name"]))
        self.providers.append(status)

    def create_placement(self, obj: JSON) -> None:
        self.placements.append(obj)

    def create_claim(self, claim: JSON, *, job_uid: str) -> None:
        self.under_way.add(claim_key(claim["spec"]["placement"]["uid"]))
        self.claims.append(claim)

    def delete_claim(self, claim: JSON) -> None:
        self.deleted.append(claim["metadata"]["name"])

    def delete_job(self, job: JSON) -> None:
        self.deleted.append(job["metadata"]["name"])

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
