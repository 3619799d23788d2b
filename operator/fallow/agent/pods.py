"""From a task to its Pod: what the submitter asked for, inside what the owner allows.

The template's own fields are kept; everything that decides where, how long, at which priority and with
which rights it runs is ours and replaces what the template says. Whether a template may run at all is
`admission`'s question; this module only builds.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fallow.agent.gangs import environment, hostname
from fallow.agent.guests import NODE_ANNOTATION
from fallow.agent.isolation import isolating, isolation_for
from fallow.agent.queueing import queue_annotations, queue_labels
from fallow.agent.storage import bound
from fallow.agent.work import Work
from fallow.resources import naming
from fallow.resources.base import API_VERSION
from fallow.resources.computejob import Isolation
from fallow.resources.placement import PlacementSpec
from fallow.resources.quantities import parse_quantity

_NOT_READY_SECONDS = 15
_DEFAULT_GRACE_SECONDS = 30
_RESERVED_DOMAINS = ("kubernetes.io", "k8s.io", "cncf.io", "cilium.io", "projectcalico.org", "istio.io")
"""Keys under these steer other controllers of the member (networks, profiles): a guest must not."""
_KEPT_SECURITY = ("runAsUser", "runAsGroup", "readOnlyRootFilesystem")
_KEPT_POD_SECURITY = ("runAsUser", "runAsGroup", "fsGroup", "fsGroupChangePolicy", "supplementalGroups")
_KEPT_POD_FIELDS = ("volumes",)


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """The owner's side of every guest on this member."""

    namespace: str
    priority_class: str
    max_run_seconds: int
    grace_seconds: int
    """Longest termination grace period, in seconds."""
    not_ready_seconds: int = _NOT_READY_SECONDS
    max_storage_mib: int = 20_480
    """Most ephemeral storage of one guest."""
    isolations: tuple[Isolation, ...] = ("NonRoot",)
    runtime_class: str = ""
    local_queue: str = ""
    """Kueue's queue for guests; "" without Kueue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The GuestSet that controls the pods of one placement."""

    name: str
    uid: str
    placement_uid: str

    def reference(self) -> dict[str, Any]:
        """Return the ownerReference to it."""
        return {
            "apiVersion": API_VERSION,
            "kind": "GuestSet",
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": False,
        }


def guest_pod(work: Work, *, index: int, node: str, owner: Owner, house: House) -> dict[str, Any]:
    """Return the Pod that runs task `index` of a placement on `node`."""
    spec = work.spec
    template = spec.template.wire()
    given = template.get("metadata") or {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": naming.pod_name(owner.placement_uid, index=index, attempt=spec.attempt),
            "namespace": house.namespace,
            "labels": {
                **_passed_on(given.get("labels")),
                naming.LABEL_GUEST: "true",
                naming.LABEL_PLACEMENT_UID: owner.placement_uid,
                naming.LABEL_INDEX: str(index),
                naming.LABEL_ATTEMPT: str(spec.attempt),
                naming.LABEL_JOB_UID: spec.job.uid,
                **({naming.LABEL_GANG: "true"} if spec.gang else {}),
                **queue_labels(work, house.local_queue),
            },
            "annotations": {
                **_passed_on(given.get("annotations")),
                NODE_ANNOTATION: node,
                **queue_annotations(work, house.local_queue),
            },
            "finalizers": [naming.FINALIZER_OUTCOME],
            "ownerReferences": [owner.reference()],
        },
        "spec": _pod_spec(template["spec"], work, index=index, node=node, house=house),
    }


def deadline_seconds(spec: PlacementSpec, house: House) -> int:
    """Return the longest that one attempt of this placement may run here, in seconds."""
    return min(spec.terms.task_timeout_seconds, house.max_run_seconds)


def _pod_spec(given: Mapping[str, Any], work: Work, *, index: int, node: str, house: House) -> dict[str, Any]:
    spec = work.spec
    env = _environment(spec, index=index, house=house)
    gang_env = environment(work, index)
    pod: dict[str, Any] = {name: copy.deepcopy(given[name]) for name in _KEPT_POD_FIELDS if name in given}
    for group in ("initContainers", "containers"):
        if given.get(group):
            pod[group] = [_container(c, env, gang_env) for c in given[group]]
    bound(pod, most_mib=house.max_storage_mib)
    _make_burstable(pod)
    if spec.gang:  # both, or there is no DNS record: rank-3.gang-… is how the others find it
        pod["hostname"], pod["subdomain"] = hostname(work.ranks[index]), naming.gang_name(work.uid)
    asked_grace = given.get("terminationGracePeriodSeconds", _DEFAULT_GRACE_SECONDS)
    kept = {k: v for k, v in (given.get("securityContext") or {}).items() if k in _KEPT_POD_SECURITY}
    isolation = isolation_for(spec.isolation, house.isolations) or "Sandboxed"
    pod |= isolating(isolation, runtime_class=house.runtime_class)
    return pod | {
        "restartPolicy": "Never",
        "priorityClassName": house.priority_class,
        "activeDeadlineSeconds": deadline_seconds(spec, house),
        "terminationGracePeriodSeconds": min(asked_grace, house.grace_seconds),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": kept | {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "affinity": {"nodeAffinity": pinned_to(node)},
        "tolerations": _tolerations(_extended(pod), house.not_ready_seconds),
    }


