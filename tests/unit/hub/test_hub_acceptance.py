"""Bad input: each path at fault in one sentence that says what to change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.hub.acceptance import judge, problem_of_account, request_of
from fallow.hub.template_rules import TEMPLATE, faults
from unit.hub.builders import CREATED_UNIX, GPU, a_job

JSON = dict[str, Any]


def pod(job: JSON) -> JSON:
    found: JSON = job["spec"]["template"]["spec"]
    return found


def container(job: JSON) -> JSON:
    found: JSON = pod(job)["containers"][0]
    return found


CONTAINER = "spec.template.spec.containers[0]"
REFUSED: dict[str, tuple[Callable[[JSON], object], str]] = {
    "host network": (
        lambda job: pod(job).update(hostNetwork=True),
        "spec.template.spec.hostNetwork is not allowed: guests never share the node's network",
    ),
    "host path": (
        lambda job: pod(job).update(volumes=[{"name": "v", "hostPath": {"path": "/"}}]),
        "spec.template.spec.volumes[0].hostPath is not allowed: guests never see the node's files",
    ),
    "service account": (
        lambda job: pod(job).update(serviceAccountName="admin"),
        "spec.template.spec.serviceAccountName is not allowed",
    ),
    "init containers": (
        lambda job: pod(job).update(initContainers=[]),
        "spec.template.spec.initContainers is not allowed",
    ),
    "privileged": (
        lambda job: container(job).update(securityContext={"privileged": True}),
        f"{CONTAINER}.securityContext.privileged must be false",
    ),
    "root": (
        lambda job: container(job).update(securityContext={"runAsUser": 0}),
        f"{CONTAINER}.securityContext.runAsUser must be a user or group other than 0",
    ),
    "added capabilities": (
        lambda job: container(job).update(securityContext={"capabilities": {"add": ["SYS_ADMIN"]}}),
        f"{CONTAINER}.securityContext.capabilities.add is not allowed",
    ),
    "number for a truth": (
        lambda job: container(job).update(securityContext={"runAsNonRoot": 1}),
        f"{CONTAINER}.securityContext.runAsNonRoot must be true",
    ),
    "misspelt field": (
        lambda job: container(job).update(comand=["x"]),
        f"{CONTAINER}.comand is not allowed",
    ),
    "secret in the environment": (
        lambda job: container(job).update(env=[{"name": "K", "valueFrom": {"secretKeyRef": {"name": "s"}}}]),
        f"{CONTAINER}.env[0].valueFrom.secretKeyRef is not allowed: the member has no secrets of yours",
    ),
    "node's name in the environment": (
        lambda job: container(job).update(
            env=[{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]
        ),
        f"{CONTAINER}.env[0].valueFrom.fieldRef.fieldPath must be metadata.name or",
    ),
    "restart policy": (
        lambda job: pod(job).update(restartPolicy="Always"),
        "spec.template.spec.restartPolicy must be Never",
    ),
    "node selector": (
        lambda job: pod(job).update(nodeSelector={}),
        "spec.template.spec.nodeSelector is not allowed: the hub chooses nodes; use spec.requirements",
    ),
    "GPUs requested without limits": (
        lambda job: container(job).update(resources={"requests": {GPU: 1}}),
        f"{CONTAINER}.resources.limits must have {GPU} too",
    ),
    "GPU request and limit differ": (
        lambda job: container(job).update(resources={"requests": {GPU: 1}, "limits": {GPU: 2}}),
        f"{GPU} must be the same in requests and limits",
    ),
    "half a GPU": (
        lambda job: container(job).update(resources={"limits": {GPU: "500m"}}),
        f"{CONTAINER}.resources.limits.{GPU} must be a whole number",
    ),
    "no quantity": (
        lambda job: container(job).update(resources={"requests": {"cpu": "a lot"}}),
        f"{CONTAINER}.resources.requests.cpu: 'a lot' is no quantity",
    ),
    "negative quantity": (
        lambda job: container(job).update(resources={"requests": {"cpu": "-1"}}),
        f"{CONTAINER}.resources.requests.cpu must not be negative",
    ),
    "unknown resource": (
        lambda job: container(job).update(resources={"limits": {"gpus": 1}}),
        "gpus is no resource that a guest can have",
    ),
    "mount of a volume that is not there": (
        lambda job: container(job).update(volumeMounts=[{"name": "data", "mountPath": "/data"}]),
        "spec.template.spec.volumes has no 'data'",
    ),
    "reserved label": (
        lambda job: job["spec"]["template"].update(metadata={"labels": {"fallow.dev/guest": "false"}}),
        "spec.template.metadata.labels.fallow.dev/guest is reserved",
    ),
    "owner's name on a pod": (
        lambda job: job["spec"]["template"].update(metadata={"ownerReferences": []}),
        "spec.template.metadata.ownerReferences is not allowed",
    ),
    "a price that is no decimal": (
        lambda job: job["spec"].update(budget={"maxPricePerTaskHour": "1,80"}),
        "spec",
    ),
    "a price finer than the token": (
        lambda job: job["spec"].update(budget={"maxTotal": "0.0000001"}),
        "spec.budget.maxTotal: '0.0000001' has more than the 6 decimal places",
    ),
    "a name too long": (
        lambda job: job["metadata"].update(name="n" * 64),
        "metadata.name must be at most 63 characters",
    ),
    "a gang too large": (
        lambda job: job["spec"].update(gang=True, tasks=1025),
        "spec.tasks of a gang must be at most 1024",
    ),
    "a gang that may not run at once": (
        lambda job: job["spec"].update(gang=True, tasks=4, parallelism=2),
        "spec.parallelism of a gang must not be below spec.tasks",
    ),
    "no containers": (lambda job: pod(job).update(containers=[]), "spec does not fit its schema"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_judge__bad_input__names_the_path(case: str) -> None:
    change, want = REFUSED[case]
    job = a_job()
    change(job)
    verdict = judge(job, decimals=6)
    assert not verdict.accepted
    assert want in verdict.message
    assert len(verdict.message) <= 1024


def test_judge__several_faults__names_each() -> None:
    job = a_job()
    pod(job).update(hostNetwork=True, hostPID=True)
    container(job)["tty"] = True
    message = judge(job, decimals=6).message
    assert "spec.template.spec.hostNetwork" in message
    assert "spec.template.spec.hostPID" in message
    assert f"{CONTAINER}.tty must be false" in message


def test_judge__a_hundred_faults__says_how_many_more() -> None:
    job = a_job()
    container(job).update({f"wrong{n}": 1 for n in range(100)})
    assert judge(job, decimals=6).message.endswith("and 92 more.")


def test_judge__everything_that_is_allowed__is_accepted() -> None:
    job = a_job(budget={"maxTotal": "100", "maxPricePerTaskHour": "2.5"}, parallelism=2, priority=3)
    job["spec"]["template"]["metadata"] = {"labels": {"team": "x"}, "annotations": {"rig.example/run": "1"}}
    pod(job).update(
        volumes=[{"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}],
        restartPolicy="Never",
        terminationGracePeriodSeconds=30,
        securityContext={
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    )
    container(job).update(
        command=["python", "-c", "print(1)"],
        args=["x"],
        workingDir="/work",
        env=[
            {"name": "A", "value": "b"},
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ],
        ports=[{"containerPort": 8080}],
        volumeMounts=[{"name": "scratch", "mountPath": "/scratch"}],
        terminationMessagePolicy="FallbackToLogsOnError",
        securityContext={"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    )
    verdict = judge(job, decimals=6)
    assert verdict.accepted, verdict.message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("name", "image", "spec", "containers", "env", "x")), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_judge__any_template_at_all__answers_and_never_raises(value: Any) -> None:
    job = a_job()
    job["spec"]["template"]["spec"] = value
    assert not judge(job, decimals=6).accepted


@given(json_values)
def test_judge__anything_inside_a_container__answers_and_never_raises(value: Any) -> None:
    for key in ("resources", "env", "volumeMounts", "securityContext", "command"):
        job = a_job()
        container(job)[key] = value
        judge(job, decimals=6)


@given(st.dictionaries(st.text(min_size=1, max_size=20), json_values, min_size=1, max_size=3))
def test_faults__keys_that_nobody_allowed__are_all_named(strange: dict[str, Any]) -> None:
    allowed = {"containers", "volumes", "restartPolicy", "terminationGracePeriodSeconds"}
    allowed |= {"securityContext", "enableServiceLinks", "automountServiceAccountToken"}
    named = list(faults({"spec": strange}, TEMPLATE))
    for key in strange.keys() - allowed:
        assert any(text.startswith(f"spec.template.spec.{key} is not allowed") for text in named)


def test_request_of__containers_add_up__with_storage_and_the_pod_itself() -> None:
    resources = {
        "requests": {"cpu": "500m", "memory": "100Mi", "ephemeral-storage": "1Gi"},
        "limits": {GPU: 2, "ephemeral-storage": "2Gi"},
    }
    request = request_of({"containers": [{"resources": resources}, {"resources": {"limits": {"cpu": "1"}}}]})
    assert dict(request) == {"cpu": 1500, "memory": 100, "ephemeral-storage": 1024, "pods": 1, GPU: 2}


def account(*, bound: str | None = "True", funded: str | None = "True", expires: str = "") -> JSON:
    conditions = [
        {"type": kind, "status": status, "reason": "R", "message": f"{kind} says so"}
        for kind, status in (("Bound", bound), ("Funded", funded))
        if status is not None
    ]
    spec: JSON = {"payer": "0x1"}
    if expires:
        spec["authorization"] = {"expiresAt": expires}
    return {"spec": spec, "status": {"conditions": conditions}}


ACCOUNTS: dict[str, tuple[JSON | None, str]] = {
    "missing": (None, "Account default does not exist in this namespace"),
    "not looked at": (account(bound=None), "has not been checked by the settler yet"),
    "not bound": (account(bound="False"), "is not bound by its payer's signature: Bound says so"),
    "not funded": (account(funded="False"), "cannot pay: Funded says so"),
    "funds not read yet": (account(funded=None), "cannot pay: there is nothing to spend"),
    "expired": (account(expires="2026-01-01T00:00:00Z"), "authorization expired at 2026-01-01T00:00:00Z"),
    "good": (account(expires="2026-01-01T00:00:01Z"), ""),
}


@pytest.mark.parametrize("case", ACCOUNTS)
def test_problem_of_account(case: str) -> None:
    obj, want = ACCOUNTS[case]
    said = problem_of_account(obj, name="default", ledger=False, now=CREATED_UNIX)
    assert want in said
    assert bool(said) == bool(want)
