"""What the charts render to: hardened pods, settings that the programs read, and no secret anywhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devkit.charts import CHARTS, ROOT, rendering
from devkit.charts.settings_schema import PROGRAMS
from fallow.resources.joining import HubTold, Invite, PaymentsTold
from fallow.settings import parse

Json = dict[str, Any]
SETS = [(chart, name) for chart in CHARTS for name in ("minimal", "small", "full")]
every_rendering = pytest.mark.parametrize(("chart", "name"), SETS)


@every_rendering
def test_secrets__when_rendered__then_there_are_only_names_of_them(
    rendered: Any, chart: str, name: str
) -> None:
    objects = rendered(chart, name)
    assert "Secret" not in {each["kind"] for each in objects}
    for pod in _pods(objects):
        for container in pod["containers"]:
            assert container["args"] in (["hub"], ["settler"], ["agent"], ["probe"])
            for variable in container["env"]:
                if re.search(r"KEY|PASSWORD|RPC_URL|KUBECONFIG|TOKEN$", variable["name"]):
                    shown = variable.get("value", "")
                    assert shown.startswith("/etc/fallow/") or re.fullmatch(r"(0x[0-9a-fA-F]{40})?", shown), (
                        variable
                    )
    rpc = [v for p in _pods(objects) for c in p["containers"] for v in c["env"] if "RPC" in v["name"]]
    assert all("secretKeyRef" in variable["valueFrom"] for variable in rpc)
    assert len(rpc) == (1 if name == "full" else 0)


@every_rendering
def test_pods__when_rendered__then_are_hardened(rendered: Any, chart: str, name: str) -> None:
    for pod in _pods(rendered(chart, name)):
        root = pod.get("hostPID") and name == "full"  # the probe, where its values ask for it
        context = pod["securityContext"]
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert (context.get("runAsNonRoot"), context["runAsUser"]) == ((None, 0) if root else (True, 65532))
        assert not pod.get("hostNetwork")
        assert pod["enableServiceLinks"] is False
        assert not [volume for volume in pod["volumes"] if "hostPath" in volume]
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["requests"]
            assert "memory" in container["resources"]["limits"]
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                assert container[probe]["httpGet"]["port"] == "metrics"


def _workload(obj: Any) -> str:
    name: str = obj["metadata"]["name"].removesuffix("-metrics")
    return {"fallow-join": "fallow-hub"}.get(name, name)


@pytest.fixture
def invite(tmp_path: Path) -> Path:
    """An invite file as the hub's admin sends it."""
    payments = PaymentsTold(
        mode="ledger",
        chain_id=0,
        escrow="0x" + "0" * 40,
        token="0x" + "0" * 40,
        token_symbol="USDC",
        token_decimals=6,
    )
    hub = HubTold(
        hub_id="0x" + "1" * 64,
        payments=payments,
        url="https://join.hub.example:8443",
        authority="-----BEGIN CERTIFICATE-----",
    )
    told = Invite(hub=hub, provider="aurora", token="A" * 43, expires="2026-01-31T12:00:00Z")
    path = tmp_path / "invite"
    path.write_text(told.model_dump_json(by_alias=True))
    return path


@every_rendering
def test_environment__when_a_program_reads_it__then_every_variable_is_a_setting(
    rendered: Any, chart: str, name: str, monkeypatch: pytest.MonkeyPatch, invite: Path
) -> None:
    for pod in _pods(rendered(chart, name)):
        (container,) = pod["containers"]
        with monkeypatch.context() as patch:
            for variable in container["env"]:
                # What a reference would give: a node's name, or the end points of a chain.
                value = variable.get("value", "node-1")
                patch.setenv(variable["name"], str(invite) if value.endswith("/invite") else value)
            settings, warnings = parse(PROGRAMS[container["args"][0]], [])
        assert warnings == []
        address, port = settings.metrics_address.rsplit(":", 1)
        assert address == "0.0.0.0"
        assert container["ports"][0] == {"name": "metrics", "containerPort": int(port)}


