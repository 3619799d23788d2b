"""DESIGN's table of writers, tried with the real identities against the real API server.

One writer for each column, nothing of another provider, and policies where RBAC has no words.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from devkit.rig import ApiError, ApiServer, Rig
from fallow.resources.base import Kind
from fallow.resources.kinds import ALL

HUB_KINDS = {kind.kind: kind for kind in ALL if kind.plane == "hub"}
GROUP = "/apis/fallow.dev/v1alpha1"
IDENTITIES = ("submitter", "hub", "settler", "agent", "hub_admin")
SPEC_VERBS = ("create", "update", "patch")

SPEC_WRITERS: dict[str, set[str]] = {
    "ComputeJob": {"submitter"},
    "Account": {"submitter", "hub_admin"},
    "Provider": {"hub_admin"},
    "Quote": {"agent"},
    "ProviderNode": {"agent"},
    "Placement": {"hub"},
    "PaymentClaim": {"hub"},
    "Settlement": {"settler"},
}
STATUS_WRITERS: dict[str, set[str]] = {
    "ComputeJob": {"hub"},
    "Account": {"settler"},
    "Provider": {"hub"},
    "Quote": set(),
    "ProviderNode": set(),
    "Placement": {"agent"},
    "PaymentClaim": {"settler"},
    "Settlement": {"settler"},
}


@pytest.fixture(scope="module")
def clients(rig: Rig) -> dict[str, ApiServer]:
    people = {name: rig.client(name) for name in ("submitter", "hub", "settler", "hub_admin")}
    return {**people, "agent": ApiServer.from_kubeconfig(rig.members["aurora"].agent_hub_kubeconfig)}


def may(client: ApiServer, kind: Kind, *, verb: str, subresource: str = "") -> bool:
    """Ask the API server itself, where the identity is at home."""
    namespace = {"ComputeJob": "default", "Account": "default"}.get(kind.kind, "provider-aurora")
    attributes = {"group": "fallow.dev", "resource": kind.plural, "verb": verb, "subresource": subresource}
    if kind.namespaced:
        attributes["namespace"] = namespace
    answer = client.post(
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {"spec": {"resourceAttributes": attributes}}
    )
    return bool(answer["status"]["allowed"])


@pytest.mark.parametrize("kind", HUB_KINDS.values(), ids=lambda kind: kind.kind)
def test_spec__when_an_identity_asks_to_write__then_only_its_writers_may(
    clients: dict[str, ApiServer], kind: Kind
) -> None:
    writers = {name for name in IDENTITIES for verb in SPEC_VERBS if may(clients[name], kind, verb=verb)}
    assert writers == SPEC_WRITERS[kind.kind]


@pytest.mark.parametrize("kind", HUB_KINDS.values(), ids=lambda kind: kind.kind)
def test_status__when_an_identity_asks_to_write__then_only_its_writer_may(
    clients: dict[str, ApiServer], kind: Kind
) -> None:
    writers = {
        name
        for name in IDENTITIES
        for verb in ("update", "patch")
        if may(clients[name], kind, verb=verb, subresource="status")
    }
    assert writers == STATUS_WRITERS[kind.kind]


def test_secrets__when_any_program_asks__then_are_refused(clients: dict[str, ApiServer]) -> None:
    for name in ("hub", "settler", "agent", "submitter"):
        for path in ("/api/v1/secrets", "/api/v1/namespaces/fallow-system/secrets"):
            with pytest.raises(ApiError) as refused:
                clients[name].get(path)
            assert refused.value.status == 403, name


AGENT_REFUSED: tuple[tuple[str, ...], ...] = (
    ("get", "computejobs", "-A"),
    ("get", "computejobs", "-n", "default"),
    ("get", "accounts", "-A"),
    ("get", "providers"),
    ("get", "provider", "borealis"),
    ("get", "settlements"),
    ("get", "placements", "-A"),
    ("get", "placements", "-n", "provider-borealis"),
    ("get", "paymentclaims", "-n", "provider-borealis"),
    ("get", "quotes", "-n", "provider-borealis"),
    ("get", "providernodes", "-n", "provider-borealis"),
    ("get", "leases", "-n", "provider-borealis"),
    ("get", "leases", "-n", "fallow-system"),
    ("get", "namespaces"),
    ("get", "secrets"),
    ("get", "configmaps", "-n", "default"),
    ("get", "nodes"),
    ("get", "pods"),
    ("create", "token", "agent"),
    ("create", "token", "agent", "-n", "provider-borealis"),
    ("create", "token", "hub", "-n", "fallow-system"),
    ("create", "serviceaccount", "second"),
    ("create", "configmap", "note"),
    ("create", "rolebinding", "more", "--clusterrole=cluster-admin", "--user=me"),
    ("create", "clusterrolebinding", "more", "--clusterrole=cluster-admin", "--user=me"),
    ("run", "pod", "--image=example.test/x"),
    ("delete", "placement", "x"),
    ("delete", "paymentclaim", "x"),
    ("delete", "lease", "fallow-hub", "-n", "fallow-system"),
    ("delete", "namespace", "provider-aurora"),
    ("patch", "provider", "aurora", "--type=merge", "-p", '{"spec":{"accepted":true}}'),
    (
        "patch",
        "provider",
        "aurora",
        "--type=merge",
        "--subresource=status",
        "-p",
        '{"status":{"earned":"9"}}',
    ),
    ("get", "--raw", "/metrics"),
)


@pytest.mark.parametrize("words", AGENT_REFUSED, ids=" ".join)
def test_agent__when_it_reaches_beyond_its_own__then_is_refused(rig: Rig, words: tuple[str, ...]) -> None:
    _provider(rig, "aurora")
    answer = _kubectl(rig, rig.members["aurora"].agent_hub_kubeconfig, *words)
    assert answer.returncode != 0
    assert "orbidden" in answer.stderr, answer.stderr


AGENT_PATCHES_REFUSED = (
    "namespaces/provider-aurora/placements/x",
    "namespaces/provider-borealis/placements/x",
    "namespaces/provider-borealis/placements/x/status",
    "namespaces/provider-aurora/paymentclaims/x",
    "namespaces/provider-aurora/paymentclaims/x/status",
    "namespaces/provider-borealis/quotes/quote",
    "namespaces/default/computejobs/x/status",
    "namespaces/default/accounts/default/status",
    "providers/aurora/status",
    "settlements/x/status",
)


@pytest.mark.parametrize("path", AGENT_PATCHES_REFUSED)
def test_agent__when_it_patches_what_others_write__then_is_refused(
    clients: dict[str, ApiServer], path: str
) -> None:
    # Straight to the API server: kubectl would look first, and say NotFound before it is refused.
    with pytest.raises(ApiError) as refused:
        clients["agent"].merge(f"{GROUP}/{path}", {"spec": {}, "status": {}})
    assert refused.value.status == 403


def test_agent__when_it_reads_its_own__then_may(rig: Rig, clients: dict[str, ApiServer]) -> None:
    _provider(rig, "aurora")
    kubeconfig = rig.members["aurora"].agent_hub_kubeconfig
    for words in (
        ("get", "provider", "aurora"),
        ("get", "placements"),
        ("get", "paymentclaims"),
        ("get", "quotes"),
        ("get", "providernodes"),
    ):
        answer = _kubectl(rig, kubeconfig, *words)
        assert answer.returncode == 0, answer.stderr
    listed = clients["agent"].get(f"{GROUP}/providers", fieldSelector="metadata.name=aurora")
    assert [item["metadata"]["name"] for item in listed["items"]] == ["aurora"]


def test_lease__when_an_agent_promises_too_long_or_takes_another_name__then_a_policy_refuses(
    clients: dict[str, ApiServer],
) -> None:
    path = "/apis/coordination.k8s.io/v1/namespaces/provider-aurora/leases"
    for name, seconds in (("agent", 301), ("other", 20)):
        lease = {"metadata": {"name": name}, "spec": {"leaseDurationSeconds": seconds}}
        with pytest.raises(ApiError, match=r"at most 300|named agent"):
            clients["agent"].post(path, lease)


def test_account__without_a_signature__is_credit_that_only_a_hub_admin_grants(
    clients: dict[str, ApiServer],
) -> None:
    accounts = f"{GROUP}/namespaces/default/accounts"
    spec = {"payer": "0x" + "a" * 40, "limits": {"maxTotal": "1000"}}
    credit = {
        "apiVersion": "fallow.dev/v1alpha1",
        "kind": "Account",
        "metadata": {"name": "credit"},
        "spec": spec,
    }
    with pytest.raises(ApiError, match="the hub admin grants"):
        clients["submitter"].post(accounts, credit)
    clients["hub_admin"].post(accounts, credit)
    try:
        more = {"spec": {"limits": {"maxTotal": "2000"}}}
        with pytest.raises(ApiError, match="the hub admin grants"):
            clients["submitter"].merge(f"{accounts}/credit", more)
    finally:
        clients["hub_admin"].delete(f"{accounts}/credit")


def test_quote__when_it_names_another_provider__then_a_policy_refuses(clients: dict[str, ApiServer]) -> None:
    with pytest.raises(ApiError, match="provider of this namespace"):
        clients["agent"].post(f"{GROUP}/namespaces/provider-aurora/quotes", _quote("borealis"))


def test_term__when_below_the_leases__then_a_policy_refuses_the_old_leader(
    rig: Rig, clients: dict[str, ApiServer]
) -> None:
    leases = "/apis/coordination.k8s.io/v1/namespaces/fallow-system/leases"
    rig.hub_client().apply(
        f"{leases}/fallow-hub",
        {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": "fallow-hub"},
            "spec": {"leaseTransitions": 5, "holderIdentity": "new"},
        },
    )
    path = f"{GROUP}/namespaces/provider-aurora/placements"
    with pytest.raises(ApiError, match="no longer the leader"):
        clients["hub"].post(path, _placement("old", term=4))
    clients["hub"].post(path, _placement("new", term=5))
    clients["hub"].delete(f"{path}/new")
    rig.hub_client().delete(f"{leases}/fallow-hub")
    with pytest.raises(ApiError, match="failed to configure binding: no params found"):
        clients["hub"].post(path, _placement("none", term=9))


def test_member_agent__when_it_reaches_beyond_its_guests__then_is_refused(rig: Rig) -> None:
    kubeconfig = rig.members["aurora"].agent_kubeconfig
    for words in (
        ("get", "secrets", "-A"),
        ("get", "configmaps", "-A"),
        ("create", "configmap", "note", "-n", "fallow-guests"),
        ("run", "pod", "--image=example.test/x", "-n", "default"),
        ("delete", "pod", "x", "-n", "kube-system"),
        ("delete", "node", "aurora-000"),
        ("patch", "node", "aurora-000", "-p", '{"spec":{"unschedulable":true}}'),
        ("replace", "--raw", f"{GROUP}/offers/default", "-f", "/dev/null"),
        ("delete", "offer", "default"),
        ("create", "token", "agent", "-n", "fallow-system"),
    ):
        answer = _kubectl(rig, kubeconfig, *words)
        assert answer.returncode != 0, words
        assert "orbidden" in answer.stderr, (words, answer.stderr)
    assert _kubectl(rig, kubeconfig, "get", "nodes").returncode == 0


def _kubectl(rig: Rig, kubeconfig: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    command = [str(rig.programs["kubectl"]), *words]
    return subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )


def _provider(rig: Rig, name: str) -> None:
    address = "0x" + 40 * "1"
    spec = {"accepted": True, "ownerId": "owner", "region": "eu", "payee": address, "signer": address}
    rig.client("hub_admin").apply(
        f"{GROUP}/providers/{name}",
        {"apiVersion": "fallow.dev/v1alpha1", "kind": "Provider", "metadata": {"name": name}, "spec": spec},
    )


def _quote(provider: str) -> dict[str, Any]:
    return {
        "apiVersion": "fallow.dev/v1alpha1",
        "kind": "Quote",
        "metadata": {"name": "quote"},
        "spec": {
            "provider": provider,
            "prices": {},
            "payee": "0x" + 40 * "1",
            "signer": "0x" + 40 * "2",
            "validUntil": "2030-01-01T00:00:00Z",
            "sequence": 1,
            "signature": "0x" + 130 * "0",
        },
    }


def _placement(name: str, *, term: int) -> dict[str, Any]:
    zero = "0x" + 40 * "0"
    return {
        "apiVersion": "fallow.dev/v1alpha1",
        "kind": "Placement",
        "metadata": {"name": name},
        "spec": {
            "job": {"namespace": "default", "name": "job", "uid": "u"},
            "attempt": 0,
            "term": term,
            "template": {"spec": {"containers": [{"name": "main", "image": "example.test/x"}]}},
            "assignments": [{"node": "aurora-000", "slots": 1, "tasks": "0"}],
            "terms": {
                "hubId": "0x" + 64 * "1",
                "chainId": 0,
                "escrow": zero,
                "token": zero,
                "tokenDecimals": 6,
                "accountNamespace": "default",
                "accountName": "default",
                "account": {"payer": zero},
                "provider": "aurora",
                "ownerId": "owner",
                "quote": _quote("aurora")["spec"],
                "pricePerTaskHour": "1",
                "requests": {},
                "taskTimeoutSeconds": 60,
            },
        },
    }
