"""What of each node is on offer now, and why the rest is not.

    offerable = allocatable − owner requests − not idle for long enough − keep-free − withheld
                                                                         (guests are not subtracted)

Keep-free counts over the whole member: devices that are idle on nodes outside the Offer's selector count
first, then nodes are thinned from the last name backwards, so that the same choice comes out as long as
nothing changes. Pure: nodes, owners' pods and the Offer in, values out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase

from fallow.agent.cage import NOTHING_PROVEN, Cage, pool_of
from fallow.agent.closing import bad_price, member_closed
from fallow.agent.nodes import Amounts, Node, OwnerPod
from fallow.resources.offer import KeepFree, NotOffered, OfferSpec
from fallow.resources.providernode import Offerable, ProviderNodeSpec, Withheld

_SHOWN_LABELS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOffer:
    """One node: what guests may take of it, and whether those that run there have to go."""

    node: Node
    offerable: Amounts
    selected: bool = True
    """Whether the Offer's selector takes it in; others are not advertised at all."""
    closed: str = ""
    """Why nothing new may start there, in words; empty when it is open."""
    vacate: bool = False
    """Whether guests that run there must go: the owner excluded the node."""
    kept: Mapping[str, int] = field(default_factory=dict)
    """Devices kept free here by resource, so far included in nothing else."""
    withheld: tuple[Withheld, ...] = ()
    idle_of_owner: int = 0
    """Devices that owner pods hold and that nothing runs on; at least so many, and only a probe knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offering:
    """All of a member."""

    nodes: Mapping[str, NodeOffer]
    closed: str = ""
    """Why the whole member is closed, in one sentence; empty when it is open."""
    paused: bool = False
    idle: int = 0
    """Accelerators on ready nodes that no pod of the owner's holds."""

    @property
    def accelerators(self) -> int:
        """Devices on offer."""
        return sum(max(0, n) for o in self.nodes.values() for n in o.offerable.accelerators.values())

    @property
    def open_nodes(self) -> int:
        """Nodes with something on offer."""
        return sum(1 for o in self.nodes.values() if o.selected and not o.closed)

    def not_offered(self) -> tuple[NotOffered, ...]:
        """Return devices that are not offered, by reason, most first."""
        counts: dict[str, int] = {}
        for offer in self.nodes.values():
            missing = sum(offer.node.allocatable.accelerators.values()) - sum(
                offer.offerable.accelerators.values()
            )
            for held in offer.withheld:
                number = int(held.device.partition(" ")[0]) if held.device[:1].isdecimal() else 1
                counts[held.reason] = counts.get(held.reason, 0) + number
                missing -= number
            if missing > 0:
                idle = 0 if offer.closed else min(missing, offer.idle_of_owner)
                for why, number in (
                    (offer.closed or "in use by the owner's pods", missing - idle),
                    ("allocated to the owner's pods, and idle", idle),
                ):
                    counts[why] = counts.get(why, 0) + number
        ordered = sorted(((why, n) for why, n in counts.items() if n), key=lambda item: (-item[1], item[0]))
        return tuple(NotOffered(count=count, reason=reason) for reason, count in ordered[:64])


def offering(
    nodes: Iterable[Node],
    owners: Iterable[OwnerPod],
    offer: OfferSpec,
    *,
    token_decimals: int,
    shut: str = "",
    unripe: Mapping[str, Mapping[str, int]] | None = None,
    cage: Cage = NOTHING_PROVEN,
    barred: Mapping[str, str] | None = None,
) -> Offering:
    """Return what the member offers under this policy.

    `shut`: what the schedule says against offering anything now. `unripe`: devices by node and resource that
    have not been without an owner's pod for long enough. `cage`: what canary guests have proven. `barred`:
    nodes that take nothing new for another reason.
    """
    closed = member_closed(offer, token_decimals=token_decimals, shut=shut, cage=cage)
    ordered = nodes_by_name(nodes)
    free = {node.name: node.allocatable for node in ordered}
    owned: set[str] = set()
    for pod in owners:
        if pod.node in free:
            free[pod.node] = free[pod.node].minus(pod.requests)
            if pod.requests.devices and not offer.share_nodes:
                owned.add(pod.node)
    resting = unripe or {}
    selected = {node.name: _selects(offer.node_selector, node) for node in ordered}
    kept = _kept_free(ordered, free, selected, offer.keep_free)
    result = {}
    for node in ordered:
        why, vacate = _node_closed(node, selected=selected[node.name], owned=node.name in owned)
        if not why and barred and node.name in barred:
            why = barred[node.name]
        if closed and selected[node.name]:
            # A mistyped price sells nothing new, but it must not cost anyone the work under way.
            why, vacate = closed, closed != bad_price(offer, token_decimals=token_decimals)
        elif not why and (uncaged := cage.why_closed(pool_of(node), offer)):
            why, vacate = uncaged, cage.broken(pool_of(node), offer)
        withheld, amounts = _sold(
            node, free[node.name], kept.get(node.name, {}), offer, resting=resting.get(node.name, {})
        )
        devices = node.devices
        bad = devices.bad if devices is not None and devices.closed == why else ()
        idle_here = sum(max(0, n) for n in free[node.name].accelerators.values())
        result[node.name] = NodeOffer(
            node=node,
            offerable=_none(node) if why else amounts,
            selected=selected[node.name],
            closed=why,
            vacate=vacate,
            kept=kept.get(node.name, {}),
            withheld=bad if why else withheld,
            idle_of_owner=max(0, devices.idle - idle_here) if devices is not None else 0,
        )
    idle = sum(max(0, n) for node in ordered if node.ready for n in free[node.name].accelerators.values())
    return Offering(nodes=result, closed=closed, paused=offer.paused, idle=idle)


