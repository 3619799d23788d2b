"""Which pod template fields a guest may set: everything else is named and refused.

An allow-list, because tomorrow's Kubernetes has fields that nobody has judged yet. The table is written like
the template itself: a mapping allows these keys, `Each` a list of such things, `Free` any value, a function
judges the value and says in one sentence what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Judge = Callable[[Any], str]
"""Returns what is wrong with a value, or ""."""


@dataclass(frozen=True, slots=True)
class Each:
    """A list whose items all follow one rule; at most `most` of them."""

    rule: Rule
    most: int = 64


Rule = Mapping[str, Any] | Each | Judge


def free(_value: Any) -> str:
    """Accept anything: the agent and the member's API server judge it."""
    return ""


def text(value: Any) -> str:
    """Accept a string."""
    return "" if isinstance(value, str) else "must be a string"


def only(*allowed: Any) -> Judge:
    """Accept exactly these values."""
    listed = " or ".join(str(value).lower() if isinstance(value, bool) else str(value) for value in allowed)

    def judge(value: Any) -> str:
        # NB: True == 1 in Python, but not in a pod.
        fine = any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in allowed)
        return "" if fine else f"must be {listed}"

    return judge


def whole(least: int, most: int) -> Judge:
    """Accept whole numbers of a range."""

    def judge(value: Any) -> str:
        fine = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        return "" if fine else f"must be a whole number from {least} to {most}"

    return judge


def _non_root(value: Any) -> str:
    return "" if isinstance(value, int) and value > 0 else "must be a user or group other than 0 (root)"


_FIELD_REFS = only(
    "metadata.name", "metadata.namespace", "metadata.uid", "status.podIP",
    "metadata.labels['fallow.dev/index']", "metadata.labels['fallow.dev/attempt']",
)  # fmt: skip

_SECCOMP: Rule = {"type": only("RuntimeDefault")}

_POD_SECURITY: Rule = {
    "runAsNonRoot": only(True),
    "runAsUser": _non_root,
    "runAsGroup": _non_root,
    "fsGroup": _non_root,
    "fsGroupChangePolicy": only("OnRootMismatch", "Always"),
    "supplementalGroups": Each(_non_root),
    "seccompProfile": _SECCOMP,
}

_CONTAINER_SECURITY: Rule = {
    "runAsNonRoot": only(True),
    "runAsUser": _non_root,
    "runAsGroup": _non_root,
    "allowPrivilegeEscalation": only(False),
    "privileged": only(False),
    "readOnlyRootFilesystem": only(True, False),
    "capabilities": {"drop": Each(text)},
    "seccompProfile": _SECCOMP,
}

_CONTAINER: Rule = {
    "name": text,
    "image": text,
    "imagePullPolicy": only("IfNotPresent", "Always"),
    "command": Each(text, most=1024),
    "args": Each(text, most=1024),
    "workingDir": text,
    "env": Each(
        {
            "name": text,
            "value": text,
            "valueFrom": {"fieldRef": {"apiVersion": text, "fieldPath": _FIELD_REFS}},
        },
        most=256,
    ),
    "ports": Each({"name": text, "containerPort": whole(1, 65_535), "protocol": only("TCP", "UDP")}),
    "resources": {"requests": free, "limits": free},
    "volumeMounts": Each({"name": text, "mountPath": text, "subPath": text, "readOnly": only(True, False)}),
    "terminationMessagePath": text,
    "terminationMessagePolicy": only("File", "FallbackToLogsOnError"),
    "securityContext": _CONTAINER_SECURITY,
    "stdin": only(False),
    "tty": only(False),
}

TEMPLATE: Rule = {
    "metadata": {"labels": free, "annotations": free},
    "spec": {
        "containers": Each(_CONTAINER, most=8),
        "volumes": Each(
            {"name": text, "emptyDir": {"medium": only("", "Memory"), "sizeLimit": free}}, most=16
        ),
        "restartPolicy": only("Never"),
        "terminationGracePeriodSeconds": whole(0, 60),
        "securityContext": _POD_SECURITY,
        "enableServiceLinks": only(False),
        "automountServiceAccountToken": only(False),
    },
}
"""What a guest's template may hold."""

WHY_NOT: Mapping[str, str] = {
    "hostNetwork": "guests never share the node's network",
    "hostPID": "guests never see the node's processes",
    "hostIPC": "guests never share the node's memory",
    "hostPath": "guests never see the node's files; use emptyDir",
    "serviceAccountName": "guests get no identity on the member",
    "serviceAccount": "guests get no identity on the member",
    "initContainers": "a task is its containers; do the preparation in the first one",
    "nodeSelector": "the hub chooses nodes; use spec.requirements",
    "nodeName": "the hub chooses nodes; use spec.requirements",
    "affinity": "the hub chooses nodes; use spec.requirements",
    "tolerations": "the hub chooses nodes; use spec.requirements",
    "schedulerName": "the hub chooses nodes; use spec.requirements",
    "priorityClassName": "guests always give way to the owner; use spec.priority",
    "priority": "guests always give way to the owner; use spec.priority",
    "activeDeadlineSeconds": "use spec.taskTimeoutSeconds",
    "secretKeyRef": "the member has no secrets of yours",
    "configMapKeyRef": "the member has no ConfigMaps of yours",
    "envFrom": "the member has no ConfigMaps or secrets of yours",
}
"""What to say beyond "is not allowed" of fields that people are used to."""


def faults(value: Any, rule: Rule = TEMPLATE, path: str = "spec.template") -> Iterator[str]:
    """Yield one sentence for every path that the rule does not allow."""
    if isinstance(rule, Each):
        if not isinstance(value, list | tuple):
            yield f"{path} must be a list"
        elif len(value) > rule.most:
            yield f"{path} has {len(value)} entries; at most {rule.most} are allowed"
        else:
            for at, item in enumerate(value):
                yield from faults(item, rule.rule, f"{path}[{at}]")
    elif isinstance(rule, Mapping):
        if not isinstance(value, Mapping):
            yield f"{path} must be an object"
            return
        for key, inner in value.items():
            if key in rule:
                yield from faults(inner, rule[key], f"{path}.{key}")
            else:
                why = WHY_NOT.get(key)
                yield f"{path}.{key} is not allowed" + (f": {why}" if why else "")
    else:
        wrong = rule(value)
        if wrong:
            yield f"{path} {wrong}"
