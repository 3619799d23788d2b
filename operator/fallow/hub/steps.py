"""Takes placements their next step: stop, release, claim, copy results, delete.

`fates` says which; this gathers what that depends on and submits the write. Absorption, the step between, is
part of the job's own status (`demand`).
"""

from __future__ import annotations

from typing import Literal, TypedDict

import structlog

from fallow.hub import claims, intervals, manifests, records
from fallow.hub.carrying import claim_key, placement_key, results_key
from fallow.hub.desk import Desk
from fallow.hub.fates import Circumstances, Fate, Step, fate
from fallow.hub.folding import Folded, Paid
from fallow.hub.jobs import JobRecord
from fallow.hub.placements import JSON, Placed, unstartable, was_only_late
from fallow.hub.replication import undecided_in
from fallow.hub.sampling import Sampling
from fallow.hub.slowness import Slowness
from fallow.hub.view import ASSUMED
from fallow.receipts.epochs import claim_id
from fallow.receipts.pricing import cumulative_amount
from fallow.receipts.statements import unix_seconds
from fallow.receipts.words import to_hex
from fallow.resources.naming import claim_name
from fallow.resources.ranges import EMPTY, IndexRanges

log = structlog.get_logger(__name__)

REVEAL_SECONDS = 60.0
"""How long an agent that is heard may take to open a result; then the task runs elsewhere, unpaid here."""


class Sealing(TypedDict, total=False):
    """What is special about the circumstances of a replicated placement."""

    opening: IndexRanges
    withheld: IndexRanges
    undecided: bool


