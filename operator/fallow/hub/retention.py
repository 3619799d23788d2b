"""What is deleted, and when: settled claims and finished jobs, each some days after nobody waits for them.

Time alone announces nothing, so all of it is looked at in turns: a part in every cycle, everything once per
round, and no cycle has to carry ten thousand at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Generic, TypeVar

from fallow.hub.carrying import claim_key
from fallow.hub.desk import Desk, has_condition
from fallow.hub.placements import JSON
from fallow.hub.slices import Slices
from fallow.kube.conditions import find

Item = TypeVar("Item")


class Turns(Generic[Item]):
    """Deals everything out over a round of `seconds`, each thing once per round."""

    def __init__(self, everything: Callable[[], Iterable[Item]], *, seconds: float) -> None:
        self._everything = everything
        self._seconds = seconds
        self._round: list[Item] = []
        self._began: float | None = None
        self._dealt = 0

    def due(self, now: float) -> list[Item]:
        """Return what has come up by the monotonic time `now`; the first call returns everything."""
        if self._began is None:
            self._start(now)
            return list(self._everything())
        share = min(1.0, (now - self._began) / self._seconds)
        first, self._dealt = self._dealt, int(len(self._round) * share)
        dealt = self._round[first : self._dealt]
        if share >= 1.0:
            self._start(now)
        return dealt

    def _start(self, now: float) -> None:
        self._round = list(self._everything())
        self._began = now
        self._dealt = 0


class Retention:
    """Deletes claims whose time is over."""

    def __init__(self, desk: Desk, *, round_seconds: float) -> None:
        self._desk = desk
        self._turns = Turns(lambda: desk.view.claims.values(), seconds=round_seconds)

    def look(self, now: float) -> Slices[None]:
        """Look at the claims whose turn it is. `now` is monotonic."""
        for claim in self._turns.due(now):
            yield None
            if self._is_over(claim):
                self._desk.carrier.delete_claim(claim)

    def _is_over(self, claim: JSON) -> bool:
        status = claim.get("status") or {}
        settled = find(status.get("conditions"), "Settled")
        if status.get("state") != "Settled" or settled is None or settled["status"] != "True":
            return False
        disputed = find(status.get("conditions"), "Disputed")
        if disputed is not None and disputed["status"] == "True":
            return False  # how it ended is told on it
        since = self._desk.clock.unix() - datetime.fromisoformat(settled["lastTransitionTime"]).timestamp()
        if since < self._desk.settings.jobs.claim_ttl_seconds:
            return False
        if self._desk.carrier.busy(claim_key(claim["spec"]["placement"]["uid"])):
            return False
        of_job = self._desk.view.placed.get(claim["spec"]["job"]["uid"], {})
        if any(one.uid == claim["spec"]["placement"]["uid"] for one in of_job.values()):
            return False  # the placement's next claim begins where this one ends
        # NB: a job that has not settled still counts its claims.
        job = self._desk.view.jobs_by_uid.get(claim["spec"]["job"]["uid"])
        return job is None or has_condition(job, "Settled")
