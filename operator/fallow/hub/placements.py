"""What one Placement says, read once per version: its tasks, what ended, and what it still holds.

The agent's report is another party's word. Whatever in it is malformed or about a task that this placement
does not have is left out here, so that nobody else has to be careful.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fallow.errors import ElapsedError, EndedError, RangesError
from fallow.hub.openings import opened
from fallow.receipts.attempts import payable_seconds
from fallow.receipts.pricing import cumulative_amount
from fallow.receipts.statements import unix_seconds
from fallow.resources.elapsed import Elapsed, parse_all, stops_of
from fallow.resources.ended import Ended, Outcome
from fallow.resources.money import parse_amount
from fallow.resources.naming import PROVIDER_NAMESPACE_PREFIX
from fallow.resources.ranges import EMPTY, IndexRanges, parse_optional

JSON = dict[str, Any]


def payee_of(provider: JSON) -> str:
    """Return where a Provider's pay goes, in lower case; "" where it is not accepted yet."""
    return str(provider["spec"].get("payee") or "").lower()


NOT_OUR_DOING = frozenset({"Released", "Stopped", "Preempted"})
"""Reasons for handing back that only answer the hub's own wish; all others call for a back-off."""
SUPPLY_MOVED = frozenset({"NoRoom", "OfferClosed", "GangDidNotFit"})
"""Reasons that say no more than that the supply was another by the time the work arrived."""


@dataclass(frozen=True, slots=True)
class Assigned:
    """Tasks of a placement on one node."""

    node: str
    slots: int
    tasks: IndexRanges


@dataclass(frozen=True, slots=True)
class Placed:
    """A Placement as the hub reads it. Times are Unix seconds, money in the smallest unit."""

    name: str
    namespace: str
    uid: str
    job_uid: str
    job_namespace: str
    job_name: str
    number: int
    """Attempt number of all its tasks."""
    created: int
    assigned: tuple[Assigned, ...]
    tasks: IndexRanges
    released: IndexRanges
    stopped: bool
    stop_reason: str
    gang: bool
    ended: tuple[Ended, ...]
    """One per index, the first report of each."""
    gone: IndexRanges
    """Tasks that ended or were handed back: their slots are free again."""
    refused: bool
    outrun: bool
    """Whether what it could not start was only late: the supply had changed by then."""
    """Whether tasks were handed back for reasons of the provider's own."""
    finished: bool
    running: int
    price: int
    timeout_seconds: int
    payer: str
    account: str
    """The account's "namespace/name"."""
    paid_failure_seconds: int
    """Seconds of own failures that its terms let it charge."""
    request: tuple[tuple[str, int], ...]
    """One task's requests, as `scheduler.snapshot.Shape` has them."""
    payable_seconds: int
    """Seconds of counted attempts with a payable outcome, and elapsed ones, so far."""
    last_words: str
    """What the last failed guest said, in one line."""
    owner: str = ""
    """Who owns the provider, by the terms."""
    replicas: int = 1
    """Most successes of an index that are paid: more than 1 where its tasks are replicated."""
    lane: int = 0
    """Which copy of its tasks it runs."""
    sealed: IndexRanges = EMPTY
    """Counted successes of replicated tasks whose results are not opened yet."""
    votes: Mapping[int, bytes] = field(default_factory=dict)
    """Opened results of replicated tasks; see `hub.replication`."""
    preempted: IndexRanges = EMPTY
    """Tasks that were asked to give way to a job of higher priority."""
    asked: IndexRanges = EMPTY
    """Tasks whose results the agent was asked to open."""
    elapsed: tuple[Elapsed, ...] = ()
    """With interval billing: seconds of its tasks that are final."""
    per_interval: bool = False
    """Whether it is billed so."""

    @property
    def provider(self) -> str:
        """The provider whose namespace it is in."""
        return self.namespace.removeprefix(PROVIDER_NAMESPACE_PREFIX)

    @property
    def counted(self) -> tuple[Ended, ...]:
        """The ended attempts that count: not those of tasks that the hub had taken away."""
        return tuple(one for one in self.ended if one.index not in self.released)

    @property
    def open(self) -> IndexRanges:
        """Tasks that the agent has not reported gone."""
        return EMPTY if self.finished else self.tasks - self.gone

    @property
    def held(self) -> IndexRanges:
        """Tasks that may run nowhere else, as they are this placement's.

        A gang holds all its tasks until its fate is known.
        """
        if self.gang:
            return self.tasks if self.open and not self.released else EMPTY
        return (self.open - self.released) | self.sealed

    def slots_held(self) -> dict[str, int]:
        """Return how many slots it holds on each node: released tasks hold theirs until they are gone."""
        if self.finished:
            return {}
        held: dict[str, int] = {}
        for assigned in self.assigned:
            slots = min(assigned.slots, len(assigned.tasks - self.gone))
            if slots:
                held[assigned.node] = held.get(assigned.node, 0) + slots
        return held


