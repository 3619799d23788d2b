"""What the agent keeps of a guest pod: the few facts from which its outcome follows.

The watch hands over each pod as the API server sent it; `read_guest` boils it down at once, so that a
thousand guests cost little memory and every later decision is about plain values. Nothing is judged here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from fallow.receipts.requests import Requests, effective_requests
from fallow.resources.naming import (
    FINALIZER_OUTCOME,
    LABEL_ATTEMPT,
    LABEL_INDEX,
    LABEL_PLACEMENT_UID,
)

NODE_ANNOTATION = "fallow.dev/node"
"""The node a guest is pinned to, known before it is bound."""

LAST_DELETE_SECONDS = 8.0
"""How long after the end of a guest's containers its kubelet's last delete may come, where nobody saw the
deletion begin."""
_TERMINAL = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How one container ended."""

    container: str
    code: int
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """One guest pod, as far as the agent cares. Times are whole seconds of the clock that wrote them."""

    name: str
    uid: str
    resource_version: str
    placement_uid: str
    index: int
    attempt: int
    pinned_to: str
    """The node it may run on."""
    node: str | None
    """The node it is bound to; None while it waits for the member's scheduler."""
    phase: str
    held: bool
    """Whether our finalizer still keeps it."""
    other_finalizers: tuple[str, ...] = ()
    grace_seconds: int = 30
    """Its own termination grace period."""
    created_at: datetime
    requests: Requests = field(default_factory=lambda: Requests(cpu_millicores=0, memory_mib=0))
    deadline_seconds: int | None = None
    acknowledged_at: datetime | None = None
    """When the kubelet took it (`status.startTime`); `activeDeadlineSeconds` counts from there."""
    started_at: datetime | None = None
    """Start of its earliest container, initialisation included; None when none ever ran."""
    finished_at: datetime | None = None
    """End of its latest container, once all have ended."""
    exits: tuple[Exit, ...] = ()
    """Its containers' ends, in the order of the spec; failed initialisation comes last."""
    first_container: str = ""
    result: str = ""
    """The first container's termination message: what the task hands back, at most 4 KiB."""
    delete_requested_at: datetime | None = None
    """When somebody asked for its deletion; the grace period starts here."""
    gone_by: datetime | None = None
    """When that grace period is over."""
    disruption: str | None = None
    """Reason of its DisruptionTarget condition."""
    disrupted_at: datetime | None = None
    """When that condition was set."""
    status_reason: str = ""
    status_message: str = ""
    waiting_reason: str = ""
    """Why the first container that cannot start waits: "ImagePullBackOff"."""
    waiting_message: str = ""
    unschedulable: str = ""
    """What the member's scheduler says about why it fits nowhere."""
    unschedulable_since: datetime | None = None
    gated: bool = False
    """Whether something (Kueue) keeps it from the scheduler for now."""

    @property
    def finished(self) -> bool:
        """Whether nothing of it runs any more and its kubelet has said how that came about.

        The phase alone tells: containers can have ended while the reason (a deadline, an eviction) is still
        to come, but a kubelet (from 1.27) sets the last phase only after all of them have.
        """
        return self.phase in _TERMINAL

    @property
    def deleting(self) -> bool:
        """Whether its deletion was asked for."""
        return self.delete_requested_at is not None


def is_guest(pod: Mapping[str, Any]) -> bool:
    """Whether a pod carries all labels of a guest. Its namespace is the caller's to check."""
    labels = pod["metadata"].get("labels") or {}
    return (
        bool(labels.get(LABEL_PLACEMENT_UID))
        and labels.get(LABEL_INDEX, "").isdecimal()
        and labels.get(LABEL_ATTEMPT, "").isdecimal()
    )


def as_first_told(guest: Guest, known: Guest | None) -> Guest:
    """Return `guest` with the deletion as it was first seen: a later delete moves what the pod says of it."""
    if known is None or known.uid != guest.uid or known.delete_requested_at is None:
        return guest
    if guest.delete_requested_at is not None and guest.delete_requested_at <= known.delete_requested_at:
        return guest
    return replace(guest, delete_requested_at=known.delete_requested_at)


