"""The hub's cycle: from what changed to what to write, in numbered steps.

`run` reads the view, decides and submits; it never waits. Everything it keeps between cycles (`JobRecord`s,
the providers' standings) can be derived again from the API server; the only thing that a restart forgets is
how long somebody has been silent, and that is meant so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import structlog

from fallow.hub import claims, folding, job_status, manifests, provider_status, snapshots
from fallow.hub.acceptance import problem_of_account
from fallow.hub.carrying import Carrier, claim_key, job_key, placement_key, provider_key
from fallow.hub.fates import Circumstances, Step, fate
from fallow.hub.folding import Paid, read_folded
from fallow.hub.jobs import NUMBERS_PER_RESERVATION, JobRecord, read_wish
from fallow.hub.placements import JSON, Placed, unstartable
from fallow.hub.providers import Hearing, Standing, Terms, read_quote, standing
from fallow.hub.staleness import Staleness
from fallow.hub.view import ASSUMED, HubView
from fallow.kube.compare_and_set import merge_patch
from fallow.receipts.epochs import claim_id
from fallow.receipts.pricing import cumulative_amount
from fallow.receipts.statements import timestamp
from fallow.receipts.typed_data import Domain
from fallow.receipts.words import from_hex, to_hex
from fallow.resources.naming import claim_name, provider_namespace
from fallow.resources.quote import QUOTE_NAME
from fallow.scheduler.cycle import schedule
from fallow.scheduler.explain import Wait
from fallow.scheduler.placing import Place
from fallow.scheduler.snapshot import Limits
from fallow.settings import HubSettings

log = structlog.get_logger(__name__)

STATUS_SECONDS = 1.0
"""A job's status follows what changes at most this often, unless something waits for the write."""
PROVIDER_STATUS_SECONDS = 3.0
LEAST_UNREACHABLE_SECONDS = 5
"""Smallest `unreachableSeconds`: below it silence means nothing to anybody."""


@dataclass(frozen=True, slots=True)
class Clock:
    """The three clocks that decisions need, injected."""

    monotonic: Callable[[], float]
    unix: Callable[[], int]


