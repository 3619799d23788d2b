"""The charts before real API servers: every object accepted, every pod admitted, every right as the table
says.

Server-side dry runs, so nothing of it stays. ServiceMonitor and PrometheusRule are served by stub CRDs with
the few fields that the charts use: what Prometheus' operator makes of them is not tested here.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from devkit.charts import CHARTS, access, plain, rendering
from devkit.charts.access import IDENTITIES, Identity, Right
from devkit.rig import ApiError, ApiServer, Rig
from devkit.rig.manifests import Manifests, read

Json = dict[str, Any]
MEMBER = "borealis"
NAMESPACES = {"hub": ("provider-aurora", "provider-borealis"), "member": ("gpu-probe", "strangers")}
"""What full values name and the rig does not have; a namespace that is only a dry run holds nothing."""
TEXTS: Json = {"type": "object", "additionalProperties": {"type": "string"}}
STUBS: dict[str, Json] = {
    "ServiceMonitor": {
        "selector": {"type": "object", "properties": {"matchLabels": TEXTS}},
        "endpoints": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"port": {"type": "string"}, "interval": {"type": "string"}},
            },
        },
    },
    "PrometheusRule": {
        "groups": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "rules": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["alert", "expr"],
                            "properties": {
                                "alert": {"type": "string"},
                                "expr": {"type": "string"},
                                "for": {"type": "string"},
                                "labels": TEXTS,
                                "annotations": TEXTS,
                            },
                        },
                    },
                },
            },
        }
    },
}


@pytest.fixture(scope="module")
def planes(rig: Rig) -> Iterator[dict[str, Path]]:
    """The kubeconfigs of a hub and a member, with stub CRDs and the namespaces that full values name."""
    kubeconfigs = {"hub": rig.hub_kubeconfig, "member": rig.members[MEMBER].kubeconfig}
    made = []
    for plane, kubeconfig in kubeconfigs.items():
        client = ApiServer.from_kubeconfig(kubeconfig)
        Manifests(client).apply_crds(_stub(kind, spec) for kind, spec in STUBS.items())
        for name in NAMESPACES[plane]:
            if name not in _namespaces(client):
                client.post("/api/v1/namespaces", {"metadata": {"name": name}})
                made.append((client, name))
    yield kubeconfigs
    for client, name in made:
        client.delete(f"/api/v1/namespaces/{name}")
    for kubeconfig in kubeconfigs.values():
        for kind in STUBS:
            root = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
            ApiServer.from_kubeconfig(kubeconfig).delete(f"{root}/{kind.lower()}s.monitoring.coreos.com")


@pytest.mark.parametrize("name", ["minimal", "small", "full"])
@pytest.mark.parametrize("chart", CHARTS)
def test_chart__when_rendered__then_the_api_server_accepts_every_object(
    rig: Rig, planes: dict[str, Path], chart: str, name: str
) -> None:
    text = rendering.text(chart, values=[rendering.values_files(chart)[name]])
    answer = _apply(rig, planes[CHARTS[chart]], text)
    assert answer.returncode == 0, answer.stderr
    accepted = [line for line in answer.stdout.splitlines() if line.endswith("(server dry run)")]
    assert len(accepted) == len(rendering.parse(text))
    assert "Warning" not in answer.stderr, answer.stderr


def test_dry_run__when_an_object_is_wrong__then_says_so(rig: Rig, planes: dict[str, Path]) -> None:
    """Otherwise the test above could not fail."""
    text = rendering.text("fallow-hub", values=[rendering.values_files("fallow-hub")["minimal"]])
    for wrong in (
        text.replace("readOnlyRootFilesystem: true", "readOnlyRootFilesytem: true"),
        text.replace("oldObject.spec.template", "oldObject.spec.template)"),
    ):
        assert wrong != text
        assert _apply(rig, planes["hub"], wrong).returncode != 0


def test_pods__when_admitted_under_restricted__then_pass_and_the_probe_where_it_lives(
    rig: Rig, planes: dict[str, Path]
) -> None:
    for chart, plane in CHARTS.items():
        client = ApiServer.from_kubeconfig(planes[plane])
        namespace = f"pods-of-{chart}"
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        client.post("/api/v1/namespaces", {"metadata": {"name": namespace, "labels": labels}})
        try:
            objects = rendering.objects(chart, values=[rendering.values_files(chart)["minimal"]])
            pods = {
                each["metadata"]["name"]: each["spec"]["template"]
                for each in objects
                if each["kind"] in ("Deployment", "DaemonSet")
            }
            for name, template in pods.items():
                account = template["spec"]["serviceAccountName"]
                client.post(
                    f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": account}}
                )
                if name == "fallow-probe":
                    with pytest.raises(ApiError, match="hostPID"):
                        _admit(client, namespace, template)
                    _admit(client, "fallow-probe", template)
                else:
                    _admit(client, namespace, template)
        finally:
            client.delete(f"/api/v1/namespaces/{namespace}")


def test_config__when_compared_with_the_charts__then_is_their_rendering() -> None:
    for path, text in plain.config_files().items():
        assert path.read_text() == text, f"{path.name}: run hack/generate --charts"
    for chart, plane in CHARTS.items():
        rendered = {_id(each) for each in plain.planes()[plane]}
        applied = {_id(each) for each in read(Path("config") / plane)} - {("Namespace", "", "fallow-system")}
        assert applied <= rendered, chart


VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")


@pytest.fixture(scope="module")
def a_submitter(rig: Rig) -> Iterator[None]:
    """A user with the submitter's role and nothing else: the rig's own may view as well."""
    path = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings"
    group = "rbac.authorization.k8s.io"
    rig.hub_client().post(
        path,
        {
            "metadata": {"name": "a-submitter"},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "fallow-submitter"},
            "subjects": [{"kind": "User", "name": "a-submitter", "apiGroup": group}],
        },
    )
    yield
    rig.hub_client().delete(f"{path}/a-submitter")


@pytest.mark.usefixtures("a_submitter")
@pytest.mark.parametrize("identity", IDENTITIES, ids=lambda each: f"{each.plane}-{each.name}")
def test_rights__when_the_api_server_is_asked_for_each__then_are_the_tables(
    rig: Rig, identity: Identity
) -> None:
    """Every cell: each kind that stands in the table, each verb, at home and in a foreign namespace."""
    objects = plain.planes()[identity.plane]
    granted = access.rights(identity, objects)
    member = rig.members["aurora"].kubeconfig
    client = ApiServer.from_kubeconfig(rig.hub_kubeconfig if identity.plane == "hub" else member)
    questions = list(_questions(identity, objects, granted))
    with ThreadPoolExecutor(max_workers=4) as pool:
        answers = dict(
            zip(questions, pool.map(lambda each: _may(client, identity, *each), questions), strict=True)
        )
    wrong = {q: may for q, may in answers.items() if may != _granted(granted, *q)}
    assert not wrong
    assert any(answers.values())
    assert not all(answers.values())


def test_config_maps__when_the_hub_writes_one_that_is_no_result__then_a_policy_refuses(rig: Rig) -> None:
    """Among them a person's word that lets the settler go on after a stranger's transaction."""
    hub, path = rig.client("hub"), "/api/v1/namespaces/fallow-system/configmaps"
    dry = {"dryRun": "All"}
    with pytest.raises(ApiError, match="results-<number> only"):
        hub.request("POST", path, query=dry, body={"metadata": {"name": "fallow-settler-resume"}})
    hub.request("POST", path, query=dry, body={"metadata": {"name": "sweep-results-0"}})
    with pytest.raises(ApiError) as refused:
        rig.client("settler").request("POST", path, query=dry, body={"metadata": {"name": "any"}})
    assert refused.value.status == 403


def _questions(
    identity: Identity, objects: list[Json], granted: set[Right]
) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield (group, resource, namespace, name, verb)."""
    others = {r for i in IDENTITIES if i.plane == identity.plane for r in access.rights(i, objects)}
    kinds = {(r.group, r.resource) for r in others if "*" not in r.resource}
    kinds |= {("", "secrets"), ("", "pods"), ("", "nodes"), ("apps", "deployments")}
    home = identity.namespace or identity.user.split(":")[2] if ":" in identity.user else identity.namespace
    for group, resource in sorted(kinds):
        for namespace in sorted({home or "default", "kube-system"}):
            for verb in VERBS:
                yield group, resource, namespace, "", verb
    for right in sorted(granted):
        if right.only:
            for name in (right.only, "another"):
                yield right.group, right.resource, right.namespace or "kube-system", name, right.verb


