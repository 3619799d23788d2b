from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.agent.guests import is_guest, read_guest
from fallow.agent.pods import House, Owner, guest_pod
from fallow.receipts.requests import effective_requests
from fallow.resources.quantities import parse_quantity
from unit.agent.guest_pods import UID
from unit.agent.some_work import GPU, a_template, some_work

HOUSE = House(
    namespace="fallow-guests", priority_class="fallow-guest", max_run_seconds=3600, grace_seconds=20
)
OWNER = Owner(name="7f3c2a1093f54b6e", uid="gs-uid", placement_uid=UID)


def a_guest_pod(*, house: House = HOUSE, index: int = 7, **spec: Any) -> dict[str, Any]:
    tasks = spec.pop("tasks", "7")
    return guest_pod(some_work({"n1": (1, tasks)}, **spec), index=index, node="n1", owner=OWNER, house=house)


def quality(pod: dict[str, Any]) -> str:
    """The class that Kubernetes would give the pod, by its own rules after defaulting."""
    guaranteed, effort = True, False
    for container in pod["spec"]["containers"]:
        limits = {k: parse_quantity(v) for k, v in container["resources"].get("limits", {}).items()}
        given = {k: parse_quantity(v) for k, v in container["resources"].get("requests", {}).items()}
        requests = limits | given
        for kind in ("cpu", "memory"):
            effort = effort or bool(requests.get(kind) or limits.get(kind))
            guaranteed = guaranteed and bool(limits.get(kind)) and requests.get(kind) == limits.get(kind)
    return "Guaranteed" if guaranteed else "Burstable" if effort else "BestEffort"


def test_pod__any_task__is_pinned_caged_and_named_for_its_attempt() -> None:
    pod = a_guest_pod(attempt=3)
    spec, metadata = pod["spec"], pod["metadata"]
    assert metadata["name"] == "7f3c2a1093f54b6e-7-3"
    assert metadata["finalizers"] == ["fallow.dev/outcome"]
    owner = metadata["ownerReferences"][0]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("GuestSet", "gs-uid", True)
    terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert terms["nodeSelectorTerms"] == [
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}
    ]
    assert (spec["restartPolicy"], spec["priorityClassName"]) == ("Never", "fallow-guest")
    assert "nodeName" not in spec
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert spec["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {(t["key"], t.get("tolerationSeconds")) for t in spec["tolerations"]} == {
        ("node.kubernetes.io/not-ready", 15),
        ("node.kubernetes.io/unreachable", 15),
        (GPU, None),
    }


def test_pod__read_back__is_the_guest_it_was_made_as() -> None:
    pod = a_guest_pod(attempt=3)
    pod["metadata"] |= {"uid": "u", "resourceVersion": "1", "creationTimestamp": "2026-03-01T12:00:00Z"}
    assert is_guest(pod)
    guest = read_guest(pod)
    assert (guest.placement_uid, guest.index, guest.attempt, guest.pinned_to, guest.held) == (
        UID,
        7,
        3,
        "n1",
        True,
    )


def test_gang__pod__has_a_name_in_its_service_and_torchruns_variables() -> None:
    pod = a_guest_pod(gang=True, tasks="5-8")
    env = {e["name"]: e["value"] for e in pod["spec"]["containers"][0]["env"]}
    service = "gang-" + UID.replace("-", "")[:16]
    assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == ("rank-2", service)
    assert env["PET_NNODES"] == env["WORLD_SIZE"] == "4"
    assert env["PET_NODE_RANK"] == env["RANK"] == "2"
    assert env["PET_NPROC_PER_NODE"] == "1"
    assert env["MASTER_ADDR"] == env["PET_MASTER_ADDR"] == f"rank-0.{service}"
    assert env["MASTER_PORT"] == env["PET_MASTER_PORT"] == "29500"


def test_gang__several_accelerators_a_task__ranks_are_left_to_torchrun() -> None:
    many = a_template(container={"resources": {"limits": {GPU: "8"}}})
    pod = a_guest_pod(gang=True, template=many)
    env = {e["name"]: e["value"] for e in pod["spec"]["containers"][0]["env"]}
    assert env["PET_NPROC_PER_NODE"] == "8"
    assert not {"RANK", "WORLD_SIZE"} & env.keys()


def test_gang__template_says_otherwise__template_wins() -> None:
    pod = a_guest_pod(
        gang=True, template=a_template(container={"env": [{"name": "MASTER_PORT", "value": "1"}]})
    )
    env = [e for e in pod["spec"]["containers"][0]["env"] if e["name"] == "MASTER_PORT"]
    assert env == [{"name": "MASTER_PORT", "value": "1"}]


