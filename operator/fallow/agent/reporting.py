"""The record of a placement and the report made from it.

The same `Progress` stands in the GuestSet's status, where it is written first, and in the Placement's, where
the hub reads it. Entries are only ever added; the first word on a task is the last. Elapsed time only grows.
Whenever an attempt or elapsed time is added, a new cumulative receipt is signed over all of them, so that
record and receipt never disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
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
from fallow.resources.elapsed import packed, parse_all, stops_of
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
        elapsed=stops_of(parse_all(progress.elapsed)) if progress.elapsed else {},
        handed_back=_all_tasks(progress.handed_back),
        being_recorded=being_recorded,
    )


def recorded(
    progress: Progress,
    *,
    endings: Iterable[Ending],
    returned: Iterable[HandedBack],
    marks: Mapping[int, int] | None = None,
    work: Work,
    key: LocalAccount,
    now: datetime | None = None,
) -> Progress:
    """Return the record with what is new in it, and a receipt that covers all of it.

    `marks` is elapsed time by index, `now` when that was seen.
    """
    before = read_record(progress)
    added: dict[int, Ending] = {}
    for ending in endings:
        index = ending.ended.index
        if index not in before.ended and index not in before.handed_back:
            added.setdefault(index, _after(ending, before.elapsed.get(index, 0)))
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
    elapsed = _elapsed(progress, before, marks or {}, settled=before.settled | IndexRanges.of(added))
    news = added or elapsed != progress.elapsed
    words = [e.last_words for e in added.values() if e.last_words is not None]
    return Progress(
        ended=ended,
        elapsed=elapsed,
        handed_back=handed_back,
        last_words=(*progress.last_words, *words)[-MAX_LAST_WORDS:],
        results=(*progress.results, *_results(work, added.values()))[:MAX_RESULTS],
        reveals=(*progress.reveals, *reveals),
        receipt=_receipt(progress, ended, elapsed, added, work=work, key=key, now=now)
        if news
        else progress.receipt,
    )


def _after(ending: Ending, elapsed: int) -> Ending:
    """Return an ending that is no earlier than the elapsed time that was signed before.

    It can be by a second or two, when the clocks of node and agent differ.
    """
    if ending.ended.seconds >= elapsed:
        return ending
    return replace(ending, ended=replace(ending.ended, seconds=elapsed))


def _elapsed(
    progress: Progress, before: Record, marks: Mapping[int, int], *, settled: IndexRanges
) -> tuple[str, ...]:
    new = {i: s for i, s in marks.items() if i not in settled and s > before.elapsed.get(i, 0)}
    if not new:
        return progress.elapsed
    return tuple(str(each) for each in packed({**before.elapsed, **new}))


def seeded(progress: Progress, reported: Progress) -> Progress:
    """Return a record that has all that was ever reported, should somebody have deleted the GuestSet."""
    mine, told = read_record(progress), read_record(reported)
    forgotten = any(seconds > mine.elapsed.get(index, 0) for index, seconds in told.elapsed.items())
    if not told.settled - mine.settled and not forgotten:
        return progress
    extra = tuple(str(e) for index, e in told.ended.items() if index not in mine.settled)
    receipts: list[SignedReceipt] = [r for r in (progress.receipt, reported.receipt) if r is not None]
    elapsed = {i: max(mine.elapsed.get(i, 0), s) for i, s in told.elapsed.items()}
    return Progress(
        ended=(*progress.ended, *extra),
        elapsed=tuple(str(each) for each in packed({**mine.elapsed, **elapsed})),
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
        elapsed=progress.elapsed,
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
    progress: Progress,
    ended: tuple[str, ...],
    elapsed: tuple[str, ...],
    added: Mapping[int, Ending],
    *,
    work: Work,
    key: LocalAccount,
    now: datetime | None,
) -> SignedReceipt:
    before = progress.receipt
    begins = [int(e.began_at.timestamp()) for e in added.values()]
    ends = [int(e.ended_at.timestamp()) for e in added.values()]
    spans = parse_all(elapsed) if elapsed else ()
    if spans and now is not None:
        ends.append(int(now.timestamp()))
        begins.append(ends[-1] - max(one.stop for one in spans))
    if before is not None:
        begins.append(unix_seconds(before.period_start))
        ends.append(unix_seconds(before.period_end))
    return sign_receipt(
        [Ended.parse(text) for text in ended],
        elapsed=spans,
        attempt=work.spec.attempt,
        terms=work.spec.terms,
        job_uid=work.spec.job.uid,
        placement_uid=work.uid,
        previous=before,
        period=(min(begins), max(ends)),
        key=key,
    )
