"""Everything that ever happened to guest pods on a member, as its own API server told it.

A watch from the first resourceVersion on, so that no state between two samples is missed: what a test
says about capacity or about a task that ran twice rests on these events, not on Fallow's word.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections import defaultdict
from typing import Any, Self

from devkit.rig import ApiError, MemberPlane

Json = dict[str, Any]
PODS = "/api/v1/namespaces/fallow-guests/pods"
_BROKEN = (OSError, http.client.HTTPException, ApiError)


class PodLog:
    """Follows one member's guest pods in a thread, from `__enter__` on."""

    def __init__(self, member: MemberPlane) -> None:
        self._client = member.client()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._stopping = threading.Event()
        self._position = ""
        self.events: list[tuple[str, Json]] = []
        """(ADDED | MODIFIED | DELETED, pod), in the API server's order."""

    def __enter__(self) -> Self:
        self._list()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()

    def _follow(self) -> None:
        while not self._stopping.is_set():
            try:
                for event in self._client.watch(
                    PODS, resourceVersion=self._position, allowWatchBookmarks="true", timeoutSeconds="25"
                ):
                    if event["type"] == "ERROR":  # the position is too old for a restarted API server
                        self._list()
                        break
                    self._position = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        self.events.append((event["type"], event["object"]))
            except _BROKEN:
                time.sleep(0.05)  # the API server restarts: go on from where we were

    def _list(self) -> None:
        """Take in everything there is, and what went away unseen."""
        listed = self._client.get(PODS)
        present = {pod["metadata"]["uid"] for pod in listed["items"]}
        for uid, (kind, pod) in self._last().items():
            if kind != "DELETED" and uid not in present:
                self.events.append(("DELETED", pod))
        self.events += [("ADDED", pod) for pod in listed["items"]]
        self._position = listed["metadata"]["resourceVersion"]

    def catch_up(self) -> None:
        """Return once every event up to now has been seen."""

        def caught_up() -> bool:
            there = {
                pod["metadata"]["uid"]: pod["status"].get("phase") for pod in self._client.get(PODS)["items"]
            }
            seen = {
                uid: pod["status"].get("phase")
                for uid, (kind, pod) in self._last().items()
                if kind != "DELETED"
            }
            return there == seen

        self._client.until("the watch on the member's pods to catch up", caught_up, seconds=60)

    def _last(self) -> dict[str, tuple[str, Json]]:
        return {pod["metadata"]["uid"]: (kind, pod) for kind, pod in list(self.events)}

    def most_gpus_in_use(self) -> dict[str, int]:
        """Return for each node the most GPUs that its unfinished pods ever held at once."""
        now: dict[str, dict[str, int]] = defaultdict(dict)
        most: dict[str, int] = defaultdict(int)
        for kind, pod in list(self.events):
            node = pod["spec"].get("nodeName")
            if node is None:
                continue
            uid = pod["metadata"]["uid"]
            if kind == "DELETED" or pod["status"].get("phase") in ("Succeeded", "Failed"):
                now[node].pop(uid, None)
            else:
                now[node][uid] = _gpus(pod)
            most[node] = max(most[node], sum(now[node].values()))
        return dict(most)

    def pods_of(self, job_uid: str) -> dict[int, set[str]]:
        """Return the UIDs of all pods that ever were, by task index of this job."""
        pods: dict[int, set[str]] = defaultdict(set)
        for _, pod in list(self.events):
            if pod["metadata"]["labels"].get("fallow.dev/job-uid") == job_uid:
                pods[int(pod["metadata"]["labels"]["fallow.dev/index"])].add(pod["metadata"]["uid"])
        return dict(pods)

    def succeeded(self, job_uid: str) -> dict[int, set[str]]:
        """Return the UIDs of pods that ended Succeeded, by task index of this job."""
        pods: dict[int, set[str]] = defaultdict(set)
        for _, pod in list(self.events):
            labels = pod["metadata"]["labels"]
            if labels.get("fallow.dev/job-uid") == job_uid and pod["status"].get("phase") == "Succeeded":
                pods[int(labels["fallow.dev/index"])].add(pod["metadata"]["uid"])
        return dict(pods)


def _gpus(pod: Json) -> int:
    return sum(
        int(container.get("resources", {}).get("limits", {}).get("nvidia.com/gpu", 0))
        for container in pod["spec"]["containers"]
    )
