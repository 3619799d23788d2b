"""From NetworkPolicies to nftables: which connections of one node's pods may begin. Pure.

What Kubernetes promises: a pod that no policy selects for a direction is open there; one that policies select
may do what any of them allows and nothing else; both ends must agree. Beyond that this is strict where the
promise leaves room: a pod's own node is an address as any other, and an address that no known pod has passes
nothing, so a pod is shut before it is known rather than open until it is.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from devkit.rig.api import Json

TABLE = "rig_policies"
_EMPTY = f"table inet {TABLE}\ndelete table inet {TABLE}\n"


def shut(pod_range: str) -> str:
    """Return the rules before anything is known: no pod reaches anything."""
    return ruleset([], [], [], pod_range=pod_range)


def ruleset(
    policies: Iterable[Json], pods: Iterable[Json], namespaces: Iterable[Json], *, pod_range: str
) -> str:
    """Return nft(8) input that replaces the table, all at once.

    `pods` are those of the whole plane: rules are made for those with an address in `pod_range`, the others
    are peers. Pods on the node's own network are the node.
    """
    labels = {space["metadata"]["name"]: space["metadata"].get("labels", {}) for space in namespaces}
    known = [pod for pod in pods if _address(pod)]
    # An address goes from pod to pod: the younger one has it.
    by_age = sorted(known, key=lambda pod: str(pod["metadata"].get("creationTimestamp")))
    at = {_address(pod): pod for pod in by_age if _within(_address(pod), pod_range)}
    here = [at[address] for address in sorted(at)]
    chains: list[str] = []
    ingress: list[str] = []
    egress: list[str] = []
    every = list(policies)
    for pod in here:
        mine = [p for p in every if _same_namespace(p, pod) and selects(p["spec"].get("podSelector"), pod)]
        name = _address(pod).replace(".", "_")
        for direction, table, prefix in (("Ingress", ingress, "in"), ("Egress", egress, "out")):
            acting = [p for p in mine if direction in _types(p)]
            if acting:
                rules: dict[str, None] = {}
                for policy in acting:
                    rules |= dict.fromkeys(_allowed(policy, direction, pod=pod, pods=known, labels=labels))
                table.append(f"{_address(pod)} : jump {prefix}_{name}")
                chains.append(_chain(f"{prefix}_{name}", [*rules, "drop"]))
    addresses = ", ".join(at)
    ours = [f"elements = {{ {addresses} }}"] if addresses else []
    out = [
        "ct state established,related accept",
        f"ip saddr {pod_range} ip saddr != @known drop",
        *([f"ip saddr vmap {{ {', '.join(egress)} }}"] if egress else []),
    ]
    into = [
        f"ip daddr {pod_range} ip daddr != @known drop",
        *([f"ip daddr vmap {{ {', '.join(ingress)} }}"] if ingress else []),
    ]
    hook = "type filter hook {} priority filter; policy accept;"
    body = [
        "set known {\n  type ipv4_addr\n  " + "\n  ".join(ours) + "\n}",
        *chains,
        _chain("forward", [hook.format("forward"), *out, *into]),
        _chain("input", [hook.format("input"), *out]),  # from a pod to its own node
    ]
    return f"{_EMPTY}table inet {TABLE} {{\n" + "\n".join(body) + "\n}\n"


def selects(selector: Json | None, thing: Json) -> bool:
    """Tell whether a label selector selects an object; an empty one selects all, none at all nothing."""
    if selector is None:
        return False
    labels = thing["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_expression(e, labels) for e in selector.get("matchExpressions") or ())


def _expression(expression: Json, labels: Mapping[str, str]) -> bool:
    value = labels.get(expression["key"])
    match expression["operator"]:
        case "In":
            return value in expression["values"]
        case "NotIn":
            return value not in expression["values"]
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case other:
            raise ValueError(f"A label selector has no operator {other}.")


def _types(policy: Json) -> Sequence[str]:
    given: Sequence[str] = policy["spec"].get("policyTypes") or ()
    return given or (("Ingress", "Egress") if policy["spec"].get("egress") else ("Ingress",))


def _allowed(
    policy: Json, direction: str, *, pod: Json, pods: Sequence[Json], labels: Mapping[str, Any]
) -> Iterator[str]:
    """Yield what a policy allows in one direction as rules that leave the chain."""
    side, peers_key = ("saddr", "from") if direction == "Ingress" else ("daddr", "to")
    for rule in policy["spec"].get(direction.lower()) or ():
        peers = rule.get(peers_key)
        for where, there in _peers(peers, policy, side=side, pods=pods, labels=labels):
            # A named port is the receiver's: ours on the way in, the peer's on the way out.
            receivers = [pod] if direction == "Ingress" else there
            for what in _ports(rule.get("ports"), receivers):
                yield " ".join(part for part in (where, what, "return") if part)


def _peers(
    peers: Sequence[Json] | None, policy: Json, *, side: str, pods: Sequence[Json], labels: Mapping[str, Any]
) -> Iterator[tuple[str, Sequence[Json]]]:
    """Yield each peer as a match on its address, with the pods that it stands for."""
    if not peers:
        yield "", pods
        return
    for peer in peers:
        if block := peer.get("ipBlock"):
            if ":" in block["cidr"]:
                continue  # a real node has no IPv6 at all
            without = "".join(f" ip {side} != {part}" for part in block.get("except") or ())
            yield f"ip {side} {block['cidr']}{without}", ()
            continue
        spaces = peer.get("namespaceSelector")
        chosen = [
            pod
            for pod in pods
            if (
                _same_namespace(policy, pod)
                if spaces is None
                else selects(spaces, {"metadata": {"labels": labels.get(pod["metadata"]["namespace"], {})}})
            )
            and selects(peer.get("podSelector", {}), pod)
        ]
        if chosen:
            addresses = ", ".join(sorted({_address(pod) for pod in chosen}))
            yield f"ip {side} {{ {addresses} }}", chosen


def _ports(ports: Sequence[Json] | None, receivers: Sequence[Json]) -> Iterator[str]:
    if not ports:
        yield ""
        return
    for port in ports:
        protocol = port.get("protocol", "TCP").lower()
        number = port.get("port")
        if number is None:
            yield f"meta l4proto {protocol}"
        elif isinstance(number, int):
            end = f"-{port['endPort']}" if "endPort" in port else ""
            yield f"{protocol} dport {number}{end}"
        else:
            for named in sorted({n for pod in receivers for n in _named(pod, number, protocol)}):
                yield f"{protocol} dport {named}"


def _named(pod: Json, name: str, protocol: str) -> Iterator[int]:
    for container in pod["spec"]["containers"]:
        for port in container.get("ports") or ():
            if port.get("name") == name and port.get("protocol", "TCP").lower() == protocol:
                yield port["containerPort"]


def _chain(name: str, rules: Iterable[str]) -> str:
    return f"chain {name} {{\n  " + "\n  ".join(rules) + "\n}"


def _same_namespace(policy: Json, pod: Json) -> bool:
    return bool(policy["metadata"]["namespace"] == pod["metadata"]["namespace"])


def _address(pod: Json) -> str:
    """Return the address of a pod that has one of its own and uses it, else an empty string."""
    status = pod.get("status") or {}
    if pod["spec"].get("hostNetwork") or status.get("phase") in ("Succeeded", "Failed"):
        return ""
    return str(status.get("podIP") or "")


def _within(address: str, pod_range: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(pod_range)