def read_guest(pod: Mapping[str, Any]) -> Guest:
    """Return the facts of one guest pod; it has to satisfy `is_guest`."""
    metadata = pod["metadata"]
    labels = metadata["labels"]
    finalizers = metadata.get("finalizers") or ()
    spec = pod.get("spec") or {}
    status = pod.get("status") or {}
    conditions = {c.get("type"): c for c in status.get("conditions") or ()}
    disruption = _if_status(conditions.get("DisruptionTarget"), "True")
    unscheduled = _if_status(conditions.get("PodScheduled"), "False")
    statuses = _in_order(status.get("containerStatuses") or (), spec.get("containers") or ())
    initial = list(status.get("initContainerStatuses") or ())
    waiting: Mapping[str, Any] = next(
        (w for s in [*initial, *statuses] if (w := (s.get("state") or {}).get("waiting")) and _stuck(w)), {}
    )
    finished_at = _latest_end(initial, statuses, expected=len(spec.get("containers") or ()))
    return Guest(
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        placement_uid=labels[LABEL_PLACEMENT_UID],
        index=int(labels[LABEL_INDEX]),
        attempt=int(labels[LABEL_ATTEMPT]),
        pinned_to=(metadata.get("annotations") or {}).get(NODE_ANNOTATION) or spec.get("nodeName") or "",
        node=spec.get("nodeName") or None,
        phase=status.get("phase") or "Pending",
        held=FINALIZER_OUTCOME in finalizers,
        other_finalizers=tuple(f for f in finalizers if f != FINALIZER_OUTCOME),
        grace_seconds=int(spec.get("terminationGracePeriodSeconds") or 30),
        created_at=_time(metadata.get("creationTimestamp")) or datetime.fromtimestamp(0, UTC),
        requests=effective_requests(spec),
        deadline_seconds=spec.get("activeDeadlineSeconds"),
        acknowledged_at=_time(status.get("startTime")),
        started_at=_earliest_start([*initial, *statuses]),
        finished_at=finished_at,
        exits=_exits(initial, statuses),
        first_container=next((c.get("name") or "" for c in spec.get("containers") or ()), ""),
        result=(_ended(statuses[0]) or {}).get("message") or "" if statuses else "",
        delete_requested_at=_delete_requested_at(metadata, finished_at),
        gone_by=_time(metadata.get("deletionTimestamp")),
        disruption=(disruption or {}).get("reason"),
        disrupted_at=_time((disruption or {}).get("lastTransitionTime")),
        status_reason=status.get("reason") or "",
        status_message=status.get("message") or "",
        waiting_reason=waiting.get("reason") or "",
        waiting_message=waiting.get("message") or "",
        unschedulable=(unscheduled or {}).get("message") or "" if not spec.get("nodeName") else "",
        unschedulable_since=_time((unscheduled or {}).get("lastTransitionTime")),
        gated=bool(spec.get("schedulingGates")),
    )


def _if_status(condition: Mapping[str, Any] | None, wanted: str) -> Mapping[str, Any] | None:
    return condition if condition and condition.get("status") == wanted else None


def _stuck(waiting: Mapping[str, Any]) -> bool:
    return waiting.get("reason") not in (None, "", "ContainerCreating", "PodInitializing")


def _in_order(
    statuses: Sequence[Mapping[str, Any]], containers: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Sort statuses as the spec has them: kubelets sort them by name, and "first" is the spec's first."""
    position = {c.get("name"): at for at, c in enumerate(containers)}
    return sorted(statuses, key=lambda s: position.get(s.get("name"), len(position)))


def _ended(status: Mapping[str, Any]) -> Mapping[str, Any] | None:
    ended: Mapping[str, Any] | None = (status.get("state") or {}).get("terminated")
    return ended


def _earliest_start(statuses: Sequence[Mapping[str, Any]]) -> datetime | None:
    starts = []
    for status in statuses:
        state = status.get("state") or {}
        begun = _time((state.get("running") or state.get("terminated") or {}).get("startedAt"))
        if begun is not None and begun.timestamp() > 0:  # a container that never ran "started" in 1970
            starts.append(begun)
    return min(starts, default=None)


def _latest_end(
    initial: Sequence[Mapping[str, Any]], statuses: Sequence[Mapping[str, Any]], *, expected: int
) -> datetime | None:
    """Return the latest end, once every ordinary container has one; sidecars may outlive them."""
    ends = [_ended(s) for s in statuses]
    if len(ends) < expected or not all(ends):
        failed_early = next((e for s in initial if (e := _ended(s)) and e.get("exitCode")), None)
        if failed_early is None or any((s.get("state") or {}).get("running") for s in statuses):
            return None
        ends = [failed_early]
    ends += [_ended(s) for s in initial]
    moments = [m for e in ends if e and (m := _time(e.get("finishedAt"))) is not None and m.timestamp() > 0]
    return max(moments, default=None)


def _exits(initial: Sequence[Mapping[str, Any]], statuses: Sequence[Mapping[str, Any]]) -> tuple[Exit, ...]:
    failed = [s for s in initial if (e := _ended(s)) and e.get("exitCode")]
    return tuple(
        Exit(
            container=s.get("name") or "",
            code=int(ended.get("exitCode") or 0),
            reason=ended.get("reason") or "",
            message=ended.get("message") or "",
        )
        for s in [*statuses, *failed]
        if (ended := _ended(s)) is not None
    )


def _delete_requested_at(metadata: Mapping[str, Any], finished_at: datetime | None) -> datetime | None:
    """Return when the grace period began; `deletionTimestamp` is when it is over.

    A kubelet ends a deletion by deleting again, without grace, once the containers are gone; on a pod with a
    finalizer the API server then moves `deletionTimestamp` to that moment, and when it began is lost. So such
    a deletion soon after the end counts as begun before it: the guest was told to go, whatever its exit code.
    """
    moment = _time(metadata.get("deletionTimestamp"))
    if moment is None:
        return None
    grace_seconds = metadata.get("deletionGracePeriodSeconds") or 0
    if grace_seconds == 0 and finished_at is not None:
        since = (moment - finished_at).total_seconds()
        if 0 <= since <= LAST_DELETE_SECONDS:
            return finished_at
    return moment - timedelta(seconds=grace_seconds)


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
