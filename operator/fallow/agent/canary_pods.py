"""The pods of a canary run, as they are made and as they are read back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fallow.agent.nodes import Node
from fallow.agent.pods import pinned_to
from fallow.resources import naming
from fallow.resources.offer import CAGE_CHECKS, CageFinding

POOL_ANNOTATION = "fallow.dev/canary-pool"
UNDER_ANNOTATION = "fallow.dev/canary-under"
LISTEN, PROBE = "listen", "probe"
_LIMIT_SECONDS = 120
_PORT = 7070


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryPod:
    """The facts of one."""

    name: str
    uid: str
    role: str
    pool: str
    under: str
    """The conditions under which it was started."""
    node: str
    created_at: datetime
    ready: bool
    finished: bool
    deleting: bool
    address: str = ""
    host_address: str = ""
    message: str = ""
    """The termination message; why it waits or failed where there is none."""


def canary_name(pool: str, under: str, role: str) -> str:
    """Return the name of a canary's pod: the same for the same purpose, whoever starts it."""
    return f"canary-{hashlib.sha256(f'{pool} {under}'.encode()).hexdigest()[:12]}-{role}"


def canary_pod(
    *,
    role: str,
    pool: str,
    under: str,
    node: Node,
    namespace: str,
    image: str,
    priority_class: str,
    arguments: Sequence[str] = (),
) -> dict[str, Any]:
    """Return a canary's pod: what a guest is, with our own image."""
    container: dict[str, Any] = {
        "name": "canary",
        "image": image,
        "args": ["canary", role, *arguments],
        "env": [{"name": "FALLOW_HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}],
        "resources": {
            "requests": {"cpu": "10m", "memory": "32Mi", "ephemeral-storage": "0"},
            "limits": {"memory": "512Mi", "ephemeral-storage": "64Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    if role == LISTEN:
        container["readinessProbe"] = {"tcpSocket": {"port": _PORT}, "periodSeconds": 1}
    return {
        "metadata": {
            "name": canary_name(pool, under, role),
            "namespace": namespace,
            "labels": {naming.LABEL_CANARY: role},
            "annotations": {POOL_ANNOTATION: pool, UNDER_ANNOTATION: under},
        },
        "spec": {
            "containers": [container],
            "restartPolicy": "Never",
            "priorityClassName": priority_class,
            "activeDeadlineSeconds": _LIMIT_SECONDS,
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "affinity": {"nodeAffinity": pinned_to(node.name)},
            "tolerations": [
                {"key": device, "operator": "Exists", "effect": "NoSchedule"}
                for device in sorted(node.allocatable.accelerators)
            ],
        },
    }


def is_canary(pod: Mapping[str, Any]) -> bool:
    """Whether a pod of the guest namespace is a canary's."""
    return naming.LABEL_CANARY in (pod["metadata"].get("labels") or {})


def read_canary(pod: Mapping[str, Any]) -> CanaryPod:
    """Return the facts of a canary's pod."""
    metadata, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    annotations = metadata.get("annotations") or {}
    state: Mapping[str, Any] = next((s.get("state") or {} for s in status.get("containerStatuses") or ()), {})
    ended, waits = state.get("terminated") or {}, state.get("waiting") or {}
    conditions = {c.get("type"): c for c in status.get("conditions") or ()}
    said = (
        ended.get("message")
        or status.get("message")
        or waits.get("message")
        or (conditions.get("PodScheduled") or {}).get("message")
        or ""
    )
    return CanaryPod(
        name=metadata["name"],
        uid=metadata["uid"],
        role=metadata["labels"][naming.LABEL_CANARY],
        pool=annotations.get(POOL_ANNOTATION, ""),
        under=annotations.get(UNDER_ANNOTATION, ""),
        node=spec.get("nodeName") or "",
        created_at=datetime.fromisoformat(metadata["creationTimestamp"]),
        ready=(conditions.get("Ready") or {}).get("status") == "True",
        finished=status.get("phase") in ("Succeeded", "Failed"),
        deleting=bool(metadata.get("deletionTimestamp")),
        address=status.get("podIP") or "",
        host_address=status.get("hostIP") or "",
        message=said,
    )


def read_findings(message: str) -> tuple[CageFinding, ...]:
    """Return what a canary's message says it reached. Raises ValueError when it is no such message."""
    found = json.loads(message)
    if not isinstance(found, dict) or found.get("version") != 1 or not isinstance(found.get("reached"), dict):
        raise ValueError("not a canary's message of version 1")
    return tuple(
        CageFinding(check=check, found=str(words)[:300])
        for check, words in found["reached"].items()
        if check in CAGE_CHECKS
    )
