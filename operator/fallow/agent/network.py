"""What guests may reach over the network, as NetworkPolicies: name servers, and the egress the owner chose.

The chart's policy closes everything, both ways. These two only open, and are written anew when the Offer
changes; a gang's own policy is `gangs`' business. Never opened but by name: what is private, link-local (the
metadata service of clouds is) or this host's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

import structlog

from fallow.errors import AlreadyExists, FallowError, NotFound
from fallow.kube.client import ApiServer
from fallow.kube.kinds import NETWORK_POLICY
from fallow.kube.writers import Writers
from fallow.resources import naming
from fallow.resources.offer import OfferSpec

log = structlog.get_logger(__name__)

Network = IPv4Network | IPv6Network
NAMES_POLICY = "names"
EGRESS_POLICY = "egress"
AGAIN_SECONDS = 600.0
"""Written again after this time, in case somebody changed them."""

PRIVATE: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "224.0.0.0/3",
        "::1/128",
        "64:ff9b::/96",
        "fc00::/7",
        "fe80::/10",
        "ff00::/8",
    )
)
"""IANA's special-purpose ranges that are not the Internet: this host, private, shared, link-local, benchmark,
multicast, and IPv6 ways to reach such IPv4 addresses."""
_EVERYWHERE = ("0.0.0.0/0", "::/0")


def policies(offer: OfferSpec) -> dict[str, dict[str, Any] | None]:
    """Return the spec of each policy by its name; None where there is to be none."""
    everyone: dict[str, Any] = {}
    gangs = {"matchLabels": {naming.LABEL_GANG: "true"}}
    names = everyone if offer.egress != "None" else gangs
    ranges = {"None": (), "AllowList": offer.egress_ranges, "Internet": _EVERYWHERE}[offer.egress]
    blocks = _blocks(ranges)
    return {
        NAMES_POLICY: _opening(names, _name_servers(offer), ports=[("UDP", 53), ("TCP", 53)]),
        EGRESS_POLICY: _opening(everyone, blocks) if blocks else None,
    }


def _opening(
    selector: dict[str, Any], peers: list[dict[str, Any]], *, ports: Iterable[tuple[str, int]] = ()
) -> dict[str, Any]:
    rule: dict[str, Any] = {"to": peers}
    if numbers := [{"protocol": protocol, "port": port} for protocol, port in ports]:
        rule["ports"] = numbers
    return {"podSelector": selector, "policyTypes": ["Egress"], "ingress": None, "egress": [rule]}


def _name_servers(offer: OfferSpec) -> list[dict[str, Any]]:
    if offer.dns_ranges:
        return [{"ipBlock": {"cidr": str(each)}} for each in _read(offer.dns_ranges)]
    return [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }
    ]


def _blocks(ranges: Iterable[str]) -> list[dict[str, Any]]:
    blocks = []
    for network in _read(ranges):
        left_out = [str(p) for p in PRIVATE if p.version == network.version and _strictly_in(p, network)]
        blocks.append({"ipBlock": {"cidr": str(network), **({"except": left_out} if left_out else {})}})
    return blocks


def _strictly_in(inner: Network, outer: Network) -> bool:
    return inner.prefixlen > outer.prefixlen and inner.network_address in outer


def _read(ranges: Iterable[str]) -> list[Network]:
    """Return what can be read of them; what cannot opens nothing."""
    found: list[Network] = []
    for text in ranges:
        try:
            found.append(ip_network(text, strict=False))
        except ValueError:
            log.warning("not a network: nothing is opened for it", range=text)
    return found


class NetworkWrites:
    """Keeps the policies as the Offer wants them."""

    def __init__(
        self,
        api: ApiServer,
        writers: Writers,
        *,
        namespace: str,
        monotonic: Callable[[], float],
        wake: Callable[[], None],
    ) -> None:
        self._api = api
        self._writers = writers
        self._namespace = namespace
        self._monotonic = monotonic
        self._wake = wake
        self._wanted: dict[str, dict[str, Any] | None] = {}
        self._written: dict[str, tuple[dict[str, Any] | None, float]] = {}

    def tell(self, offer: OfferSpec) -> float:
        """Write what differs from what was written last; returns the seconds until all is due again."""
        self._wanted = policies(offer)
        for name, spec in self._wanted.items():
            told = self._written.get(name)
            fresh = told is not None and self._monotonic() - told[1] < AGAIN_SECONDS
            if fresh and told is not None and told[0] == spec:
                continue
            if not self._writers.pending(("network", name)):
                self._submit(name)
        return AGAIN_SECONDS

    def _submit(self, name: str) -> None:
        async def put() -> None:
            spec = self._wanted[name]
            await self._put(name, spec)
            self._written[name] = (spec, self._monotonic())

        self._writers.submit(("network", name), put, priority=-1, on_done=self._told)

    async def _put(self, name: str, spec: dict[str, Any] | None) -> None:
        if spec is None:
            with suppress(NotFound):
                await self._api.delete(NETWORK_POLICY, name, namespace=self._namespace)
            return
        # A merge patch with an empty selector would leave the old one's labels in place.
        spec = {**spec, "podSelector": {"matchLabels": None, **spec["podSelector"]}}
        try:
            await self._api.patch(NETWORK_POLICY, name, {"spec": spec}, namespace=self._namespace)
        except NotFound:
            metadata = {"name": name, "namespace": self._namespace}
            try:
                await self._api.create(NETWORK_POLICY, {"metadata": metadata, "spec": spec})
            except AlreadyExists:
                await self._api.patch(NETWORK_POLICY, name, {"spec": spec}, namespace=self._namespace)

    def _told(self, error: Exception | None) -> None:
        if isinstance(error, FallowError):
            log.warning("a NetworkPolicy of the guests was not written", error=str(error))
        self._wake()