def test_settings__when_set_in_full_values__then_arrive_typed(
    rendered: Any, monkeypatch: pytest.MonkeyPatch, invite: Path
) -> None:
    seen = {}
    for chart in CHARTS:
        for pod in _pods(rendered(chart, "full")):
            (container,) = pod["containers"]
            with monkeypatch.context() as patch:
                for variable in container["env"]:
                    value = variable.get("value", "node-1")
                    patch.setenv(variable["name"], str(invite) if value.endswith("/invite") else value)
                settings, _ = parse(PROGRAMS[container["args"][0]], [])
            seen[container["args"][0]] = settings.model_dump()
    assert seen["hub"]["jobs"]["ttl_seconds"] == 1_209_600  # not 1.2096e+06
    assert seen["hub"]["payments"]["chain_id"] == 8_453_000
    assert seen["hub"]["cycle"]["debounce_seconds"] == 0.2
    assert seen["settler"]["chain"]["fee_ceiling_gwei"] == 1_000_000
    assert seen["agent"]["guests"]["namespace"] == "strangers"
    assert seen["probe"]["health"]["ignored_xids"] == (63, 94)


@every_rendering
def test_selectors__when_rendered__then_find_the_pods_they_are_for(
    rendered: Any, chart: str, name: str
) -> None:
    objects = rendered(chart, name)
    templates = {
        (each["metadata"]["namespace"], each["metadata"]["name"]): each["spec"]["template"]["metadata"][
            "labels"
        ]
        for each in objects
        if each["kind"] in ("Deployment", "DaemonSet")
    }
    for each in objects:
        spec = each.get("spec") or {}
        if each["kind"] == "Service":
            wanted, workload = spec["selector"], _workload(each)
        elif each["kind"] in ("PodDisruptionBudget", "Deployment", "DaemonSet"):
            wanted, workload = spec["selector"]["matchLabels"], each["metadata"]["name"]
        elif each["kind"] == "NetworkPolicy" and spec["podSelector"]:
            wanted, workload = spec["podSelector"]["matchLabels"], _workload(each)
        else:
            continue
        namespace = each["metadata"]["namespace"]
        found = [
            at for at, labels in templates.items() if at[0] == namespace and wanted.items() <= labels.items()
        ]
        assert found == [(namespace, workload)], each["metadata"]


def test_uninstall__when_helm_removes_a_release__then_what_money_hangs_on_is_kept(rendered: Any) -> None:
    hub = _kept(rendered("fallow-hub", "full"))
    assert hub == {"CustomResourceDefinition": 8, "Namespace": 2}  # whose archive is a bucket
    assert _kept(rendered("fallow-hub", "minimal"))["PersistentVolumeClaim"] == 1
    agent = _kept(rendered("fallow-agent", "full"))
    # The cage outlives the agent: guests may still run in it.
    assert agent == {
        "CustomResourceDefinition": 2,
        "Namespace": 1,
        "NetworkPolicy": 1,
        "ResourceQuota": 1,
        "LimitRange": 1,
        "PriorityClass": 1,
    }


def test_charts__when_on_one_cluster__then_make_nothing_twice(rendered: Any) -> None:
    """A hub may be a member too, in the same namespace."""
    hub, agent = ({_id(each) for each in rendered(chart, "minimal")} for chart in CHARTS)
    assert hub & agent == set()


@every_rendering
def test_objects__when_rendered__then_no_two_have_one_name(rendered: Any, chart: str, name: str) -> None:
    names = [_id(each) for each in rendered(chart, name)]
    assert len(names) == len(set(names))


def test_accounts__when_the_ledger_is_the_money__then_no_submitter_sets_its_own_limit(rendered: Any) -> None:
    for name, writes in (("minimal", False), ("full", True)):
        roles = [
            each
            for each in rendered("fallow-hub", name)
            if each["kind"] == "ClusterRole"
            and (
                each["metadata"]["name"] == "fallow-submitter"
                or "rbac.authorization.k8s.io/aggregate-to-edit" in each["metadata"]["labels"]
            )
        ]
        verbs = {
            v
            for role in roles
            for rule in role["rules"]
            if "accounts" in rule["resources"]
            for v in rule["verbs"]
        }
        assert ("create" in verbs) is writes