class Cycle:
    """Decides. One per process; `run` once per wake-up."""

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
        self._view = view
        self._carrier = carrier
        self._staleness = staleness
        self._settings = settings
        self._clock = clock
        self._term = term
        self._watching = watching
        self._decimals = settings.payments.token_decimals
        self._domain = Domain(
            chain_id=settings.payments.chain_id,
            escrow=settings.payments.escrow,
            hub_id=from_hex(settings.hub_id),
        )
        self._records: dict[str, JobRecord] = {}
        self._standings: dict[str, Standing] = {}
        self._terms: dict[str, Terms] = {}
        self._first_running: dict[str, int] = {}
        self._first_finished: dict[str, int] = {}
        self._unstartable: set[str] = set()
        """Placements (by UID) that made their job keep off the provider."""
        self._receipts: dict[str, tuple[str, str]] = {}
        """By placement UID: the version whose receipt was checked, and what is wrong with it."""
        self._gone: set[str] = set()
        """Jobs of which the API server has confirmed that they are gone."""
        self._provider_written_at: dict[str, float] = {}
        self._later_jobs: set[str] = set()
        self._later_providers: set[str] = set()
        self._resynced_at = float("-inf")
        self._waiting: set[str] = set()

    def run(self) -> None:
        """Decide on everything that was touched since the last time, and on all that waits."""
        now = self._clock.monotonic()
        # 1. Time: who is silent, whose status was put off, and every so often everything.
        self._listen(now)
        self._recall(now)
        # 2. Providers that something happened to: where they stand, and so who may be given work.
        providers = self._take(self._view.touched_providers)
        self._each(providers, self._judge_provider)
        # 3. Jobs that something happened to: add up, and take each placement its next step.
        jobs = self._take(self._view.touched_jobs)
        self._each(jobs, lambda uid: self._follow(uid, now))
        # 4. Schedule whatever waits on whatever is free.
        if self._waiting:
            jobs |= self._schedule(now)
        # 5. Say so: statuses of what was touched, jobs first.
        self._each(jobs, lambda uid: self._report_job(uid, now))
        self._each(providers, lambda name: self._report_provider(name, now))

    @staticmethod
    def _each(names: set[str], act: Callable[[str], None]) -> None:
        """Act on each; one that fails unexpectedly is logged and does not take the others with it."""
        for name in sorted(names):
            try:
                act(name)
            except Exception:
                log.exception("one of many failed", about=name)

    # ---- 1. time ---------------------------------------------------------------------------------------

    def _listen(self, now: float) -> None:
        suspicious = self._staleness.suspects_itself()
        silent_before = set(self._staleness.silent_providers())
        self._staleness.advance(now, watching=self._watching())
        silent = set(self._staleness.silent_providers())
        for name in silent_before ^ silent:
            log.info("provider is silent" if name in silent else "provider is heard again", provider=name)
            self._view.touch_provider(name)
        if suspicious != self._staleness.suspects_itself():
            log.warning(
                "so many providers are silent at once that the hub suspects itself; it moves no work"
                if not suspicious
                else "the hub trusts itself again"
            )
            self._view.touch_all()
        for name in self._standings:
            silence = self._staleness.silence(name) or 0.0
            if silence >= LEAST_UNREACHABLE_SECONDS and self._view.holdings.guests[name]:
                self._view.touch_provider(name)

    def _recall(self, now: float) -> None:
        if now - self._resynced_at >= self._settings.cycle.resync_seconds:
            self._resynced_at = now
            self._view.touch_all()
        self._view.touched_jobs |= self._later_jobs
        self._view.touched_providers |= self._later_providers
        self._later_jobs, self._later_providers = set(), set()

    @staticmethod
    def _take(touched: set[str]) -> set[str]:
        taken = set(touched)
        touched.clear()
        return taken

    # ---- 2. providers ----------------------------------------------------------------------------------

    def _judge_provider(self, name: str) -> None:
        provider = self._view.providers.get(name)
        if provider is None:
            self._standings.pop(name, None)
            self._staleness.forget(name)
            return
        lease = self._view.leases.get("agent", namespace=provider_namespace(name))
        if lease is None:  # counted from now: an agent that never comes is silent after a while
            self._staleness.heard(name, "")
        quote = self._view.quotes.get(QUOTE_NAME, namespace=provider_namespace(name))
        terms = self._terms.get(name)
        if quote is None:
            self._terms.pop(name, None)
            terms = None
        elif terms is None or terms.version != quote["metadata"]["resourceVersion"]:
            terms = self._terms[name] = read_quote(quote, domain=self._domain)
        silence = self._staleness.silence(name)
        before = self._standings.get(name)
        after = self._standings[name] = standing(
            provider,
            terms,
            Hearing(lease is not None, self._staleness.silent(name), int(silence or 0)),
            now=self._clock.unix(),
            payee_unregistered=self._view.unregistered_payees.get(provider_namespace(name), 0) > 0,
            suspicious=self._staleness.suspects_itself(),
        )
        if before is None or before.refuses != after.refuses:
            log.info("provider", provider=name, schedulable=not after.refuses, reason=after.refuses)

    # ---- 3. jobs ---------------------------------------------------------------------------------------

    def _follow(self, uid: str, now: float) -> None:
        job = self._view.jobs_by_uid.get(uid)
        if job is None or job["metadata"].get("deletionTimestamp"):
            self._wind_up(uid, deleted=job is not None)
            return
        self._gone.discard(uid)
        record = self._record(uid, job)
        record.folded = read_folded(job.get("status") or {}, decimals=self._decimals)
        record.account_problem = self._account_problem(job, record)
        if record.wish.spec is None:
            self._waiting.discard(uid)
            return
        live = self._view.live(uid)
        record.standing = folding.standing(
            record.folded,
            [(placed, self._paid(placed)) for placed in live],
            tasks=record.wish.spec.tasks,
            backoff_limit=record.wish.spec.backoff_limit_per_task,
        )
        for placed in live:
            self._observe(placed, record, now)
            self._step(placed, job, record)
        if record.standing.pending and not record.wish.spec.suspend:
            self._waiting.add(uid)
        else:
            self._waiting.discard(uid)
            record.wait = None
        self._expire(job, record)

    def _record(self, uid: str, job: JSON) -> JobRecord:
        record = self._records.get(uid)
        if record is None:
            # NB: whatever was reserved may have been used by the process before us.
            reserved = (job.get("status") or {}).get("placementsReserved") or 0
            record = JobRecord(read_wish(job, decimals=self._decimals), next_number=reserved)
            self._records[uid] = record
        elif record.wish.generation != (job["metadata"].get("generation") or 0):
            record.wish = read_wish(job, decimals=self._decimals)
        return record

    def _account_problem(self, job: JSON, record: JobRecord) -> str:
        if record.wish.spec is None:
            return ""
        return problem_of_account(
            self._account(job, record),
            name=record.wish.spec.account_ref.name,
            ledger=self._settings.payments.mode == "ledger",
            now=self._clock.unix(),
        )

    def _account(self, job: JSON, record: JobRecord) -> JSON | None:
        assert record.wish.spec is not None
        name = record.wish.spec.account_ref.name
        return self._view.accounts.get(name, namespace=job["metadata"]["namespace"])

    def _paid(self, placed: Placed) -> Paid:
        """Return what a live placement costs: its claim, or what it has come to so far."""
        claim = self._view.claim_of.get(placed.uid)
        if claim is not None:
            return claims.paid_of(claim)
        seconds = placed.payable_seconds
        return Paid(
            seconds=seconds,
            amount=cumulative_amount(total_seconds=seconds, price_per_task_hour=placed.price),
        )

    def _observe(self, placed: Placed, record: JobRecord, now: float) -> None:
        """Note when this process first saw a placement run and finish, and what went wrong there."""
        if placed.running or placed.ended:
            self._first_running.setdefault(placed.uid, self._clock.unix())
        if placed.last_words:
            record.last_words = placed.last_words
        if placed.finished and placed.uid not in self._first_finished:
            self._first_finished[placed.uid] = self._clock.unix()
        if placed.uid not in self._unstartable and unstartable(placed):
            self._unstartable.add(placed.uid)
            record.could_not_start(placed.provider, now)
            log.info("tasks could not start", placement=placed.name, provider=placed.provider)

    def _step(self, placed: Placed, job: JSON | None, record: JobRecord | None) -> None:
        """Take a placement its next step, unless one is under way."""
        if placed.uid.startswith(ASSUMED) or self._carrier.busy(placement_key(placed)):
            return
        given = self._circumstances(placed, record)
        next_ = fate(placed, given)
        if next_.step is Step.STOP:
            assert next_.stop_reason is not None
            self._carrier.stop(placed, reason=next_.stop_reason)
        elif next_.step is Step.RELEASE:
            log.info("tasks are taken away", placement=placed.name, tasks=str(next_.tasks))
            self._carrier.release(placed, next_.tasks, still=lambda: self._is_lost(placed, record))
        elif next_.step is Step.CLAIM:
            self._claim(placed, record)
        elif next_.step is Step.DELETE:
            self._carrier.delete_placement(placed)
            self._forget(placed.uid)
        # Absorption is part of the job's status: `_report_job`.

    def _forget(self, placement_uid: str) -> None:
        self._first_running.pop(placement_uid, None)
        self._first_finished.pop(placement_uid, None)
        self._receipts.pop(placement_uid, None)
        self._unstartable.discard(placement_uid)

    def _circumstances(self, placed: Placed, record: JobRecord | None) -> Circumstances:
        removed = self._is_removed(placed.provider)
        state: Literal["Present", "Suspended", "Complete", "Gone"] = "Gone"
        if record is not None and record.wish.spec is not None and record.standing is not None:
            state = "Present"
            if record.standing.complete:
                state = "Complete"
            elif record.wish.spec.suspend:
                state = "Suspended"
        claimed = placed.uid in self._view.claim_of
        over = placed.finished or removed
        return Circumstances(
            job=state,
            provider_lost=self._is_lost(placed, record) and not removed,
            provider_removed=removed,
            provider_silent=self._staleness.silent(placed.provider),
            owes=over and not claimed and self._owes(placed, record),
            claimed=claimed,
            absorbed=record is not None and placed.number in record.folded.placements,
        )

    def _is_removed(self, provider: str) -> bool:
        known = self._standings.get(provider)
        return self._view.providers.get(provider) is None or (known is not None and known.removed)

    def _is_lost(self, placed: Placed, record: JobRecord | None) -> bool:
        """Return whether a placement's unfinished tasks go elsewhere now."""
        if self._is_removed(placed.provider):
            return True
        if record is None or record.wish.spec is None:
            return False
        seconds = record.wish.spec.unreachable_seconds
        return self._watching() and self._staleness.released(placed.provider, unreachable_seconds=seconds)

    def _wind_up(self, uid: str, *, deleted: bool) -> None:
        """Stop, claim and delete what is left of a job that is gone; ask before believing it."""
        self._waiting.discard(uid)
        self._records.pop(uid, None)
        live = self._view.live(uid)
        if not live:
            self._gone.discard(uid)
            return
        if not deleted and uid not in self._gone:
            first = next(iter(live))
            if not self._carrier.busy(job_key(uid)):

                def told(gone: bool) -> None:
                    if gone:
                        self._gone.add(uid)

                self._carrier.look_for_job(first, told)
            return
        for placed in live:
            if placed.running or placed.ended:
                self._first_running.setdefault(placed.uid, self._clock.unix())
            if placed.finished:
                self._first_finished.setdefault(placed.uid, self._clock.unix())
            self._step(placed, None, None)

    def _expire(self, job: JSON, record: JobRecord) -> None:
        """Delete a job whose `ttlSecondsAfterFinished` has passed since it finished and settled."""
        assert record.wish.spec is not None
        ttl = record.wish.spec.ttl_seconds_after_finished
        status = job.get("status") or {}
        if (
            ttl is None
            or "completionTime" not in status
            or self._carrier.busy(job_key(job["metadata"]["uid"]))
        ):
            return
        finished = datetime.fromisoformat(status["completionTime"]).timestamp()
        settled = any(
            one["type"] == "Settled" and one["status"] == "True" for one in status.get("conditions") or ()
        )
        if settled and self._clock.unix() - finished >= ttl:
            self._carrier.delete_job(job)

    # ---- claims ----------------------------------------------------------------------------------------

    def _assess(self, placed: Placed, record: JobRecord | None) -> claims.Assessment:
        left = placed.paid_failure_seconds
        if record is not None and record.wish.spec is not None:
            spent = record.folded.paid_failure_seconds + sum(
                self._paid(other).failure_seconds
                for other in self._view.live(placed.job_uid)
                if other.number not in record.folded.placements and other.uid in self._view.claim_of
            )
            left = min(left, max(0, record.wish.spec.budget.max_paid_failure_seconds - spent))
        now = self._first_finished.get(placed.uid, self._clock.unix())
        return claims.assess(placed, now=now, failure_seconds_left=left)

    def _owes(self, placed: Placed, record: JobRecord | None) -> bool:
        """Return whether something is payable, and signed for."""
        obj = self._view.placements.get(placed.name, namespace=placed.namespace)
        if obj is None or not placed.ended or self._assess(placed, record).amount == 0:
            return False
        version = obj["metadata"]["resourceVersion"]
        known = self._receipts.get(placed.uid)
        if known is None or known[0] != version:
            problem = claims.receipt_problem(obj)
            if not problem and not claims.covered(placed, obj["status"].get("ended") or ()):
                problem = "the report has attempts that are not this placement's"
            known = self._receipts[placed.uid] = (version, problem)
            if problem:
                log.error(
                    "receipt refused: nothing of it is paid",
                    placement=placed.name,
                    provider=placed.provider,
                    problem=problem,
                )
        return not known[1]

    def _claim(self, placed: Placed, record: JobRecord | None) -> None:
        obj = self._view.placements.get(placed.name, namespace=placed.namespace)
        # NB: one claim of a job at a time, as each counts against the failures that the job still pays for.
        claiming = (claim_key(other.uid) for other in self._view.live(placed.job_uid))
        if obj is None or any(self._carrier.busy(key) for key in claiming):
            return
        now = self._clock.unix()
        claim = claims.claim_of(
            obj,
            placed,
            self._assess(placed, record),
            name=claim_name(placed.uid, 0),
            claim_id=to_hex(claim_id(self._domain.hub_id, placed.uid, 0)),
            term=self._term(),
            labels=manifests.claim_labels(placed),
            first_running=self._first_running.get(placed.uid),
            finished=self._first_finished.get(placed.uid, now),
        )
        self._carrier.create_claim(claim, job_uid=placed.job_uid)

    # ---- 4. scheduling ---------------------------------------------------------------------------------

    def _schedule(self, now: float) -> set[str]:
        """Place what fits; returns the jobs of which something is new to say."""
        waiting = [one for uid in sorted(self._waiting) if (one := self._ready(uid, now)) is not None]
        if not waiting:
            return set()
        snapshot = snapshots.build(
            self._view,
            waiting,
            self._standings,
            limits=Limits(placement_tasks=self._settings.jobs.placement_tasks_max),
            decimals=self._decimals,
            now=self._clock.unix(),
        )
        decisions = schedule(snapshot)
        told: set[str] = set()
        by_uid = {one.uid: one for one in waiting}
        for place in decisions.places:
            if self._place(place, by_uid[place.job_uid]):
                told.add(place.job_uid)
        for one in waiting:
            wait = decisions.waits.get(one.uid)
            if wait != one.record.wait:
                one.record.wait = wait
                told.add(one.uid)
        for uid in told:
            self._follow(uid, now)
        return told

    def _ready(self, uid: str, now: float) -> snapshots.Waiting | None:
        """Return a job that may be scheduled now, or None (and say why in its record)."""
        job, record = self._view.jobs_by_uid.get(uid), self._records.get(uid)
        if job is None or record is None or record.wish.spec is None:
            return None
        status = job.get("status") or {}
        accepted = any(
            one["type"] == "Accepted" and one["status"] == "True" for one in status.get("conditions") or ()
        )
        account = self._account(job, record)
        if not accepted or account is None or record.account_problem:
            if record.account_problem:
                record.wait = Wait(record.account_problem, "Account")
            return None
        if record.next_number >= (status.get("placementsReserved") or 0):
            self._view.touched_jobs.add(uid)  # its status write reserves more
            return None
        if self._cooling(uid):
            return None
        return snapshots.Waiting(uid, job, record, account, record.avoided(now))

    def _cooling(self, uid: str) -> bool:
        """Return whether the job's status is being written: an absorption may be under way."""
        return self._carrier.busy(job_key(uid))

    def _place(self, place: Place, one: snapshots.Waiting) -> bool:
        """Create the placement of a decision; False when its number or provider is no longer there."""
        provider = self._view.providers.get(place.provider)
        quote = self._view.quotes.get(QUOTE_NAME, namespace=provider_namespace(place.provider))
        reserved = (one.obj.get("status") or {}).get("placementsReserved") or 0
        record = one.record
        if provider is None or quote is None or record.next_number >= reserved:
            return False
        assert record.wish.spec is not None
        number = record.next_number
        record.next_number += 1
        obj = manifests.placement(
            place,
            job=one.obj,
            record=record,
            number=number,
            term=self._term(),
            account=one.account,
            provider=provider,
            quote=quote,
            hub_id=self._settings.hub_id,
            payments=self._settings.payments,
            paid_failure_seconds=max(
                0,
                record.wish.spec.budget.max_paid_failure_seconds - record.folded.paid_failure_seconds,
            ),
        )
        name = obj["metadata"]["name"]
        assumed = {
            "uid": ASSUMED + name,
            "creationTimestamp": timestamp(self._clock.unix()),
        }
        self._view.assume({**obj, "metadata": {**obj["metadata"], **assumed}})
        self._carrier.create_placement(obj)
        log.info("placed", placement=name, job=one.uid, provider=place.provider, tasks=str(place.tasks))
        return True

    # ---- 5. statuses -----------------------------------------------------------------------------------

    def _report_job(self, uid: str, now: float) -> None:
        job, record = self._view.jobs_by_uid.get(uid), self._records.get(uid)
        if job is None or record is None or job["metadata"].get("deletionTimestamp"):
            return
        if self._carrier.busy(job_key(uid)):
            return  # looked at again when that write is answered
        before = job.get("status") or {}
        folded = self._absorbed(uid, record)
        reserved = before.get("placementsReserved") or 0
        if uid in self._waiting and record.next_number >= reserved:
            reserved = record.next_number + NUMBERS_PER_RESERVATION
        status = job_status.status_of(
            job,
            record,
            self._outside(uid, record, folded),
            folded=folded,
            reserved_numbers=reserved,
        )
        patch = merge_patch(before, status)
        if not patch:
            return
        urgent = not before or "folded" in patch or "placementsReserved" in patch or "completionTime" in patch
        if not urgent and now - record.status_written_at < STATUS_SECONDS:
            self._later_jobs.add(uid)
            return
        record.status_written_at = now
        self._carrier.job_status(job, status, urgent=urgent)

    def _absorbed(self, uid: str, record: JobRecord) -> folding.Folded:
        """Return the job's folded contributions with every placement whose time has come."""
        folded = record.folded
        for placed in self._view.live(uid):
            if placed.uid.startswith(ASSUMED):
                continue
            if fate(placed, self._circumstances(placed, record)).step is Step.ABSORB:
                folded = folding.absorb(folded, placed, self._settled_cost(placed))
        return folded

    def _settled_cost(self, placed: Placed) -> Paid:
        """Return what an ended placement cost in the end: its claim, or nothing."""
        claim = self._view.claim_of.get(placed.uid)
        return claims.paid_of(claim) if claim is not None else Paid()

    def _outside(self, uid: str, record: JobRecord, folded: folding.Folded) -> job_status.Outside:
        known = self._view.claims_of_job.get(uid, {}).values()
        done = sum(1 for claim in known if (claim.get("status") or {}).get("state") in ("Settled", "Refused"))
        return job_status.Outside(
            now=datetime.fromtimestamp(self._clock.unix(), UTC),
            decimals=self._decimals,
            account_problem=record.account_problem,
            live=sum(1 for placed in self._view.live(uid) if placed.number not in folded.placements),
            claims=max(len(known), folded.claims),
            settled=done,
            last_words=record.last_words,
            symbol=self._settings.payments.token_symbol,
        )

    def _report_provider(self, name: str, now: float) -> None:
        provider, known = self._view.providers.get(name), self._standings.get(name)
        if provider is None or known is None:
            return
        if now - self._provider_written_at.get(name, float("-inf")) < PROVIDER_STATUS_SECONDS:
            self._later_providers.add(name)
            return
        if self._carrier.busy(provider_key(name)):
            return
        lease = self._view.leases.get("agent", namespace=provider_namespace(name))
        renewed = (lease or {}).get("spec", {}).get("renewTime")
        status = provider_status.status_of(
            provider,
            known,
            self._view.nodes_of(name),
            self._view.holdings,
            earned=self._view.earned[provider["spec"]["payee"].lower()],
            decimals=self._decimals,
            last_contact=datetime.fromisoformat(renewed) if renewed else None,
            now=datetime.fromtimestamp(self._clock.unix(), UTC),
        )
        if merge_patch(provider.get("status") or {}, status):
            self._provider_written_at[name] = now
            self._carrier.provider_status(provider, status)
