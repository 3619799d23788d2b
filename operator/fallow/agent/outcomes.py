"""From a guest's facts to its outcome, by the precedence of DESIGN.md section 4.

    1. disrupted before it finished   Reclaimed or Lost (Cancelled when the hub asked for it)
    2. never started                  Unstartable
    3. past its deadline              TimedOut
    4. its own exit code              Succeeded or Failed

Seconds run from the start of a guest's earliest container (initialisation included: it holds the devices
just the same) to the end of its latest one, at least 1 and at most the deadline. A guest of which nothing
ever ran has 0. The digest is that of the first container's termination message.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from fallow.agent.guests import Guest
from fallow.receipts.usage import usage_seconds
from fallow.resources.ended import Ended, Outcome, result_digest
from fallow.resources.placement import LastWords

CLOCK_SKEW = timedelta(seconds=2)
"""A container's end is the node's clock, a disruption the API server's, both cut to whole seconds. Only an
end this long before the disruption counts as earlier; a trainer that exits 0 on SIGTERM must not pass."""
UNSTARTABLE_PATIENCE = timedelta(seconds=60)
"""How long an image pull or the like may go on failing."""
STUCK_DELETION_PATIENCE = timedelta(seconds=60)
"""How long past its grace period a kubelet may take to say that a deleted guest has stopped."""
OVERDUE_SLACK = timedelta(seconds=5)
"""What a kubelet may take beyond a deadline before the agent deletes the guest itself."""
MAX_LAST_WORDS_BYTES = 512
"""Of one guest's message; 32 of them have to fit into one object with everything else."""

_SIGKILLED = 137
_KILLED = (137, 143)  # SIGKILL and SIGTERM, as shells and runtimes report them
_LOST_DISRUPTIONS = ("DeletionByPodGC", "DeletionByDeviceTaintManager")
_HOPELESS_WAITS = ("InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError")
_NEVER_RAN = ("StartError", "ContainerCannotRun")
_NODE_WENT = ("NodeLost", "NodeShutdown", "Shutdown", "Terminated", "Preempting")


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What the agent knows besides the pod itself."""

    now: datetime
    stop_requested: bool = False
    """The hub wants it stopped: Stop, released, or its Placement is gone."""
    node_lost: bool = False
    """Its node is gone, or has been not ready for the setting's time."""
    stopped_for: str = ""
    """Why the agent stopped it, as far as this process knows."""
    gang_fate: Outcome | None = None
    """How the gang ended whose member this is; its other members share that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """One attempt's end, ready to be recorded."""

    ended: Ended
    began_at: datetime
    """Start of its first container, or when it ended if none ever ran."""
    ended_at: datetime
    last_words: LastWords | None = None
    """What it left and why, for everything but a success."""
    result: str = ""
    node: str = ""
    container: str = ""
    """The container that failed, else the first."""
    lines_asked: bool = False
    """Whether its node was asked for its last lines."""


def ending_of(guest: Guest, circumstances: Circumstances) -> Ending | None:
    """Return how the guest ended; None while it waits, runs, or is still being stopped."""
    outcome = _outcome(guest, circumstances)
    if outcome is None:
        return None
    ended_at = guest.finished_at or _disrupted_at(guest) or circumstances.now
    return Ending(
        ended=Ended(
            index=guest.index,
            attempt=guest.attempt,
            seconds=_seconds(guest, ended_at=ended_at),
            outcome=outcome,
            digest=result_digest(guest.result),
        ),
        began_at=min(guest.started_at or ended_at, ended_at),
        ended_at=ended_at,
        last_words=None
        if outcome is Outcome.SUCCEEDED
        else _last_words(guest, outcome, why=circumstances.stopped_for),
        result=guest.result,
        node=guest.node or "",
        container=next((e.container for e in guest.exits if e.code != 0), "") or guest.first_container,
    )


def vanished(guest: Guest, circumstances: Circumstances) -> Ending:
    """Return the end of a guest whose pod is gone before its outcome was recorded.

    Somebody took the finalizer off. What was seen last counts; if it still ran then, nobody knows more.
    """
    known = ending_of(guest, circumstances)
    if known is not None:
        return known
    moment = _disrupted_at(guest) or circumstances.now
    outcome = _disruption(guest, circumstances) if guest.deleting or guest.disruption else Outcome.LOST
    return Ending(
        ended=Ended(guest.index, guest.attempt, _seconds(guest, ended_at=moment), outcome),
        began_at=min(guest.started_at or moment, moment),
        ended_at=moment,
        last_words=LastWords(index=guest.index, outcome=outcome.word, reason="PodVanished"),
    )


def never_bound(guest: Guest) -> bool:
    """Whether it is being deleted without a node, so that it can never start: its task is handed back."""
    return guest.deleting and guest.node is None


def overdue_at(guest: Guest) -> datetime | None:
    """Return when a guest that still runs should have been ended by its kubelet; None if never."""
    deadline = _deadline(guest)
    return None if deadline is None else deadline + OVERDUE_SLACK


def overdue(guest: Guest, *, now: datetime) -> bool:
    """Whether it runs past its deadline although the kubelet should have ended it."""
    due = overdue_at(guest)
    return due is not None and now >= due