def read(obj: Mapping[str, Any], *, request: tuple[tuple[str, int], ...]) -> Placed:
    """Read a Placement object; `request` are its template's requests (`snapshots.request_of`)."""
    meta, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
    terms = spec["terms"]
    assigned = tuple(
        Assigned(one["node"], one["slots"], parse_optional(one["tasks"])) for one in spec["assignments"]
    )
    tasks = EMPTY
    for one in assigned:
        tasks |= one.tasks
    ended = _ended(status.get("ended") or (), tasks=tasks, attempt=spec["attempt"])
    handed, reasons = _handed_back(status.get("handedBack") or ())
    # A task that was reported both ways has ended: that report carries the money.
    gone = (IndexRanges.of(one.index for one in ended) | handed) & tasks
    released = parse_optional(spec.get("released"))
    sealed, votes = opened(obj, ended, released=released) if terms.get("replicas", 1) > 1 else (EMPTY, {})
    per_interval = terms.get("billing") == "PerInterval"
    elapsed = _elapsed(status.get("elapsed") or (), tasks=tasks) if per_interval else ()
    return Placed(
        name=meta["name"],
        namespace=meta["namespace"],
        uid=meta["uid"],
        job_uid=spec["job"]["uid"],
        job_namespace=spec["job"]["namespace"],
        job_name=spec["job"]["name"],
        number=spec["attempt"],
        created=unix_seconds(meta["creationTimestamp"]),
        assigned=assigned,
        tasks=tasks,
        released=released,
        stopped=spec.get("desired") == "Stop",
        stop_reason=spec.get("stopReason") or "",
        gang=bool(spec.get("gang")),
        ended=ended,
        gone=gone,
        refused=bool(reasons),
        outrun=bool(reasons) and reasons <= SUPPLY_MOVED,
        finished=status.get("state") == "Finished",
        running=int(status.get("running") or 0),
        price=parse_amount(terms["pricePerTaskHour"], decimals=terms["tokenDecimals"]),
        timeout_seconds=terms["taskTimeoutSeconds"],
        payer=terms["account"]["payer"].lower(),
        account=f"{terms['accountNamespace']}/{terms['accountName']}",
        paid_failure_seconds=terms.get("paidFailureSeconds") or 0,
        request=request,
        payable_seconds=payable_seconds(
            (one for one in ended if one.index not in released), stops_of(elapsed)
        ),
        last_words=_last_words(status.get("lastWords") or ()),
        owner=terms.get("ownerId") or "",
        replicas=terms.get("replicas", 1),
        lane=terms.get("replica", 0),
        sealed=sealed,
        votes=votes,
        preempted=parse_optional(spec.get("preempted")),
        asked=parse_optional(spec.get("reveal")),
        elapsed=elapsed,
        per_interval=per_interval,
    )


def _last_words(words: Any) -> str:
    if not words:
        return ""
    last = words[-1]
    code = f" with exit code {last['exitCode']}" if last.get("exitCode") is not None else ""
    said = last.get("log") or last.get("message") or last.get("reason") or ""
    lines = said.strip().splitlines()
    return f"task {last['index']} {last['outcome']}{code}" + (f": {lines[-1][:200]}" if lines else "")


def _ended(texts: Any, *, tasks: IndexRanges, attempt: int) -> tuple[Ended, ...]:
    first: dict[int, Ended] = {}
    for text in texts:
        try:
            one = Ended.parse(text)
        except EndedError:
            continue
        if one.attempt == attempt and one.index in tasks:
            first.setdefault(one.index, one)
    return tuple(first.values())


def _elapsed(texts: Any, *, tasks: IndexRanges) -> tuple[Elapsed, ...]:
    try:
        found = parse_all(texts)
    except ElapsedError:
        return ()
    return found if all(one.start == 0 and not one.tasks - tasks for one in found) else ()


def _handed_back(parts: Any) -> tuple[IndexRanges, frozenset[str]]:
    """Return the tasks handed back, and the reasons that are not our own wish."""
    tasks, reasons = EMPTY, set()
    for part in parts:
        try:
            tasks |= IndexRanges.parse(part["tasks"])
        except RangesError:
            continue
        reasons.add(part.get("reason") or "")
    return tasks, frozenset(reasons - NOT_OUR_DOING)


def most_of(placed: Placed) -> int:
    """Return the most that a placement can still come to: what ended, and all the rest to its time-out.

    A gang's ended tasks stay in: their fate is open.
    """
    unended = placed.open - placed.released
    seconds = placed.payable_seconds + len(unended) * placed.timeout_seconds
    for one in placed.elapsed:  # counted already
        seconds -= one.stop * len(one.tasks & unended)
    return cumulative_amount(total_seconds=seconds, price_per_task_hour=placed.price)


def unstartable(placed: Placed) -> bool:
    """Return whether the provider could not start what it was given: do not come back at once."""
    return placed.refused or _has_unstartable(placed)


def was_only_late(placed: Placed) -> bool:
    """Return whether what could not start there only came too late: the owner was quicker."""
    return placed.outrun and not _has_unstartable(placed)


def _has_unstartable(placed: Placed) -> bool:
    return any(one.outcome is Outcome.UNSTARTABLE for one in placed.counted)
