"""What must be true between the steps, read from the clusters' own API servers and nodes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from devkit.errors import RigError
from devkit.rig import ApiError
from devkit.rig.bare import Cluster
from fallow.resources.ended import Ended, Outcome

Json = dict[str, Any]
API = "/apis/fallow.dev/v1alpha1"
GUESTS = "/api/v1/namespaces/fallow-guests/pods"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
SECONDS = 240.0


def provider_is(hub: Cluster, name: str, condition: str) -> None:
    """Wait until a condition of a Provider holds."""
    _until(hub, f"{name} to be {condition}", f"{API}/providers/{name}", lambda now: _true(now, condition))


def probe_sees(member: Cluster, *, gpus: int) -> None:
    """Wait until the probe has written what it sees on the node."""

    def sees(node: Json) -> bool:
        written = node["metadata"].get("annotations", {}).get("fallow.dev/probe")
        return bool(written) and len(json.loads(written)["devices"]) == gpus

    _until(member, "the probe's annotation", f"/api/v1/nodes/{member.node.name}", sees)


def settled(hub: Cluster, job: Json) -> None:
    """Wait until a job is paid."""
    _until(hub, "the job to settle", _job(job), lambda now: _true(now, "Settled"))


def waits(hub: Cluster, job: Json) -> None:
    """Wait until every task of a job waits again and none runs anywhere."""

    def all_wait(now: Json) -> bool:
        counts = now["status"]["counts"]
        return bool(counts["pending"] == job["spec"]["tasks"] and not counts["running"])

    _until(hub, "the job to wait for another provider", _job(job), all_wait)


def each_index_once(hub: Cluster, job: Json) -> None:
    """Read the claims: no attempt twice, each index has succeeded once and ran once."""
    claims = _of(hub.client().get(f"{API}/paymentclaims"), job)
    every = [Ended.parse(text) for claim in claims for text in claim["spec"]["ended"]]
    attempts = [(one.index, one.attempt) for one in every]
    assert len(attempts) == len(set(attempts)), "an attempt was claimed twice"
    won = sorted(one.index for one in every if one.outcome is Outcome.SUCCEEDED)
    assert won == list(range(job["spec"]["tasks"])), f"indexes that succeeded: {won}"
    assert len(every) == job["spec"]["tasks"], f"a task ran more than once: {every}"


def archive_has_bundle(hub: Cluster) -> None:
    """Look for what the settler has written to the volume that the chart claims."""
    files = [path for path in (hub.node.directory / "archive").rglob("*") if path.is_file()]
    assert files, "the archive's volume is empty"


def running_guests(member: Cluster, job: Json, *, count: int) -> list[Json]:
    """Wait until so many guests of a job run; return them."""
    _until(member, f"{count} guests", GUESTS, lambda listed: len(_running(listed, job)) == count)
    return _running(member.client().get(GUESTS), job)


def same_guests(member: Cluster, job: Json, before: list[Json]) -> None:
    """Compare guests with those of before: the same pods, and no container started again."""
    assert _identity(_running(member.client().get(GUESTS), job)) == _identity(before)


def node_is_clean(member: Cluster) -> None:
    """Look for what Fallow left on the member: pods, the node's annotations and taints, namespaces."""
    client = member.client()
    assert not client.get(GUESTS)["items"]
    _until(
        member,
        "the last pod of Fallow to end",
        "/api/v1/pods",
        lambda listed: {pod["metadata"]["namespace"] for pod in listed["items"]} == {"kube-system"},
    )
    node = client.get(f"/api/v1/nodes/{member.node.name}")
    left = [key for key in node["metadata"].get("annotations", {}) if "fallow.dev" in key]
    assert not left, f"annotations stay on the node: {left}"
    assert not node["spec"].get("taints"), node["spec"].get("taints")
    namespaces_can_go(member, "fallow-guests", "fallow-system")


def what_is_kept(hub: Cluster) -> dict[str, list[str]]:
    """Return the names of kinds, jobs, claims and settlements on the hub."""
    client = hub.client()

    def names(path: str) -> list[str]:
        return sorted(item["metadata"]["name"] for item in client.get(path)["items"])

    paths = {kind: f"{API}/{kind}" for kind in ("computejobs", "paymentclaims", "settlements", "accounts")}
    kept = {kind: names(path) for kind, path in paths.items()}
    kept["kinds"] = [name for name in names(CRDS) if name.endswith("fallow.dev")]
    assert all(kept.values()), kept
    return kept


def namespaces_can_go(cluster: Cluster, *names: str) -> None:
    """Delete namespaces; nothing of Fallow may hold them."""
    for name in names:
        cluster.kubectl("delete", "namespace", name, "--timeout=60s")


def _until(cluster: Cluster, what: str, path: str, done: Callable[[Json], bool]) -> None:
    client = cluster.client()
    deadline = time.monotonic() + SECONDS
    seen: Json = {}
    while True:
        try:
            seen = client.get(path)
            if done(seen):
                return
        except (ApiError, OSError):
            pass  # not there yet
        if time.monotonic() > deadline:
            status = json.dumps(seen.get("status", {}))[:1500]
            raise RigError(f"Waited {SECONDS:.0f} s for {what} in vain: {status}")
        time.sleep(0.2)


def _job(job: Json) -> str:
    return f"{API}/namespaces/default/computejobs/{job['metadata']['name']}"


def _of(listed: Json, job: Json) -> list[Json]:
    return [claim for claim in listed["items"] if claim["spec"]["job"]["uid"] == job["metadata"]["uid"]]


def _running(listed: Json, job: Json) -> list[Json]:
    return [
        pod
        for pod in listed["items"]
        if pod["metadata"]["labels"].get("fallow.dev/job-uid") == job["metadata"]["uid"]
        and pod["status"].get("phase") == "Running"
        and "deletionTimestamp" not in pod["metadata"]
    ]


def _identity(pods: list[Json]) -> set[tuple[str, int, str]]:
    return {
        (pod["metadata"]["uid"], status["restartCount"], status["containerID"])
        for pod in pods
        for status in pod["status"]["containerStatuses"]
    }


def _true(thing: Json, condition: str) -> bool:
    conditions = (thing.get("status") or {}).get("conditions") or []
    return any(entry["type"] == condition and entry["status"] == "True" for entry in conditions)
