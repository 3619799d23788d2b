"""Joining on a rig: a hub whose door is open, invites by the command line, and what a token opens."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from devkit.rig import ApiError, ApiServer, Rig, kubeconfigs
from devkit.rig.ports import Ports

GROUP = "/apis/fallow.dev/v1alpha1"
IDENTITY = "/api/v1/namespaces/fallow-system/secrets/fallow-agent-identity"


def cluster_of(kubeconfig: Path) -> tuple[str, bytes]:
    """Return a kubeconfig's server and authority."""
    cluster = json.loads(kubeconfig.read_text())["clusters"][0]["cluster"]
    return cluster["server"], base64.b64decode(cluster["certificate-authority-data"])


def door_settings(rig: Rig, directory: Path) -> dict[str, str]:
    """Return the variables by which a hub serves joining on a free port."""
    server, authority = cluster_of(rig.hub_kubeconfig)
    pem = directory / "api-server.pem"
    pem.write_bytes(authority)
    with Ports() as ports:
        door = f"127.0.0.1:{ports.release(ports.hold())}"
    return {
        "FALLOW_JOIN__ADDRESS": door,
        "FALLOW_JOIN__URL": f"https://{door}",
        "FALLOW_JOIN__API_SERVER": server,
        "FALLOW_JOIN__API_SERVER_AUTHORITY": str(pem),
    }


def with_token(rig: Rig, token: str) -> ApiServer:
    """Return a client of the hub that shows `token`."""
    server, authority = cluster_of(rig.hub_kubeconfig)
    path = kubeconfigs.write(
        rig.state / "by-token.kubeconfig",
        cluster="hub",
        port=int(server.rpartition(":")[2]),
        authority=authority,
        user=kubeconfigs.by_token(token),
    )
    return ApiServer.from_kubeconfig(path)


def kept_token(member: ApiServer) -> str:
    """Return the hub's token that an agent keeps in its member."""
    return base64.b64decode(member.get(IDENTITY)["data"]["token"]).decode()


def unpacked(manifest: Path) -> Path:
    """Take the invite out of the manifest of `fallow provider invite`, as a mounted Secret shows it."""
    *_, secret = yaml.safe_load_all(manifest.read_text())
    path = manifest.with_suffix(".json")
    path.touch(mode=0o600)
    path.write_text(secret["stringData"]["invite"])
    return path


def provider_state(client: ApiServer, name: str) -> str:
    """Return "True", or the reason why a provider gets no work, or "" where nothing is said yet."""
    status = client.get(f"{GROUP}/providers/{name}").get("status") or {}
    for one in status.get("conditions") or ():
        if one["type"] == "Schedulable":
            return "True" if one["status"] == "True" else str(one["reason"])
    return ""


def forbidden_calls(own: str, other: str) -> Iterator[tuple[str, str, dict[str, Any] | None]]:
    """Yield twenty requests (method, path, body) that no agent of `own` may make."""
    mine, theirs = f"{GROUP}/namespaces/provider-{own}", f"{GROUP}/namespaces/provider-{other}"
    core = "/api/v1/namespaces"
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    token = {"spec": {"expirationSeconds": 600}}
    for kind in ("placements", "paymentclaims", "quotes", "providernodes"):
        yield "GET", f"{theirs}/{kind}", None
    yield "GET", f"{GROUP}/providers", None
    yield "GET", f"{GROUP}/providers/{other}", None
    yield "PATCH", f"{GROUP}/providers/{own}", {"spec": {"accepted": True}}
    yield "PATCH", f"{GROUP}/providers/{own}/status", {"status": {"earned": "1000000"}}
    yield "GET", f"{GROUP}/computejobs", None
    yield "GET", f"{GROUP}/namespaces/default/accounts", None
    yield "GET", f"{GROUP}/settlements", None
    yield "POST", f"{mine}/placements", {"metadata": {"name": "mine"}, "spec": {}}
    yield "POST", f"{mine}/paymentclaims", {"metadata": {"name": "mine"}, "spec": {}}
    yield "DELETE", f"{mine}/quotes/quote", None
    yield "GET", f"{core}/provider-{own}/secrets", None
    yield "GET", f"{core}/fallow-system/secrets/fallow-join", None
    yield "POST", f"{core}/provider-{own}/serviceaccounts/agent/token", token
    yield "POST", f"{core}/provider-{own}/pods", {"metadata": {"name": "mine"}, "spec": {"containers": []}}
    yield "GET", f"{rbac}/clusterroles", None
    yield "PATCH", "/apis/coordination.k8s.io/v1/namespaces/fallow-system/leases/fallow-hub", {"spec": {}}


def answered(client: ApiServer, method: str, path: str, body: dict[str, Any] | None) -> int:
    """Return the status that the API server answers with."""
    try:
        content = "application/merge-patch+json" if method == "PATCH" else "application/json"
        client.request(method, path, body=body, content=content)
    except ApiError as error:
        return error.status
    return 200
