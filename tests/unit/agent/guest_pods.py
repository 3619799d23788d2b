"""Guest pods as an API server sends them, built for tables: `a_pod().running(0).ended(40, code=3)`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Self

from fallow.agent.guests import Guest, read_guest

EPOCH = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
UID = "7f3c2a10-93f5-4b6e-8a54-0d7e3b1c9f21"


def at(seconds: float) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


def stamp(seconds: float) -> str:
    return at(int(seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


class APod:
    """A guest pod; second 0 is its creation."""

    def __init__(self, *, index: int = 7, attempt: int = 0, node: str | None = "n1", gpus: int = 1) -> None:
        self.raw: dict[str, Any] = {
            "metadata": {
                "name": f"7f3c2a1093f54b6e-{index}-{attempt}",
                "namespace": "fallow-guests",
                "uid": f"uid-{index}-{attempt}",
                "resourceVersion": "10",
                "creationTimestamp": stamp(0),
                "finalizers": ["fallow.dev/outcome"],
                "labels": {
                    "fallow.dev/placement-uid": UID,
                    "fallow.dev/index": str(index),
                    "fallow.dev/attempt": str(attempt),
                    "fallow.dev/guest": "true",
                },
                "annotations": {"fallow.dev/node": node or "n1"},
            },
            "spec": {
                "containers": [{"name": "main", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}],
                "activeDeadlineSeconds": 100,
            },
            "status": {"phase": "Pending"},
        }
        if node:
            self.raw["spec"]["nodeName"] = node

    def running(self, since: float = 0) -> Self:
        self._status("main", {"running": {"startedAt": stamp(since)}})
        self.raw["status"] |= {"phase": "Running", "startTime": stamp(since)}
        return self

    def ended(self, finished: float, *, started: float = 0, code: int = 0, **more: Any) -> Self:
        ended = {"startedAt": stamp(started), "finishedAt": stamp(finished), "exitCode": code, **more}
        self._status("main", {"terminated": ended})
        self.raw["status"] |= {"phase": "Failed" if code else "Succeeded", "startTime": stamp(started)}
        return self

    def waiting(self, reason: str, message: str = "") -> Self:
        self._status("main", {"waiting": {"reason": reason, "message": message}})
        self.raw["status"]["startTime"] = stamp(0)
        return self

    def failed(self, reason: str, message: str = "") -> Self:
        self.raw["status"] |= {"phase": "Failed", "reason": reason, "message": message}
        return self

    def deleted(self, when: float, *, grace: int = 30) -> Self:
        self.raw["metadata"] |= {
            "deletionTimestamp": stamp(when + grace),
            "deletionGracePeriodSeconds": grace,
        }
        return self

    def disrupted(self, when: float, reason: str = "PreemptionByScheduler") -> Self:
        return self._condition("DisruptionTarget", "True", when, reason=reason)

    def unschedulable(self, when: float, message: str = "0/3 nodes are available") -> Self:
        return self._condition("PodScheduled", "False", when, reason="Unschedulable", message=message)

    def released(self) -> Self:
        self.raw["metadata"]["finalizers"] = []
        return self

    def guest(self) -> Guest:
        return read_guest(self.raw)

    def _status(self, container: str, state: dict[str, Any]) -> None:
        self.raw["status"]["containerStatuses"] = [{"name": container, "state": state}]

    def _condition(self, kind: str, status: str, when: float, **more: str) -> Self:
        condition = {"type": kind, "status": status, "lastTransitionTime": stamp(when), **more}
        self.raw["status"].setdefault("conditions", []).append(condition)
        return self


def a_pod(**more: Any) -> APod:
    return APod(**more)
