"""NetworkPolicies as nftables: what Kubernetes promises of each form, as the rules say it."""

from __future__ import annotations

from typing import Any

import pytest

from devkit.rig.real.policy_rules import ruleset, selects

Json = dict[str, Any]
RANGE = "10.244.0.0/24"


def a_pod(name: str, address: str, *, namespace: str = "guests", **extra: Any) -> Json:
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app": name},
            "creationTimestamp": extra.pop("created", "2026-01-01T00:00:00Z"),
        },
        "spec": {"containers": [{"name": "main", "ports": extra.pop("ports", [])}], **extra},
        "status": {"podIP": address, "phase": "Running"},
    }


def a_policy(**spec: Any) -> Json:
    return {"metadata": {"name": "p", "namespace": "guests"}, "spec": {"podSelector": {}, **spec}}


SPACES: list[Json] = [
    {"metadata": {"name": "guests", "labels": {"kubernetes.io/metadata.name": "guests"}}},
    {"metadata": {"name": "kube-system", "labels": {"kubernetes.io/metadata.name": "kube-system"}}},
]
PODS = [
    a_pod("one", "10.244.0.2"),
    a_pod("two", "10.244.0.3", ports=[{"name": "web", "containerPort": 8080}]),
    a_pod("dns", "10.244.0.9", namespace="kube-system"),
]
DNS_PEER: Json = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
    "podSelector": {"matchLabels": {"app": "dns"}},
}

EGRESS: dict[str, tuple[list[Json], list[str]]] = {
    "nothing": ([], []),
    "everything": ([{}], ["return"]),
    "one port anywhere": ([{"ports": [{"port": 443}]}], ["tcp dport 443 return"]),
    "a range of ports": (
        [{"ports": [{"protocol": "UDP", "port": 100, "endPort": 200}]}],
        ["udp dport 100-200 return"],
    ),
    "a whole protocol": ([{"ports": [{"protocol": "SCTP"}]}], ["meta l4proto sctp return"]),
    "a block with holes": (
        [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "169.254.0.0/16"]}}]}],
        ["ip daddr 0.0.0.0/0 ip daddr != 10.0.0.0/8 ip daddr != 169.254.0.0/16 return"],
    ),
    "a block of IPv6, which no pod here has": ([{"to": [{"ipBlock": {"cidr": "::/0"}}]}], []),
    "pods of its own namespace": (
        [{"to": [{"podSelector": {"matchLabels": {"app": "two"}}}]}],
        ["ip daddr { 10.244.0.3 } return"],
    ),
    "pods of a namespace with that label": (
        [{"to": [DNS_PEER], "ports": [{"protocol": "UDP", "port": 53}, {"port": 53}]}],
        ["ip daddr { 10.244.0.9 } udp dport 53 return", "ip daddr { 10.244.0.9 } tcp dport 53 return"],
    ),
    "every namespace": (
        [{"to": [{"namespaceSelector": {}}]}],
        ["ip daddr { 10.244.0.2, 10.244.0.3, 10.244.0.9 } return"],
    ),
    "a port by the receiver's name": (
        [{"to": [{"podSelector": {}}], "ports": [{"port": "web"}]}],
        ["ip daddr { 10.244.0.2, 10.244.0.3 } tcp dport 8080 return"],
    ),
    "pods that do not exist": ([{"to": [{"podSelector": {"matchLabels": {"app": "none"}}}]}], []),
}


@pytest.mark.parametrize("case", EGRESS)
def test_egress__when_a_policy_allows_this__then_the_chain_does_and_drops_the_rest(case: str) -> None:
    rules, want = EGRESS[case]
    policy = a_policy(policyTypes=["Egress"], egress=rules)
    text = ruleset([policy], PODS, SPACES, pod_range=RANGE)
    assert chain(text, "out_10_244_0_2") == [*want, "drop"]
    assert "in_10_244_0_2" not in text, "a policy for egress says nothing of ingress"
    assert "out_10_244_0_9" not in text, "another namespace's pods are open"


def test_ingress__when_no_type_is_given__then_ingress_alone_is_meant() -> None:
    policy = a_policy(ingress=[{"from": [{"podSelector": {}}], "ports": [{"port": "web"}]}])
    text = ruleset([policy], PODS, SPACES, pod_range=RANGE)
    assert chain(text, "in_10_244_0_3") == [
        "ip saddr { 10.244.0.2, 10.244.0.3 } tcp dport 8080 return",
        "drop",
    ]
    assert chain(text, "in_10_244_0_2") == ["drop"], "it has no port of that name"
    assert "jump out_" not in text


def test_policies__when_two_select_a_pod__then_it_may_do_what_either_allows() -> None:
    first = a_policy(policyTypes=["Egress"], egress=[{"ports": [{"port": 1}]}])
    second = a_policy(policyTypes=["Egress"], egress=[{"ports": [{"port": 2}]}])
    text = ruleset([first, second], PODS, SPACES, pod_range=RANGE)
    assert chain(text, "out_10_244_0_2") == ["tcp dport 1 return", "tcp dport 2 return", "drop"]


def test_addresses__when_no_known_pod_has_one__then_nothing_passes() -> None:
    for hook in ("forward", "input"):
        rules = chain(ruleset([], [], [], pod_range=RANGE), hook)
        assert f"ip saddr {RANGE} ip saddr != @known drop" in rules
    assert f"ip daddr {RANGE} ip daddr != @known drop" in chain(
        ruleset([], [], [], pod_range=RANGE), "forward"
    )


@pytest.mark.parametrize(
    "pod",
    [
        a_pod("node's own", "10.244.0.7", hostNetwork=True),
        {**a_pod("ended", "10.244.0.7"), "status": {"podIP": "10.244.0.7", "phase": "Failed"}},
        {**a_pod("no address yet", ""), "status": {"phase": "Pending"}},
        a_pod("elsewhere", "172.16.0.1"),
    ],
    ids=lambda pod: pod["metadata"]["name"],
)
def test_pod__when_it_has_no_address_of_this_node__then_it_is_not_known(pod: Json) -> None:
    assert "elements" not in ruleset([], [pod], SPACES, pod_range=RANGE)


def test_address__when_a_younger_pod_has_it__then_the_younger_ones_policies_count() -> None:
    old = a_pod("old", "10.244.0.2", created="2026-01-01T00:00:00Z")
    new = a_pod("new", "10.244.0.2", created="2026-01-02T00:00:00Z", namespace="kube-system")
    policy = a_policy(policyTypes=["Egress"])
    assert "out_" not in ruleset([policy], [new, old], SPACES, pod_range=RANGE)


@pytest.mark.parametrize(
    ("operator", "values", "want"),
    [
        ("In", ["a"], True),
        ("In", ["b"], False),
        ("NotIn", ["a"], False),
        ("NotIn", ["b"], True),
        ("Exists", None, True),
        ("DoesNotExist", None, False),
    ],
)
def test_selector__when_it_has_an_expression__then_that_decides(
    operator: str, values: list[str] | None, want: bool
) -> None:
    thing = {"metadata": {"labels": {"key": "a"}}}
    expression = {"key": "key", "operator": operator, "values": values}
    assert selects({"matchExpressions": [expression]}, thing) is want
    assert selects({}, thing)
    assert not selects(None, thing)


def chain(text: str, name: str) -> list[str]:
    """Return the rules of a chain, without the hook."""
    body = text.split(f"chain {name} {{\n", 1)[1].split("\n}", 1)[0]
    return [line.strip() for line in body.splitlines() if not line.strip().startswith("type ")]
