"""Gives waiting jobs to the scheduler and carries out what it decides."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import structlog

from fallow.hub import manifests, replication, snapshots
from fallow.hub.asking import Asked
from fallow.hub.carrying import job_key
from fallow.hub.desk import Desk
from fallow.hub.jobs import UNRESERVED_NUMBERS
from fallow.hub.placements import JSON
from fallow.hub.preemption import Preemption
from fallow.hub.slices import Slices
from fallow.hub.view import ASSUMED, account_says
from fallow.receipts.statements import timestamp
from fallow.scheduler.cycle import Decisions, Scheduler
from fallow.scheduler.explain import Wait
from fallow.scheduler.placing import Place
from fallow.scheduler.snapshot import Limits

log = structlog.get_logger(__name__)

_BEHIND = Wait(
    "The hub was restored from a backup older than its settlements: its admin has to run "
    "`fallow hub restore`.",
    "HubBehind",
)

MANY_JOBS = 500
"""From so many waiting jobs on the scheduler works in a thread: it may take longer than a slice."""


class Dispatch:
    """Places waiting tasks."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._scheduler = Scheduler()
        self._supplies = snapshots.Supplies(desk.settings.trust)
        self._asked = Asked(desk, self._ready)
        self._preemption = Preemption(desk)

    def touch(self, uids: Iterable[str]) -> None:
        """Take in that these jobs were added up anew."""
        self._asked.touch(uids)

    def steps(self) -> Slices[tuple[set[str], set[str]]]:
        """Place what fits now; returns the jobs that were placed, and those that wait for another reason."""
        desk = self._desk
        if desk.view.unfolded:
            return set(), self._hold_back()
        asked = self._asked
        yield from asked.refresh()
        if not asked.jobs:
            return set(), set()
        snapshot = yield from snapshots.build(
            desk.view,
            asked.jobs.values(),
            asked.accounts,
            desk.memory.standings,
            label_keys=asked.label_keys,
            limits=Limits(
                placement_tasks=desk.settings.jobs.placement_tasks_max,
                reservations=desk.settings.sharing.reservations,
                half_life_seconds=desk.settings.sharing.half_life_seconds,
            ),
            decimals=desk.decimals,
            now=desk.clock.unix(),
            shared=desk.settings.sharing,
            supplies=self._supplies,
        )
        if self._preemption.enabled:
            victims, may_lose = self._preemption.victims(), self._preemption.may_lose()
            snapshot = replace(snapshot, victims=victims, may_lose=may_lose)
        decisions: Decisions
        if len(asked.jobs) < MANY_JOBS:
            decisions = self._scheduler.schedule(snapshot)
        else:
            decisions = yield lambda: self._scheduler.schedule(snapshot)
        placed: set[str] = set()
        self._preemption.carry_out(decisions.evictions)
        told: set[str] = set()
        for place in decisions.places:
            yield None
            one = asked.waiting[place.job_uid]
            # NB: pauses since the snapshot may have brought news; what it is about is left to the next cycle.
            if self._as_it_was(place, one) and self._place(place, one):
                placed.add(place.job_uid)
        for one in asked.waiting.values():
            wait = decisions.waits.get(one.uid)
            if one.want is not None and wait is not None and not one.speaks and one.record.wait is not None:
                continue  # one sentence stays, whichever of its copies was tried last
            if wait is not one.record.wait and wait != one.record.wait:
                one.record.wait = wait
                told.add(one.uid)
        return placed, told

    def _hold_back(self) -> set[str]:
        """Place nothing: the hub has forgotten what was run and paid, and would run it again."""
        told: set[str] = set()
        for uid in self._desk.memory.waiting:
            record = self._desk.memory.records.get(uid)
            if record is not None and record.wait != _BEHIND:
                record.wait = _BEHIND
                told.add(uid)
        return told

    def _ready(self, uid: str) -> snapshots.Waiting | None:
        """Return a job that may be scheduled now, or None (and say why in its record)."""
        desk = self._desk
        job, record = desk.view.jobs_by_uid.get(uid), desk.memory.records.get(uid)
        if job is None or record is None or record.wish.shape is None:
            return None
        account = desk.account_of(job, record)
        if account is None or record.account_problem:
            record.wait = Wait(record.account_problem, "Account")
            return None
        if record.next_number >= _numbers_reserved(job):
            desk.view.touched_jobs.add(uid)  # its next status write reserves more
            return None
        if desk.carrier.busy(job_key(uid)):
            return None  # its status is being written: perhaps an absorption
        avoided = record.avoided(desk.clock.monotonic())
        wants = record.standing.wants if record.standing is not None else ()
        if not wants:
            return snapshots.Waiting(uid, job, record, account, avoided)
        # One set of copies a cycle: where it goes decides which owners the next one has to keep off.
        turn = record.wants_tried % len(wants)
        record.wants_tried += 1
        return snapshots.Waiting(uid, job, record, account, avoided, want=wants[turn], speaks=turn == 0)

    def _as_it_was(self, place: Place, one: snapshots.Waiting) -> bool:
        """Return whether what a decision was made from is still there: job, account, Quote and standing."""
        desk = self._desk
        quote, terms = desk.quote_of(place.provider), desk.memory.terms.get(place.provider)
        standing = desk.memory.standings.get(place.provider)
        provider = desk.view.providers.get(place.provider)
        return (
            desk.view.jobs_by_uid.get(one.uid) is one.record.followed
            and _says_the_same(desk.account_of(one.obj, one.record), one.account)
            and quote is not None
            and terms is not None
            and quote["metadata"]["resourceVersion"] == terms.version
            and provider is not None
            and standing is not None
            and not standing.refuses
            and (provider["metadata"].get("generation") or 0) == standing.generation
            and not desk.view.unfolded
        )

    def _place(self, place: Place, one: snapshots.Waiting) -> bool:
        """Create the placement of a decision; False when no number is left for it."""
        desk, record = self._desk, one.record
        provider, quote = desk.view.providers.get(place.provider), desk.quote_of(place.provider)
        number = record.next_number
        if provider is None or quote is None or number >= _numbers_reserved(one.obj):
            return False
        assert record.wish.spec is not None
        record.next_number += 1
        obj = manifests.placement(
            place,
            job=one.obj,
            record=record,
            number=number,
            term=desk.term(),
            account=one.account,
            provider=provider,
            quote=quote,
            hub_id=desk.settings.hub_id,
            payments=desk.settings.payments,
            replicas=replication.most_paid(record.wish.spec, extra=desk.settings.verification.extra_copies),
            lane=0 if one.want is None else one.want.lane,
            paid_failure_seconds=max(
                0, record.wish.spec.budget.max_paid_failure_seconds - record.folded.paid_failure_seconds
            ),
        )
        name = obj["metadata"]["name"]
        assumed = {"uid": ASSUMED + name, "creationTimestamp": timestamp(desk.clock.unix())}
        desk.view.assume({**obj, "metadata": {**obj["metadata"], **assumed}})
        desk.carrier.create_placement(obj)
        log.info("placed", placement=name, job=one.uid, provider=place.provider, tasks=str(place.tasks))
        return True


def _says_the_same(account: JSON | None, before: JSON) -> bool:
    return account is before or (account is not None and account_says(account) == account_says(before))


def _numbers_reserved(job: dict[str, object]) -> int:
    """Return below which number placements may be named: the first needs no reservation (see jobs)."""
    status = job.get("status")
    reserved = status.get("placementsReserved") if isinstance(status, dict) else None
    return reserved or UNRESERVED_NUMBERS