def _granted(granted: set[Right], group: str, resource: str, namespace: str, name: str, verb: str) -> bool:
    return any(
        right.group == group
        and right.resource in (resource, "*")
        and right.verb == verb
        and right.namespace in ("", namespace)
        and right.only in ("", name)
        for right in granted
    )


def _may(
    client: ApiServer, identity: Identity, group: str, resource: str, namespace: str, name: str, verb: str
) -> bool:
    plural, _, subresource = resource.partition("/")
    attributes = {
        "group": group,
        "resource": plural,
        "subresource": subresource,
        "namespace": namespace,
        "name": name,
        "verb": verb,
    }
    spec = {"user": identity.user, "groups": list(identity.groups), "resourceAttributes": attributes}
    answer = client.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", {"spec": spec})
    return bool(answer["status"]["allowed"])


def _namespaces(client: ApiServer) -> set[str]:
    return {each["metadata"]["name"] for each in client.get("/api/v1/namespaces")["items"]}


def _admit(client: ApiServer, namespace: str, template: Json) -> None:
    pod = {"metadata": {"generateName": "admitted-"}, "spec": template["spec"]}
    path = f"/api/v1/namespaces/{namespace}/pods"
    client.request("POST", path, query={"dryRun": "All", "fieldValidation": "Strict"}, body=pod)


def _apply(rig: Rig, kubeconfig: Path, text: str) -> subprocess.CompletedProcess[str]:
    command = [
        str(rig.programs["kubectl"]),
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
    ]
    environ = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    return subprocess.run(
        [*command, "--validate=strict", "-f", "-"],
        env=environ,
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
    )


def _id(thing: Json) -> tuple[str, str, str]:
    return thing["kind"], thing["metadata"].get("namespace", ""), thing["metadata"]["name"]


def _stub(kind: str, spec: Json) -> Json:
    plural = f"{kind.lower()}s"
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": spec}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.monitoring.coreos.com"},
        "spec": {
            "group": "monitoring.coreos.com",
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
            ],
        },
    }