def test_monitoring__when_it_names_a_metric__then_a_program_serves_it() -> None:
    sources = "\n".join(path.read_text() for path in (ROOT / "operator/fallow").rglob("*.py"))
    served = set(re.findall(r'"((?:fallow|DCGM)_\w+)"', sources))
    for chart in CHARTS:
        files = ROOT / "helm" / chart / "files"
        for text in ((files / "rules.yaml").read_text(), (files / "dashboard.json").read_text()):
            named = set(re.findall(r"\b((?:fallow|DCGM)_\w+)", text))
            assert named
            for metric in named:
                assert metric in served or re.sub(r"_(total|bucket|sum|count)$", "", metric) in served, metric


def test_alerts__when_read_by_a_person__then_each_says_what_and_what_to_do() -> None:
    import yaml

    for chart in CHARTS:
        groups = yaml.safe_load((ROOT / "helm" / chart / "files/rules.yaml").read_text())["groups"]
        alerts = [rule for group in groups for rule in group["rules"]]
        assert len({rule["alert"] for rule in alerts}) == len(alerts)
        for rule in alerts:
            assert rule["labels"]["severity"] in ("critical", "warning", "info")
            assert rule["annotations"]["summary"]
            assert rule["annotations"]["description"]


def test_dashboards__when_loaded__then_panels_do_not_overlap() -> None:
    for chart in CHARTS:
        board = json.loads((ROOT / "helm" / chart / "files/dashboard.json").read_text())
        places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
        assert len(set(places)) == len(places)
        assert len({panel["id"] for panel in board["panels"]}) == len(places)
        assert all(target["expr"] for panel in board["panels"] for target in panel["targets"])


def test_versions__when_the_program_has_one__then_the_charts_follow() -> None:
    import yaml

    from fallow import __version__

    for chart in CHARTS:
        meta = yaml.safe_load((ROOT / "helm" / chart / "Chart.yaml").read_text())
        assert meta["appVersion"] == __version__
        # PEP 440 and semantic versioning write a development version differently.
        assert meta["version"] == re.sub(r"\.(dev)(\d+)$", r"-\1.\2", __version__)


def test_notes__when_installed__then_say_the_next_step() -> None:
    for chart in CHARTS:
        minimal = rendering.values_files(chart)["minimal"].relative_to(ROOT)
        said = rendering.helm("install", chart, f"helm/{chart}", "--dry-run=client", f"--values={minimal}")
        notes = said.partition("NOTES:")[2]
        assert "1. See that it runs" in notes
        assert "rollout status deployment/" in notes


@pytest.mark.parametrize("name", ["minimal", "small", "full"])
def test_hooks__when_rendered__then_each_cleans_up_after_itself_and_is_hardened(
    rendered: Any, name: str
) -> None:
    """What exists only while `helm uninstall` runs."""
    objects = rendered("fallow-agent", name)
    hooks = [each for each in objects if "helm.sh/hook" in (each["metadata"].get("annotations") or {})]
    jobs = {each["metadata"]["annotations"]["helm.sh/hook"]: each for each in hooks if each["kind"] == "Job"}
    assert set(jobs) == {"pre-delete", "post-delete"}
    for each in hooks:
        policy = each["metadata"]["annotations"]["helm.sh/hook-delete-policy"]
        assert policy == "before-hook-creation,hook-succeeded"
    for job in jobs.values():
        pod = job["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["args"][:2] == ["agent", "leave"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        accounts = [each["metadata"]["name"] for each in hooks if each["kind"] == "ServiceAccount"]
        assert pod["serviceAccountName"] in accounts


def _pods(objects: list[Json]) -> Iterator[Json]:
    for each in objects:
        if each["kind"] in ("Deployment", "DaemonSet"):
            yield each["spec"]["template"]["spec"]


def _id(thing: Json) -> tuple[str, str, str]:
    return thing["kind"], thing["metadata"].get("namespace", ""), thing["metadata"]["name"]


def _kept(objects: list[Json]) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in objects:
        if (each["metadata"].get("annotations") or {}).get("helm.sh/resource-policy") == "keep":
            found[each["kind"]] = found.get(each["kind"], 0) + 1
    return found