class Steps:
    """What happens to placements. A record of None means that the job is gone."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._slowness = Slowness(desk)
        self._sampling = Sampling(desk)

    def take(self, placed: Placed, job: JSON | None, record: JobRecord | None) -> None:
        """Take a placement its next step, unless one is under way."""
        carrier = self._desk.carrier
        if placed.uid.startswith(ASSUMED) or carrier.busy(placement_key(placed)):
            return
        decided = self.fate_of(placed, record)
        if decided.step is Step.STOP:
            assert decided.stop_reason is not None
            carrier.stop(placed, reason=decided.stop_reason)
        elif decided.step is Step.RELEASE:
            log.info("tasks are taken away", placement=placed.name, tasks=str(decided.tasks))
            lost = self._is_lost(placed, record)
            if not lost and record is not None:  # slow, or it withholds results: not there again at once
                record.could_not_start(placed.provider, self._desk.clock.monotonic())
                self._slowness.took(placed, decided.tasks)
            carrier.release(placed, decided.tasks, still=lambda: not lost or self._is_lost(placed, record))
        elif decided.step is Step.REVEAL:
            carrier.reveal(placed, decided.tasks)
        elif decided.step in (Step.CLAIM, Step.CLAIM_ELAPSED):
            self._claim(placed, record, partial=decided.step is Step.CLAIM_ELAPSED)
        elif decided.step is Step.RESULTS:
            assert job is not None
            assert record is not None
            refuted = record.folded.dissent.get(placed.number, EMPTY) | record.folded.split
            self._copy_results(placed, job, refuted)
        elif decided.step is Step.DELETE and self._on_record(placed, job, record):
            carrier.delete_placement(placed)
            self._slowness.forget(placed.uid)
            self._desk.memory.forget_placement(placed.uid)

    def _on_record(self, placed: Placed, job: JSON | None, record: JobRecord | None) -> bool:
        """Return whether what became of a placement is on record, its samples included; if not, see to it."""
        if not self._sampling.made(placed, job):
            return False
        said = self._sampling.found(placed, job)
        if said is not None and not self._counted(said[0], f"{placed.name}.{placed.provider}", said[1]):
            return False
        # NB: last, as plain successes are counted each time they are asked about.
        found = records.tally(placed, record.folded if record is not None else Folded())
        return self._counted(placed.provider, placed.name, found)

    def _counted(self, provider: str, placement: str, found: records.Tally) -> bool:
        desk = self._desk
        if desk.records.counted(provider, placement, found, desk.view.providers.get(provider)):
            return True
        desk.view.touched_providers.add(provider)
        return False

    def fate_of(self, placed: Placed, record: JobRecord | None) -> Fate:
        """Return the next step for a placement."""
        return fate(placed, self._circumstances(placed, record))

    def observe(self, placed: Placed, record: JobRecord | None) -> None:
        """Note when this process first saw a placement run and finish, and what went wrong there."""
        memory, clock = self._desk.memory, self._desk.clock
        begins = bool(placed.running or placed.ended) and placed.uid not in memory.first_running
        if begins:
            memory.first_running[placed.uid] = clock.unix()
        if placed.finished:
            memory.first_finished.setdefault(placed.uid, clock.unix())
        if record is None:
            return
        record.last_words = placed.last_words or record.last_words
        if begins and not unstartable(placed):
            record.started(placed.provider)
        if placed.uid not in memory.unstartable and unstartable(placed):
            memory.unstartable.add(placed.uid)
            only_late = was_only_late(placed)
            record.could_not_start(placed.provider, clock.monotonic(), only_late=only_late)
            log.info("tasks could not start", placement=placed.name, provider=placed.provider)

    def paid_so_far(self, placed: Placed) -> Paid:
        """Return what a live placement costs: its claim, or what it has come to so far."""
        if placed.uid in self._desk.view.claim_of:
            return self.paid_in_the_end(placed)
        seconds = placed.payable_seconds
        return Paid(
            seconds=seconds,
            amount=cumulative_amount(total_seconds=seconds, price_per_task_hour=placed.price),
        )

    def paid_in_the_end(self, placed: Placed) -> Paid:
        """Return what an ended placement cost: its claims, or nothing."""
        return claims.paid_of(*self._desk.view.claims_of_placement(placed.uid))

    def _circumstances(self, placed: Placed, record: JobRecord | None) -> Circumstances:
        removed = self._desk.is_removed(placed.provider)
        claimed = placed.uid in self._desk.view.claim_of
        over = placed.finished or removed
        elapsed_owed = (
            bool(placed.elapsed) and not over and not claimed and self._owes_elapsed(placed, record)
        )
        return Circumstances(
            job=_state_of(record),
            provider_lost=self._is_lost(placed, record) and not removed,
            provider_removed=removed,
            provider_silent=self._desk.staleness.silent(placed.provider),
            owes=over and not claimed and self._owes(placed, record),
            claimed=claimed,
            elapsed_owed=elapsed_owed,
            elapsed_due=elapsed_owed and self._is_due(placed),
            has_results=over and record is not None and self._has_results(placed, record),
            absorbed=record is not None and placed.number in record.folded.placements,
            slow=self._slow(placed, record),
            **(self._sealing(placed, record) if placed.replicas > 1 else {}),
        )

    def _slow(self, placed: Placed, record: JobRecord | None) -> IndexRanges:
        """Return the tasks that a slow place has had for too long."""
        if not self._slowness.enabled or record is None or _state_of(record) != "Present":
            return EMPTY
        return self._slowness.tasks_of(placed, record)

    def _sealing(self, placed: Placed, record: JobRecord | None) -> Sealing:
        """Return how far the verification of a replicated placement is."""
        if record is None or record.standing is None or _state_of(record) == "Gone":
            return {"opening": placed.sealed}  # nobody compares any more: what ended is paid
        # NB: verdicts that are not written yet may still change: nothing is claimed on their word.
        failed = record.standing.failed - record.judged.split
        undecided = bool(undecided_in(placed, record.folded, failed))
        if record.standing.complete:
            return {"opening": placed.sealed, "undecided": undecided}
        asked = placed.sealed & placed.asked
        memory, now = self._desk.memory, self._desk.clock.monotonic()
        withheld = EMPTY
        if not asked:
            memory.asked_since.pop(placed.uid, None)
        else:
            due = memory.asked_since.setdefault(placed.uid, now) + REVEAL_SECONDS
            if now >= due and not self._desk.staleness.silent(placed.provider):
                withheld = asked
            else:
                memory.later_jobs.setdefault(placed.job_uid, max(due, now + 1))
        return {
            "opening": record.standing.opening.get(placed.number, EMPTY),
            "withheld": withheld,
            "undecided": undecided,
        }

    def _is_lost(self, placed: Placed, record: JobRecord | None) -> bool:
        """Return whether a placement's unfinished tasks go elsewhere now."""
        desk = self._desk
        if desk.is_removed(placed.provider):
            return True
        if record is None or record.wish.spec is None:
            return False
        seconds = record.wish.spec.unreachable_seconds
        return desk.watching() and desk.staleness.released(placed.provider, unreachable_seconds=seconds)

    # ---- money -----------------------------------------------------------------------------------------

    def _assess(
        self, placed: Placed, record: JobRecord | None, *, partial: bool = False
    ) -> claims.Assessment:
        desk = self._desk
        before = intervals.charged_before(self._partial_claims(placed)) if placed.per_interval else {}
        if partial:
            return claims.assess(
                placed, now=desk.clock.unix(), failure_seconds_left=0, before=before, partial=True
            )
        left = placed.paid_failure_seconds
        if record is not None and record.wish.spec is not None:
            spent = record.folded.paid_failure_seconds + sum(
                self.paid_in_the_end(other).failure_seconds
                for other in desk.view.live(placed.job_uid)
                if other.number not in record.folded.placements
            )
            left = min(left, max(0, record.wish.spec.budget.max_paid_failure_seconds - spent))
        now = desk.memory.first_finished.get(placed.uid, desk.clock.unix())
        return claims.assess(
            placed,
            now=now,
            failure_seconds_left=left,
            elsewhere=self._elsewhere(placed, record),
            before=before,
        )

    def _partial_claims(self, placed: Placed) -> list[JSON]:
        return list(self._desk.view.partial_claims.get(placed.uid, {}).values())

    def _owes_elapsed(self, placed: Placed, record: JobRecord | None) -> bool:
        """Return whether a partial claim of a placement that goes on would charge something.

        Not after one that was refused: nothing of it must keep tasks from running elsewhere.
        """
        carrier, key = self._desk.carrier, claim_key(placed.uid)
        refused = carrier.busy(key) and not carrier.writing(key)
        return not refused and self._owes(placed, record, partial=True)

    def _is_due(self, placed: Placed) -> bool:
        """Return whether a placement's last claim, or its beginning, is long enough ago for another."""
        made = [unix_seconds(one["metadata"]["creationTimestamp"]) for one in self._partial_claims(placed)]
        since = self._desk.clock.unix() - max(made, default=placed.created)
        return since >= self._desk.settings.jobs.interval_claim_seconds

    def _elsewhere(self, placed: Placed, record: JobRecord | None) -> claims.Elsewhere:
        """Return what the job has paid for in other placements, absorbed ones and claimed ones."""
        view = self._desk.view
        if record is None or record.wish.spec is None:  # gone: its claims are all that is left of it
            others = list(view.claims_of_job.get(placed.job_uid, {}).values())
            succeeded, failed = EMPTY, EMPTY
        else:
            live = view.live(placed.job_uid)
            others = [claim for one in live if (claim := view.claim_of.get(one.uid)) is not None]
            succeeded, failed = record.folded.succeeded, EMPTY
            for count, tasks in record.folded.failures.items():
                if count > record.wish.spec.backoff_limit_per_task:
                    failed |= tasks
        disagreed = EMPTY
        if placed.replicas > 1:  # one success of each owner is paid
            others = [one for one in others if one["spec"]["terms"]["ownerId"] == placed.owner]
            succeeded = EMPTY
            if record is not None:
                disagreed = record.folded.dissent.get(placed.number, EMPTY)
        for claim in others:
            if claim["spec"]["placement"]["uid"] != placed.uid:
                succeeded |= claims.successes_of(claim)
        return claims.Elsewhere(succeeded=succeeded, failed_for_good=failed, disagreed=disagreed)

    def _owes(self, placed: Placed, record: JobRecord | None, *, partial: bool = False) -> bool:
        """Return whether something is payable, and signed for."""
        obj = self._desk.object_of(placed)
        if obj is None or not (placed.ended or placed.elapsed):
            return False
        if self._assess(placed, record, partial=partial).amount == 0:
            return False
        version = obj["metadata"]["resourceVersion"]
        known = self._desk.memory.receipts.get(placed.uid)
        if known is None or known[0] != version:
            problem = claims.receipt_problem(obj)
            status = obj["status"]
            if not problem and not claims.covered(
                placed, status.get("ended") or (), status.get("elapsed") or ()
            ):
                problem = "the report has attempts that are not this placement's"
            known = self._desk.memory.receipts[placed.uid] = (version, problem)
            if problem:
                log.error(
                    "receipt refused: nothing of it is paid",
                    placement=placed.name,
                    provider=placed.provider,
                    problem=problem,
                )
        return not known[1]

    def _claim(self, placed: Placed, record: JobRecord | None, *, partial: bool = False) -> None:
        desk = self._desk
        obj = desk.object_of(placed)
        # NB: one claim of a job at a time, as each counts against the failures that the job still pays for.
        # A partial one counts against none.
        live = (placed,) if partial else desk.view.live(placed.job_uid)
        if obj is None or any(desk.carrier.busy(claim_key(other.uid)) for other in live):
            return
        sequence = intervals.next_sequence(self._partial_claims(placed))
        claim = claims.claim_of(
            obj,
            placed,
            self._assess(placed, record, partial=partial),
            name=claim_name(placed.uid, sequence),
            claim_id=to_hex(claim_id(desk.domain.hub_id, placed.uid, sequence)),
            sequence=sequence,
            term=desk.term(),
            labels=manifests.claim_labels(placed),
            first_running=desk.memory.first_running.get(placed.uid),
            finished=desk.memory.first_finished.get(placed.uid, desk.clock.unix()),
        )
        desk.carrier.create_claim(claim, job_uid=placed.job_uid)

    # ---- inline results --------------------------------------------------------------------------------

    def _has_results(self, placed: Placed, record: JobRecord) -> bool:
        if record.wish.spec is None or record.wish.spec.results != "Inline":
            return False
        obj = self._desk.object_of(placed)
        some = obj is not None and bool((obj.get("status") or {}).get("results"))
        return some and placed.uid not in self._desk.memory.results_written

    def _copy_results(self, placed: Placed, job: JSON, refuted: IndexRanges) -> None:
        obj = self._desk.object_of(placed)
        if obj is None or self._desk.carrier.busy(results_key(placed.uid)):
            return
        written = self._desk.memory.results_written
        self._desk.carrier.create_results(
            manifests.results(obj, placed, job=job, refuted=refuted),
            job_uid=placed.job_uid,
            done_for=lambda: written.add(placed.uid),
        )


def _state_of(record: JobRecord | None) -> Literal["Present", "Suspended", "Complete", "Gone"]:
    if record is None or record.wish.spec is None or record.standing is None:
        return "Gone"
    if record.standing.complete:
        return "Complete"
    return "Suspended" if record.wish.spec.suspend else "Present"