def _outcome(guest: Guest, circumstances: Circumstances) -> Outcome | None:
    if never_bound(guest):
        return None
    if guest.finished:
        if _disrupted_before_end(guest):
            return _disruption(guest, circumstances)
        return _own_outcome(guest)
    if circumstances.node_lost:
        return Outcome.LOST if guest.node else None
    if guest.gone_by is not None and circumstances.now >= guest.gone_by + STUCK_DELETION_PATIENCE:
        return _disruption(guest, circumstances)
    if _cannot_start(guest, now=circumstances.now):
        return Outcome.UNSTARTABLE
    return None


def _disrupted_at(guest: Guest) -> datetime | None:
    moments = [m for m in (guest.delete_requested_at, guest.disrupted_at) if m is not None]
    return min(moments, default=None)


def _disrupted_before_end(guest: Guest) -> bool:
    if guest.status_reason in _NODE_WENT:
        return True
    disrupted_at = _disrupted_at(guest)
    if disrupted_at is None:
        return False
    killed = any(e.code in _KILLED and e.reason != "OOMKilled" for e in guest.exits)
    if guest.finished_at is None or killed:
        return True
    return guest.finished_at + CLOCK_SKEW > disrupted_at


def _disruption(guest: Guest, circumstances: Circumstances) -> Outcome:
    """Who disrupted it. The owner's side says so in DisruptionTarget; a bare deletion may be the hub's."""
    if circumstances.node_lost or guest.disruption in _LOST_DISRUPTIONS:
        return Outcome.LOST
    if guest.disruption is not None or guest.status_reason in _NODE_WENT:
        return Outcome.RECLAIMED
    deadline, asked_at = _deadline(guest), guest.delete_requested_at
    if deadline is not None and asked_at is not None and asked_at >= deadline:
        return Outcome.TIMED_OUT
    if circumstances.stop_requested:
        return Outcome.CANCELLED
    return circumstances.gang_fate or Outcome.RECLAIMED


def _own_outcome(guest: Guest) -> Outcome:
    if guest.status_reason == "DeadlineExceeded":
        return Outcome.TIMED_OUT
    if any(e.reason in _NEVER_RAN for e in guest.exits):
        return Outcome.UNSTARTABLE
    if any(e.reason == "ContainerStatusUnknown" for e in guest.exits):
        return Outcome.LOST
    if guest.status_reason == "Evicted":  # for pressure on the node it carries DisruptionTarget
        return Outcome.FAILED
    if guest.started_at is None and guest.phase != "Succeeded":
        return Outcome.UNSTARTABLE  # refused by the kubelet: UnexpectedAdmissionError, OutOfcpu, …
    if any(e.code != 0 for e in guest.exits):
        return Outcome.FAILED
    return Outcome.SUCCEEDED if guest.phase != "Failed" else Outcome.LOST


def _cannot_start(guest: Guest, *, now: datetime) -> bool:
    if not guest.waiting_reason or guest.started_at is not None:
        return False
    since = guest.acknowledged_at or guest.created_at
    return guest.waiting_reason in _HOPELESS_WAITS or now >= since + UNSTARTABLE_PATIENCE


def _deadline(guest: Guest) -> datetime | None:
    begun = guest.acknowledged_at or guest.started_at
    if begun is None or guest.deadline_seconds is None:
        return None
    return begun + timedelta(seconds=guest.deadline_seconds)


def _seconds(guest: Guest, *, ended_at: datetime) -> int:
    if guest.started_at is None:
        return 0
    return usage_seconds(guest.started_at, ended_at, limit_seconds=guest.deadline_seconds or 2**31)


def _last_words(guest: Guest, outcome: Outcome, *, why: str) -> LastWords:
    failed = next((e for e in guest.exits if e.code != 0), None)
    reasons: list[str | None] = [
        guest.disruption,
        guest.status_reason,
        failed.reason if failed else "",
        guest.waiting_reason,
    ]
    said = [guest.status_message, failed.message if failed else "", guest.waiting_message]
    if outcome is Outcome.RECLAIMED:
        said.insert(0, _what_was_done(guest, why=why))
        reasons.insert(1, "StoppedByAgent" if why else "Deleted" if guest.deleting else None)
    return LastWords(
        index=guest.index,
        outcome=outcome.word,
        exit_code=failed.code if failed else None,
        reason=next((r for r in reasons if r), "")[:128],
        message=_clipped("; ".join(part for part in said if part)),
    )


def _what_was_done(guest: Guest, *, why: str) -> str:
    """Say how a guest was made to go: "… ; SIGTERM, ended after 2 s of 30 s grace"."""
    if guest.delete_requested_at is None or guest.gone_by is None:
        return why
    # A kubelet deletes what has stopped once more, with no grace: then only its spec still says how long.
    grace = int((guest.gone_by - guest.delete_requested_at).total_seconds()) or guest.grace_seconds
    done = f"SIGTERM with {grace} s grace"
    if guest.finished_at is not None:
        took = max(0, int((guest.finished_at - guest.delete_requested_at).total_seconds()))
        killed = any(e.code == _SIGKILLED for e in guest.exits)
        done += f", SIGKILL after {took} s" if killed else f", ended after {took} s"
    return f"{why}; {done}" if why else done


def _clipped(text: str) -> str:
    return text.encode()[:MAX_LAST_WORDS_BYTES].decode(errors="ignore")