def lost_nodes(nodes: Iterable[Node], *, now: datetime, after_seconds: float) -> frozenset[str]:
    """Return the nodes that have been not ready for so long that their guests count as lost."""
    return frozenset(
        node.name
        for node in nodes
        if not node.ready
        and node.not_ready_since is not None
        and (now - node.not_ready_since).total_seconds() >= after_seconds
    )


def provider_node(offer: NodeOffer) -> ProviderNodeSpec:
    """Return what the hub is told about a node. Never a negative amount: owners may hold too much."""
    node, amounts = offer.node, offer.offerable
    return ProviderNodeSpec(
        node_name=node.name,
        product=node.product,
        accelerator_memory_mib=node.accelerator_memory_mib,
        interconnect=node.interconnect,
        driver=node.driver,
        labels=_shown(node.labels),
        offerable=Offerable(
            cpu_millicores=max(0, amounts.cpu_millicores),
            memory_mib=max(0, amounts.memory_mib),
            ephemeral_storage_mib=max(0, amounts.ephemeral_storage_mib),
            pods=max(0, amounts.pods),
            accelerators={name: max(0, count) for name, count in sorted(amounts.accelerators.items())},
        ),
        withheld=offer.withheld,
    )


def nodes_by_name(nodes: Iterable[Node]) -> list[Node]:
    """Return nodes in the order of their names."""
    return sorted(nodes, key=lambda node: node.name)


def _selects(selector: Mapping[str, str], node: Node) -> bool:
    return all(node.labels.get(key) == value for key, value in selector.items())


def _node_closed(node: Node, *, selected: bool, owned: bool) -> tuple[str, bool]:
    """Why a node is closed, and whether its guests must go. An unready node may come back with them."""
    if not selected:
        return "outside the Offer's node selector", True
    if node.cordoned:
        return "cordoned", True
    if owned:
        return "not shared: a pod of the owner's holds an accelerator there", True
    if node.taints:
        return f"tainted {node.taints[0]}", False
    if not node.ready:
        return "not ready", False
    if node.devices is not None and node.devices.closed:
        return node.devices.closed, False
    return "", False


def _kept_free(
    nodes: list[Node],
    free: Mapping[str, Amounts],
    selected: Mapping[str, bool],
    wishes: Iterable[KeepFree],
) -> dict[str, dict[str, int]]:
    """Choose the devices that stay free: node → resource → count."""
    kept: dict[str, dict[str, int]] = {}
    usable = [node for node in nodes if node.ready and not node.cordoned]
    for wish in wishes:
        matching = [node for node in usable if fnmatchcase(node.product, wish.product)]
        # Of what the nodes have, free or not: 20 % of a cluster is a number that does not move with its use.
        there = sum(node.allocatable.accelerators.get(wish.resource, 0) for node in matching)
        missing = max(wish.count, -(-there * wish.percent // 100))
        for node in matching:
            held = kept.get(node.name, {}).get(wish.resource, 0)
            outside = 0 if selected[node.name] else max(0, free[node.name].accelerators.get(wish.resource, 0))
            missing -= max(held, outside)
        for node in reversed([n for n in matching if selected[n.name]]):
            if missing <= 0:
                break
            here = kept.setdefault(node.name, {})
            idle = free[node.name].accelerators.get(wish.resource, 0) - here.get(wish.resource, 0)
            take = min(missing, max(0, idle))
            here[wish.resource] = here.get(wish.resource, 0) + take
            missing -= take
    return kept


def _sold(
    node: Node, free: Amounts, kept: Mapping[str, int], offer: OfferSpec, *, resting: Mapping[str, int]
) -> tuple[tuple[Withheld, ...], Amounts]:
    """Return what is left after keep-free and without accelerators that have no price or rest yet.

    A device that rests is free for the owner as a kept one is: the larger of both numbers is left out.
    """
    withheld = []
    counts = {}
    for resource, count in free.accelerators.items():
        idle = max(0, count)
        if idle and not _priced(offer, resource, node.product):
            product = node.product or "unknown"
            withheld.append(
                Withheld(device=f"{idle} {resource}", reason=f"no price for {resource} of product {product}")
            )
            counts[resource] = 0
            continue
        if keep := kept.get(resource, 0):
            withheld.append(Withheld(device=f"{keep} {resource}", reason="kept free for the owner"))
        rest = min(idle, max(0, resting.get(resource, 0)) - keep)
        if rest > 0:
            reason = f"in use by the owner less than {offer.idle_for_seconds} s ago"
            withheld.append(Withheld(device=f"{rest} {resource}", reason=reason))
        counts[resource] = count - keep - max(0, rest)
    return tuple(withheld), Amounts(
        cpu_millicores=free.cpu_millicores,
        memory_mib=free.memory_mib,
        ephemeral_storage_mib=free.ephemeral_storage_mib,
        pods=free.pods,
        accelerators=counts,
    )


def _priced(offer: OfferSpec, resource: str, product: str) -> bool:
    return any(
        entry.resource == resource and fnmatchcase(product, entry.product)
        for entry in offer.prices.accelerators
    )


def _none(node: Node) -> Amounts:
    return Amounts(accelerators=dict.fromkeys(node.allocatable.accelerators, 0))


def _shown(labels: Mapping[str, str]) -> dict[str, str]:
    return dict(sorted(labels.items())[:_SHOWN_LABELS])