def test_pod__no_gang__knows_of_no_others() -> None:
    pod = a_guest_pod()
    names = {e["name"] for e in pod["spec"]["containers"][0]["env"]}
    assert not {n for n in names if n.startswith(("PET_", "MASTER_"))}
    assert "hostname" not in pod["spec"]


def test_env__template_sets_our_names__ours_win_and_come_first() -> None:
    given = [
        {"name": "JOB_COMPLETION_INDEX", "value": "99"},
        {"name": "OUT", "value": "$(JOB_COMPLETION_INDEX)"},
    ]
    pod = a_guest_pod(template=a_template(container={"env": given}))
    env = pod["spec"]["containers"][0]["env"]
    assert env[0] == {"name": "JOB_COMPLETION_INDEX", "value": "7"}
    assert env[-1]["name"] == "OUT"
    assert sum(1 for e in env if e["name"] == "JOB_COMPLETION_INDEX") == 1


@pytest.mark.parametrize(("timeout", "longest", "want"), [(100, 3600, 100), (7200, 3600, 3600)])
def test_deadline__timeout_and_offer__is_the_shorter(timeout: int, longest: int, want: int) -> None:
    pod = a_guest_pod(terms={"task_timeout_seconds": timeout})
    assert pod["spec"]["activeDeadlineSeconds"] == want


@pytest.mark.parametrize(("asked", "want"), [(None, 20), (5, 5), (60, 20)])
def test_grace__template_and_offer__is_the_shorter(asked: int | None, want: int) -> None:
    fields: dict[str, Any] = {} if asked is None else {"terminationGracePeriodSeconds": asked}
    assert a_guest_pod(template=a_template(**fields))["spec"]["terminationGracePeriodSeconds"] == want


def test_metadata__template_has_its_own__is_passed_on_but_for_reserved_keys() -> None:
    template = a_template().model_dump(by_alias=True, exclude_unset=True) | {
        "metadata": {
            "labels": {"team": "a", "fallow.dev/index": "0"},
            "annotations": {
                "rig.fallow.dev/run-seconds": "3",
                "k8s.v1.cni.cncf.io/networks": "host",
                "container.apparmor.security.beta.kubernetes.io/main": "unconfined",
            },
        }
    }
    metadata = a_guest_pod(template=type(a_template()).model_validate(template))["metadata"]
    assert metadata["labels"]["team"] == "a"
    assert metadata["labels"]["fallow.dev/index"] == "7"
    assert set(metadata["annotations"]) == {"rig.fallow.dev/run-seconds", "fallow.dev/node"}


RESOURCES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "a device only": {"limits": {GPU: "1"}},
    "limits only": {"limits": {"cpu": "4", "memory": "8Gi", GPU: "1"}},
    "limits equal requests": {
        "limits": {"cpu": "4", "memory": "8Gi"},
        "requests": {"cpu": "4000m", "memory": "8Gi"},
    },
    "burstable already": {"limits": {"cpu": "4", "memory": "8Gi"}, "requests": {"cpu": "1", "memory": "8Gi"}},
    "requests only": {"requests": {"cpu": "1"}},
    "no cpu limit": {"limits": {"memory": "1Gi"}},
}


@pytest.mark.parametrize("case", RESOURCES)
def test_quality__whatever_the_template_asks__is_burstable(case: str) -> None:
    pod = a_guest_pod(template=a_template(container={"resources": RESOURCES[case]}))
    assert quality(pod) == "Burstable"


@given(
    cpu=st.none() | st.sampled_from(["1", "250m", "0", "2.5"]),
    memory=st.none() | st.sampled_from(["1Gi", "512Mi"]),
    requests=st.booleans(),
    containers=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_quality__any_containers__is_burstable_at_nearly_the_same_requests(
    cpu: str | None, memory: str | None, requests: bool, containers: int
) -> None:
    amounts = {k: v for k, v in (("cpu", cpu), ("memory", memory)) if v is not None}
    resources = {"limits": amounts} | ({"requests": amounts} if requests else {})
    template = a_template(container={"resources": resources})
    wire = template.wire()
    wire["spec"]["containers"] = [
        dict(wire["spec"]["containers"][0], name=f"c{n}") for n in range(containers)
    ]
    pod = a_guest_pod(template=type(template).model_validate(wire))
    assert quality(pod) == "Burstable"
    asked, got = effective_requests(wire["spec"]), effective_requests(pod["spec"])
    assert got.memory_mib == asked.memory_mib
    assert 0 <= got.cpu_millicores - asked.cpu_millicores <= 1