def pinned_to(node: str) -> dict[str, Any]:
    """Return node affinity to one node.

    Through the scheduler, not around it as `nodeName` would be: owner pods must be counted first.
    """
    return {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
            ]
        }
    }


def _tolerations(devices: Iterable[str], not_ready_seconds: int) -> list[dict[str, Any]]:
    """Nodes with devices are often tainted with the device's name, to keep pods without need for it out."""
    gone = [
        {
            "key": f"node.kubernetes.io/{key}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": not_ready_seconds,
        }
        for key in ("not-ready", "unreachable")
    ]
    return gone + [{"key": d, "operator": "Exists", "effect": "NoSchedule"} for d in sorted(devices)]


def _environment(spec: PlacementSpec, *, index: int, house: House) -> list[dict[str, str]]:
    values = {
        "JOB_COMPLETION_INDEX": str(index),
        "FALLOW_JOB_NAME": spec.job.name,
        "FALLOW_JOB_NAMESPACE": spec.job.namespace,
        "FALLOW_JOB_UID": spec.job.uid,
        "FALLOW_ATTEMPT": str(spec.attempt),
        "FALLOW_PROVIDER": spec.terms.provider,
        "FALLOW_TIMEOUT_SECONDS": str(deadline_seconds(spec, house)),
    }
    return [{"name": name, "value": value} for name, value in values.items()]


def _container(
    given: Mapping[str, Any], env: list[dict[str, str]], defaults: list[dict[str, str]]
) -> dict[str, Any]:
    ours = {e["name"] for e in env}
    theirs = {e.get("name") for e in given.get("env") or ()}
    # How a gang starts is the submitter's to say otherwise: another port, other processes per task.
    env = env + [e for e in defaults if e["name"] not in theirs]
    kept = {k: v for k, v in (given.get("securityContext") or {}).items() if k in _KEPT_SECURITY}
    container = copy.deepcopy(dict(given))
    # Ours come first: the template's variables may refer to them as $(JOB_COMPLETION_INDEX).
    container["env"] = env + [e for e in given.get("env") or () if e.get("name") not in ours]
    container["securityContext"] = kept | {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
    }
    return container


def _make_burstable(pod: dict[str, Any]) -> None:
    """Change as little as makes the pod neither Guaranteed nor BestEffort.

    Guaranteed guests would get CPUs of their own from a static CPU manager, which the owner then misses;
    BestEffort ones would be the kubelet's first victims for anybody's memory. All limits equal to requests:
    the first container's CPU limit grows by 1m. Neither requests nor limits: it requests 1m. The price is
    computed from the template, not from this.
    """
    containers = [*pod.get("initContainers", ()), *pod["containers"]]
    sets = [_quality_resources(c) for c in containers]
    first = pod["containers"][0].setdefault("resources", {})
    if not any(requests or limits for requests, limits in sets):
        first["requests"] = {**(first.get("requests") or {}), "cpu": "1m"}
    elif all(
        {"cpu", "memory"} <= limits.keys() and all(requests.get(k, v) == v for k, v in limits.items())
        for requests, limits in sets
    ):
        limits = dict(first["limits"])
        # An absent request would follow the limit up: fix it where it was.
        first["requests"] = {"cpu": limits["cpu"], **(first.get("requests") or {})}
        limits["cpu"] = f"{int(parse_quantity(limits['cpu']) * 1000) + 1}m"
        first["limits"] = limits


def _quality_resources(container: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """CPU and memory, the only resources that count for the quality of service; zero counts as absent."""
    resources = container.get("resources") or {}

    def of(kind: str) -> dict[str, Any]:
        amounts = {k: parse_quantity(v) for k, v in (resources.get(kind) or {}).items()}
        return {k: v for k, v in amounts.items() if k in ("cpu", "memory") and v > 0}

    return of("requests"), of("limits")


def _extended(pod: Mapping[str, Any]) -> set[str]:
    """Names of the devices requested: `vendor.example/thing`."""
    names: set[str] = set()
    for container in [*pod.get("initContainers", ()), *pod["containers"]]:
        resources = container.get("resources") or {}
        names |= (resources.get("limits") or {}).keys() | (resources.get("requests") or {}).keys()
    return {name for name in names if "/" in name}


def _passed_on(given: Mapping[str, str] | None) -> dict[str, str]:
    return {key: value for key, value in (given or {}).items() if not _reserved(key)}


def _reserved(key: str) -> bool:
    domain, slash, _ = key.rpartition("/")
    if not slash:
        return False
    return domain == "fallow.dev" or any(domain == d or domain.endswith(f".{d}") for d in _RESERVED_DOMAINS)
