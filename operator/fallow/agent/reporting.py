"""The record of a placement and the report made from it.

The same `Progress` stands in the GuestSet's status, where it is written first, and in the Placement's, where
the hub reads it. Entries are only ever added; the first word on a task is the last. Whenever an attempt is
added, a new cumulative receipt is signed over all of them, so that record and receipt never disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from eth_account.signers.local import LocalAccount

from fallow.agent.admission import Refusal
from fallow.agent.outcomes import Ending
from fallow.agent.running import Decisions
from fallow.agent.sealing import reveal_of, sealed, told_of
from fallow.agent.site import Record
from fallow.agent.work import Work
from fallow.kube.conditions import condition, merged
from fallow.receipts.statements import sign_receipt, unix_seconds
from fallow.resources.ended import Ended, Outcome
from fallow.resources.placement import (
    HandedBack,
    InlineResult,
    PlacementStatus,
    Progress,
)
from fallow.resources.ranges import EMPTY, IndexRanges
from fallow.resources.receipt import SignedReceipt

MAX_LAST_WORDS = 32
MAX_RESULTS = 256
MAX_RESULT_BYTES = 1024
MAX_HANDED_BACK = 64


def read_record(progress: Progress, *, being_recorded: IndexRanges = EMPTY) -> Record:
    """Return which tasks a record settles."""
    ended = (Ended.parse(text) for text in progress.ended)
    return Record(
        ended={each.index: each for each in ended},
        handed_back=_all_tasks(progress.handed_back),
        being_recorded=being_recorded,
    )


def recorded(
    progress: Progress,
    *,
    endings: Iterable[Ending],
    returned: Iterable[HandedBack],
    work: Work,
    key: LocalAccount,
) -> Progress:
    """Return the record with what is new in it, and a receipt that covers all ended attempts."""
    before = read_record(progress)
    added: dict[int, Ending] = {}
    for ending in endings:
        index = ending.ended.index
        if index not in before.ended and index not in before.handed_back:
            added.setdefault(index, ending)
    taken = before.settled | IndexRanges.of(added)
    handed_back = _merged_hand_backs(progress.handed_back, returned, taken=taken)
    reveals: tuple[str, ...] = ()
    if work.sealed:
        opened = {i: reveal_of(e.ended, work=work, key=key) for i, e in added.items()}
        reveals = tuple(str(reveal) for reveal in opened.values() if reveal is not None)
        added = {
            i: e if (reveal := opened[i]) is None else sealed(e, reveal, placement_uid=work.uid)
            for i, e in added.items()
        }
    ended = (*progress.ended, *(str(e.ended) for e in added.values()))
    words = [e.last_words for e in added.values() if e.last_words is not None]
    return Progress(
        ended=ended,
        handed_back=handed_back,
        last_words=(*progress.last_words, *words)[-MAX_LAST_WORDS:],
        results=(*progress.results, *_results(work, added.values()))[:MAX_RESULTS],
        reveals=(*progress.reveals, *reveals),
        receipt=_receipt(progress, ended, added, work=work, key=key) if added else progress.receipt,
    )


def seeded(progress: Progress, reported: Progress) -> Progress:
    """Return a record that has all that was ever reported, should somebody have deleted the GuestSet."""
    mine, told = read_record(progress), read_record(reported)
    if not told.settled - mine.settled:
        return progress
    extra = tuple(str(e) for index, e in told.ended.items() if index not in mine.settled)
    receipts: list[SignedReceipt] = [r for r in (progress.receipt, reported.receipt) if r is not None]
    return Progress(
        ended=(*progress.ended, *extra),
        handed_back=_merged_hand_backs(
            progress.handed_back, reported.handed_back, taken=mine.settled | IndexRanges.of(told.ended)
        ),
        last_words=progress.last_words or reported.last_words,
        results=progress.results or reported.results,
        reveals=progress.reveals or reported.reveals,
        receipt=max(receipts, key=lambda r: r.sequence, default=None),
    )


def report(
    work: Work,
    progress: Progress,
    *,
    running: int,
    waiting: int,
    refusal: Refusal | None,
    before: Mapping[str, Any],
    now: datetime,
) -> dict[str, Any]:
    """Return the whole Placement.status to write, as JSON; `before` is the one that is there.

    `progress` has to be what the GuestSet's status is confirmed to hold. Finished means that every task of
    this generation's spec is settled in it.
    """
    settled = read_record(progress).settled
    reveals, results, hidden = told_of(work, progress)
    finished = not (work.tasks - settled or hidden) or before.get("state") == "Finished"
    begun = bool(progress.ended) or running > 0
    state = "Finished" if finished else "Running" if begun else "Pending"
    conditions = merged(
        before.get("conditions"),
        [_accepted(work, progress, refusal), _finished(work, finished=finished)],
        now=now,
    )
    status = PlacementStatus(
        ended=progress.ended,
        handed_back=progress.handed_back,
        last_words=progress.last_words,
        results=results,
        reveals=reveals,
        receipt=progress.receipt,
        observed_generation=work.generation,
        state=state,
        running=0 if finished else running,
        waiting=0 if finished else waiting,
    ).wire()
    return {**status, "conditions": conditions}


def is_refused(decisions: Decisions) -> bool:
    """Say whether nothing of a placement ever ran or will: it needs no record of its own."""
    return bool(decisions.handed_back) and not decisions.start and not decisions.ended


def _accepted(work: Work, progress: Progress, refusal: Refusal | None) -> dict[str, Any]:
    refused = refusal is not None and not progress.ended
    return condition(
        "Accepted",
        not refused,
        reason=refusal.reason if refusal is not None and refused else "TermsHold",
        message=refusal.message if refusal is not None and refused else "",
        observed_generation=work.generation,
    )


def _finished(work: Work, *, finished: bool) -> dict[str, Any]:
    return condition(
        "Finished",
        finished,
        reason="AllSettled" if finished else "TasksLeft",
        observed_generation=work.generation,
    )


def _all_tasks(handed_back: Iterable[HandedBack]) -> IndexRanges:
    tasks = EMPTY
    for entry in handed_back:
        tasks = tasks | IndexRanges.parse(entry.tasks)
    return tasks


def _merged_hand_backs(
    before: tuple[HandedBack, ...], new: Iterable[HandedBack], *, taken: IndexRanges
) -> tuple[HandedBack, ...]:
    """One entry per reason and message; per reason only, should there be too many of them."""
    merged_tasks: dict[tuple[str, str], IndexRanges] = {
        (entry.reason, entry.message): IndexRanges.parse(entry.tasks) for entry in before
    }
    for entry in new:
        tasks = IndexRanges.parse(entry.tasks) - taken
        if not tasks:
            continue
        taken = taken | tasks
        where = (entry.reason, entry.message)
        if where not in merged_tasks and len(merged_tasks) >= MAX_HANDED_BACK:
            where = next((key for key in merged_tasks if key[0] == entry.reason), next(iter(merged_tasks)))
        merged_tasks[where] = merged_tasks.get(where, EMPTY) | tasks
    return tuple(
        HandedBack(tasks=str(tasks), reason=reason, message=message)
        for (reason, message), tasks in merged_tasks.items()
    )


def _results(work: Work, endings: Iterable[Ending]) -> list[InlineResult]:
    if work.spec.results != "Inline":
        return []
    return [
        InlineResult(index=e.ended.index, value=e.result.encode()[:MAX_RESULT_BYTES].decode(errors="ignore"))
        for e in endings
        if e.ended.outcome is Outcome.SUCCEEDED and e.result
    ]


def _receipt(
    progress: Progress, ended: tuple[str, ...], added: Mapping[int, Ending], *, work: Work, key: LocalAccount
) -> SignedReceipt:
    before = progress.receipt
    begins = [int(e.began_at.timestamp()) for e in added.values()]
    ends = [int(e.ended_at.timestamp()) for e in added.values()]
    if before is not None:
        begins.append(unix_seconds(before.period_start))
        ends.append(unix_seconds(before.period_end))
    return sign_receipt(
        [Ended.parse(text) for text in ended],
        terms=work.spec.terms,
        job_uid=work.spec.job.uid,
        placement_uid=work.uid,
        previous=before,
        period=(min(begins), max(ends)),
        key=key,
    )
