"""`helm install`, upgrade, rollback and uninstall of both charts on one empty API server, in one namespace.

A hub that is a member too: the two releases must not meet. There is no kubelet here, so nothing runs; what is
tested is what Helm does with the objects, and what it leaves.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from devkit.charts import CHARTS, ROOT, rendering
from devkit.rig import ApiError, ApiServer
from devkit.rig.planes import PlaneStarter
from devkit.rig.ports import Ports
from devkit.rig.processes import Processes
from devkit.toolchain import ensure

API = "/apis/fallow.dev/v1alpha1"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ACCOUNT = {"apiVersion": "fallow.dev/v1alpha1", "kind": "Account", "metadata": {"name": "kept"}}


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The kubeconfig of a control plane on which nothing of Fallow is."""
    state = tmp_path_factory.mktemp("empty")
    mark = secrets.token_hex(16)
    (state / "mark").write_text(mark)
    programs = ensure("kube-apiserver", "etcd", "kube-controller-manager")
    processes = Processes(state, mark=mark)
    try:
        with Ports() as ports:
            starter = PlaneStarter(state=state, programs=programs, processes=processes, ports=ports)
            starter.start_etcd()
            plane = starter.start_api_server("empty")
            starter.wait_for_api_server(plane)
            starter.start_controllers(plane, member=False)
            starter.wait_for_controllers(plane, "default")
        yield plane.kubeconfig
    finally:
        processes.end_all(gently=[], grace_seconds=10)


def test_releases__when_installed_upgraded_and_removed__then_meet_nowhere_and_leave_what_is_owed(
    empty: Path,
) -> None:
    client = ApiServer.from_kubeconfig(empty)
    for chart in CHARTS:
        # Hooks are Jobs, and no Job ever runs here: hack/e2e-charts has them.
        hooks = ["--set=leaving.enabled=false"] if chart == "fallow-agent" else []
        said = _helm(
            empty, "install", chart, f"helm/{chart}", "--create-namespace", _values(chart, "minimal"), *hooks
        )
        assert "STATUS: deployed" in said
    namespaces = {each["metadata"]["name"] for each in client.get("/api/v1/namespaces")["items"]}
    assert {"fallow-system", "fallow-guests", "fallow-probe"} <= namespaces
    for release in client.get("/api/v1/namespaces/fallow-system/secrets")["items"]:
        assert len(str(release["data"])) < 500_000, "etcd takes 1.5 MB an object"

    # Kinds of Prometheus are not on this cluster, and that is all that a full hub needs besides.
    off = ["--set=metrics.serviceMonitor.enabled=false", "--set=metrics.prometheusRule.enabled=false"]
    # A volume's claim cannot be changed into another one.
    archive = "--set=settler.replicas=1,settler.archive.accessModes={ReadWriteOnce},settler.archive.size=10Gi"
    _helm(
        empty,
        "upgrade",
        "fallow-hub",
        "helm/fallow-hub",
        _values("fallow-hub", "full"),
        *off,
        archive,
        "--set=settler.archive.storageClassName=",
    )
    deployments = "/apis/apps/v1/namespaces/fallow-system/deployments"
    assert client.get(f"{deployments}/fallow-hub")["spec"]["replicas"] == 3
    client.get("/api/v1/namespaces/provider-aurora")
    _helm(empty, "rollback", "fallow-hub", "1")
    assert client.get(f"{deployments}/fallow-hub")["spec"]["replicas"] == 2

    spec = {"payer": "0x" + 40 * "1"}
    client.post(f"{API}/namespaces/default/accounts", {**ACCOUNT, "spec": spec})
    for chart in CHARTS:
        _helm(empty, "uninstall", chart)
    assert client.get(f"{API}/namespaces/default/accounts/kept")["spec"]["payer"] == spec["payer"]
    assert len([each for each in client.get(CRDS)["items"] if "fallow.dev" in each["metadata"]["name"]]) == 10
    for path in (
        "/api/v1/namespaces/provider-aurora",
        "/api/v1/namespaces/fallow-guests",
        "/apis/networking.k8s.io/v1/namespaces/fallow-guests/networkpolicies/nothing-in-nothing-out",
        "/apis/scheduling.k8s.io/v1/priorityclasses/fallow-guest",
        "/api/v1/namespaces/fallow-system/persistentvolumeclaims/fallow-archive",
    ):
        assert client.get(path)["metadata"].get("deletionTimestamp") is None, path
    for path in (
        f"{deployments}/fallow-hub",
        f"{deployments}/fallow-agent",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/fallow-hub",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/fallow-member-agent",
        "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/fallow-hub-term",
    ):
        with pytest.raises(ApiError) as gone:
            client.get(path)
        assert gone.value.status == 404, path

    probes = "/api/v1/namespaces/fallow-probe"
    client.until("the end of the probe's namespace", lambda: not _has(client, probes), seconds=60)
    for chart in CHARTS:  # what was kept is taken up again
        _helm(empty, "install", chart, f"helm/{chart}", _values(chart, "minimal"))
    assert client.get(f"{API}/namespaces/default/accounts/kept")


def test_view_and_edit__when_aggregated__then_have_each_kind_for_its_readers_and_writers(empty: Path) -> None:
    client = ApiServer.from_kubeconfig(empty)
    roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    if not _has(client, f"{roles}/fallow-accounts-viewer"):
        _helm(
            empty,
            "install",
            "fallow-hub",
            "helm/fallow-hub",
            "--create-namespace",
            _values("fallow-hub", "minimal"),
        )

    def resources(role: str, verb: str) -> set[str]:
        rules = client.get(f"{roles}/{role}").get("rules") or []
        return {r for rule in rules if verb in rule["verbs"] for r in rule.get("resources", ())}

    client.until("aggregation", lambda: "placements" in resources("view", "get"), seconds=30)
    client.until("aggregation", lambda: "computejobs" in resources("edit", "create"), seconds=30)
    ours = {"computejobs", "accounts", "quotes", "providernodes", "placements", "paymentclaims", "providers"}
    assert ours <= resources("view", "list")
    # Ledger mode: an Account is its credit limit, so whoever may edit a namespace may not write it.
    assert resources("edit", "create") & ours == {"computejobs"}


def _has(client: ApiServer, path: str) -> bool:
    try:
        client.get(path)
    except ApiError:
        return False
    return True


def _values(chart: str, name: str) -> str:
    return f"--values={rendering.values_files(chart)[name].relative_to(ROOT)}"


def _helm(kubeconfig: Path, *words: str) -> str:
    command = [str(ensure("helm")["helm"]), *words, "--namespace=fallow-system"]
    environ = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return done.stdout
