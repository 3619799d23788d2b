"""Builders for the hub's pure parts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fallow.hub.placements import Placed, read
from fallow.resources.ended import Ended, Outcome
from fallow.resources.ranges import IndexRanges

JSON = dict[str, Any]
CREATED = "2026-01-01T00:00:00Z"
CREATED_UNIX = 1_767_225_600
GPU = "nvidia.com/gpu"


def ended(index: int, outcome: str = "S", *, attempt: int = 0, seconds: int = 10) -> str:
    return str(Ended(index, attempt, seconds, Outcome(outcome)))


def a_placement(
    tasks: str = "0-3",
    *,
    number: int = 0,
    provider: str = "aurora",
    node: str = "n0",
    slots: int = 8,
    reports: Iterable[str] = (),
    handed_back: Iterable[tuple[str, str]] = (),
    released: str = "",
    state: str = "Running",
    running: int = 0,
    gang: bool = False,
    desired: str = "Run",
    stop_reason: str | None = None,
    price: str = "3.6",
    timeout: int = 600,
    paid_failure_seconds: int = 1000,
    job_uid: str = "uid-of-job",
    elapsed: Iterable[str] | None = None,
) -> JSON:
    """A Placement object as the API server has it; 3.6 an hour is 0.001 a second.

    With `elapsed` it is billed by intervals of 60 s.
    """
    spec: JSON = {
        "job": {"namespace": "default", "name": "job", "uid": job_uid},
        "attempt": number,
        "term": 1,
        "template": {"spec": {"containers": []}},
        "assignments": [{"node": node, "slots": slots, "tasks": tasks}],
        "released": released,
        "desired": desired,
        "gang": gang,
        "terms": {
            "pricePerTaskHour": price,
            "tokenDecimals": 6,
            "taskTimeoutSeconds": timeout,
            "account": {"payer": "0x" + 40 * "A"},
            "accountNamespace": "default",
            "accountName": "default",
            "paidFailureSeconds": paid_failure_seconds,
        },
    }
    if stop_reason:
        spec["stopReason"] = stop_reason
    if elapsed is not None:
        spec["terms"] |= {"billing": "PerInterval", "intervalSeconds": 60}
    return {
        "metadata": {
            "name": f"job-{number}",
            "namespace": f"provider-{provider}",
            "uid": f"uid-{number}",
            "creationTimestamp": CREATED,
            "resourceVersion": "1",
        },
        "spec": spec,
        "status": {
            "ended": list(reports),
            "handedBack": [{"tasks": tasks, "reason": reason} for tasks, reason in handed_back],
            "state": state,
            "running": running,
            "elapsed": list(elapsed or ()),
        },
    }


def placed(tasks: str = "0-3", **fields: Any) -> Placed:
    """The same, read."""
    return read(a_placement(tasks, **fields), request=((GPU, 1), ("pods", 1)))


def ranges(text: str) -> IndexRanges:
    return IndexRanges.parse(text)


def a_job(**spec: Any) -> JSON:
    """A ComputeJob object that the hub takes."""
    resources = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {GPU: 1}}
    container = {"name": "main", "image": "registry.example/x:1", "resources": resources}
    return {
        "apiVersion": "fallow.dev/v1alpha1",
        "kind": "ComputeJob",
        "metadata": {
            "name": "job",
            "namespace": "default",
            "uid": "uid-of-job",
            "generation": 1,
            "resourceVersion": "1",
            "creationTimestamp": CREATED,
        },
        "spec": {"tasks": 4, "template": {"spec": {"containers": [container]}}, **spec},
    }
