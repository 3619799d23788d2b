"""Jobs in the cycle: added up when something happened to them, and their statuses written."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

from fallow.hub import folding, job_status, replication
from fallow.hub.acceptance import problem_of_account
from fallow.hub.carrying import claim_key, job_key
from fallow.hub.desk import Desk, has_condition
from fallow.hub.fates import Step
from fallow.hub.folding import read_folded
from fallow.hub.jobs import NUMBERS_PER_RESERVATION, UNRESERVED_NUMBERS, JobRecord, Wish, read_wish
from fallow.hub.placements import JSON, Placed
from fallow.hub.steps import Steps
from fallow.hub.telling import Telling
from fallow.hub.view import ASSUMED
from fallow.kube.compare_and_set import merge_patch
from fallow.resources.ranges import IndexRanges

STATUS_SECONDS = 1.0
"""A job's status follows what changes at most this often, unless something waits for the write."""
CLAIM_SECONDS = 1.0
"""How long a status waits for claims under way: end, claim and absorption are then one write."""
SENTENCE_SECONDS = 10.0
"""And this often where only the wording of why it waits has changed."""
_URGENT = ("placementsReserved", "completionTime")
"""Parts of a status that something waits for."""


class Demand:
    """Where each job stands."""

    def __init__(self, desk: Desk, steps: Steps) -> None:
        self._desk = desk
        self._steps = steps
        self._telling = Telling()

    def follow(self, uid: str) -> None:
        """Add a job up anew, and take each of its placements its next step."""
        desk = self._desk
        job = desk.view.jobs_by_uid.get(uid)
        if job is None or job["metadata"].get("deletionTimestamp"):
            self._wind_up(uid, deleted=job is not None)
            return
        desk.memory.gone.discard(uid)
        record = self._record(uid, job)
        if record.followed is not job:
            record.folded = read_folded(job.get("status") or {}, decimals=desk.decimals)
        record.followed = job
        # Numbers beyond ours are folded where `fallow hub restore` did it.
        used = max((last for _, last in record.folded.placements.pairs), default=-1)
        record.next_number = max(record.next_number, used + 1)
        if record.wish.spec is None:
            desk.memory.waiting.discard(uid)
            return
        record.account_problem = problem_of_account(
            desk.account_of(job, record),
            name=record.wish.spec.account_ref.name,
            ledger=desk.settings.payments.mode == "ledger",
            now=desk.clock.unix(),
        )
        live = desk.view.live(uid)
        record.standing = folding.standing(
            record.folded,
            [(placed, self._steps.paid_so_far(placed)) for placed in live],
            tasks=record.wish.spec.tasks,
            first=record.wish.spec.first_index,
            backoff_limit=record.wish.spec.backoff_limit_per_task,
        )
        record.judged = record.folded
        if replication.is_replicated(record.wish.spec):
            self._judge(record, list(live))
        for placed in live:
            self._steps.observe(placed, record)
            self._steps.take(placed, job, record)
        if (
            (record.standing.pending or record.standing.wants)
            and record.wish.verdict.accepted
            and not record.wish.spec.suspend
        ):
            desk.memory.waiting.add(uid)
        else:
            desk.memory.waiting.discard(uid)
            record.wait = None
        self._expire(job, record)

    def _judge(self, record: JobRecord, live: list[Placed]) -> None:
        """Reach the verdicts that have become clear, and find the copies that are still missing."""
        desk, spec = self._desk, record.wish.spec
        assert spec is not None
        assert record.standing is not None
        taking_part = frozenset(
            name
            for name, one in desk.memory.standings.items()
            if one.quote is not None and one.quote.replicate
        )
        rules = replication.rules_of(
            spec,
            extra=desk.settings.verification.extra_copies,
            owners=replication.owners_taking_part(desk.view.providers, taking_part),
        )
        tasks = IndexRanges.span(spec.first_index, spec.first_index + spec.tasks)
        record.judged = replication.judged(
            record.folded, live, rules, tasks=tasks, failed=record.standing.failed
        )
        record.standing = replication.standing_of(record.standing, record.judged, live, rules, tasks=tasks)

    def report(self, uid: str, now: float) -> bool:
        """Write a job's status where it differs, but not too often. `now` is monotonic.

        False when too many writes wait already, or are under way for what only tells: come again.
        """
        desk = self._desk
        job, record = desk.view.jobs_by_uid.get(uid), desk.memory.records.get(uid)
        if job is None or record is None or job["metadata"].get("deletionTimestamp"):
            return True
        if desk.carrier.busy(job_key(uid)):
            return True  # looked at again when that write is answered
        before = job.get("status") or {}
        reserved = before.get("placementsReserved") or 0
        used_up = record.next_number >= max(reserved, UNRESERVED_NUMBERS)
        if used_up and uid in desk.memory.waiting:
            reserved = record.next_number + NUMBERS_PER_RESERVATION
        elif self._claims_are_under_way(uid, record, now):
            return True
        elif desk.carrier.crowded:
            return False
        folded = self._absorbed(uid, record)
        status = job_status.status_of(
            job, record, self._outside(uid, record, folded), folded=folded, reserved_numbers=reserved
        )
        patch = merge_patch(before, status)
        if not patch:
            return True
        refused = not before and not record.wish.verdict.accepted
        urgent = refused or any(patch.get(part) for part in _URGENT)
        often = STATUS_SECONDS if _says_more(before, status) else SENTENCE_SECONDS
        due = record.status_written_at + often
        if not urgent and now < due:
            desk.memory.later_jobs[uid] = due
            return True
        if not urgent and not self._telling.may(now, writes=desk.carrier.load):
            return False
        record.status_written_at = now
        desk.memory.later_jobs.pop(uid, None)
        desk.carrier.job_status(job, status, urgent=urgent)
        return True

    def _claims_are_under_way(self, uid: str, record: JobRecord, now: float) -> bool:
        """Return whether to wait a moment with the status, as it would soon have to be written again."""
        desk = self._desk
        if not any(desk.carrier.writing(claim_key(placed.uid)) for placed in desk.view.live(uid)):
            record.claims_awaited_since = None
            return False
        if record.claims_awaited_since is None:
            record.claims_awaited_since = now
        due = record.claims_awaited_since + CLAIM_SECONDS
        if now >= due:
            return False
        desk.memory.later_jobs[uid] = due
        return True

    def _record(self, uid: str, job: JSON) -> JobRecord:
        records = self._desk.memory.records
        record = records.get(uid)
        if record is None:
            number = self._first_number(uid, job)
            record = JobRecord(self._wish(job), next_number=number)
            records[uid] = record
            if not job.get("status"):  # a short job has its whole say in one write
                record.status_written_at = self._desk.clock.monotonic()
        elif record.wish.generation != (job["metadata"].get("generation") or 0):
            record.wish = self._wish(job)
        return record

    def _wish(self, job: JSON) -> Wish:
        shortest = self._desk.settings.jobs.interval_seconds_min
        return read_wish(job, decimals=self._desk.decimals, shortest_interval_seconds=shortest)

    def _first_number(self, uid: str, job: JSON) -> int:
        """Return the first placement number that was never used."""
        view, status = self._desk.view, job.get("status") or {}
        # NB: whatever was reserved may have been used by the process before us.
        used = [(status.get("placementsReserved") or 0) - 1]
        # What was used without a reservation is live, or claimed, or absorbed.
        used += [placed.number for placed in view.live(uid)]
        used += [claim["spec"]["attempt"] for claim in view.claims_of_job.get(uid, {}).values()]
        used += [last for _, last in read_folded(status, decimals=self._desk.decimals).placements.pairs]
        return max(used) + 1

    def _wind_up(self, uid: str, *, deleted: bool) -> None:
        """Stop, claim and delete what is left of a job that is gone; ask before believing it."""
        desk, memory = self._desk, self._desk.memory
        memory.waiting.discard(uid)
        memory.records.pop(uid, None)
        live = list(desk.view.live(uid))
        if not live:
            memory.gone.discard(uid)
            return
        if not deleted and uid not in memory.gone:
            # NB: a view may lag behind; stopping everybody's guests on its word would be past mending.
            if not desk.carrier.busy(job_key(uid)):
                desk.carrier.look_for_job(live[0], lambda gone: memory.gone.add(uid) if gone else None)
            return
        for placed in live:
            self._steps.observe(placed, None)
            self._steps.take(placed, None, None)

    def _expire(self, job: JSON, record: JobRecord) -> None:
        """Delete a job when it finished and settled, and `ttlSecondsAfterFinished` have passed."""
        assert record.wish.spec is not None
        asked = record.wish.spec.ttl_seconds_after_finished
        ttl = self._desk.settings.jobs.ttl_seconds if asked is None else asked
        finished = (job.get("status") or {}).get("completionTime")
        if finished is None or not has_condition(job, "Settled"):
            return
        since = self._desk.clock.unix() - datetime.fromisoformat(finished).timestamp()
        if since >= ttl and not self._desk.carrier.busy(job_key(job["metadata"]["uid"])):
            self._desk.carrier.delete_job(job)

    def _absorbed(self, uid: str, record: JobRecord) -> folding.Folded:
        """Return the job's folded contributions with every placement whose time has come."""
        folded = record.judged
        for placed in self._desk.view.live(uid):
            if placed.uid.startswith(ASSUMED):
                continue
            if self._steps.fate_of(placed, record).step is Step.ABSORB:
                folded = folding.absorb(folded, placed, self._steps.paid_in_the_end(placed))
        return folded

    def _outside(self, uid: str, record: JobRecord, folded: folding.Folded) -> job_status.Outside:
        desk = self._desk
        known = desk.view.claims_of_job.get(uid, {}).values()
        states = Counter((claim.get("status") or {}).get("state") for claim in known)
        return job_status.Outside(
            now=datetime.fromtimestamp(desk.clock.unix(), UTC),
            decimals=desk.decimals,
            account_problem=record.account_problem,
            live=sum(1 for placed in desk.view.live(uid) if placed.number not in folded.placements),
            claims=max(len(known), folded.claims),
            settled=states["Settled"],
            refused=states["Refused"],
            last_words=record.last_words,
            symbol=desk.settings.payments.token_symbol,
        )


def _says_more(before: JSON, status: JSON) -> bool:
    """Return whether a status differs in more than the wording of its sentences."""

    def facts(one: JSON) -> JSON:
        conditions = [
            {key: value for key, value in given.items() if key != "message"}
            for given in one.get("conditions") or ()
        ]
        return {**one, "message": "", "conditions": conditions}

    return facts(before) != facts(status)
