"""What the policies for guests open, and never open."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from fallow.agent.network import EGRESS_POLICY, NAMES_POLICY, policies
from fallow.resources.offer import OfferSpec

METADATA, CLUSTER, PUBLIC = "169.254.169.254", "10.1.2.3", "8.8.8.8"


def reachable(offer: OfferSpec, address: str) -> bool:
    """Evaluate the egress policy as a network plugin does."""
    spec: dict[str, Any] | None = policies(offer)[EGRESS_POLICY]
    if spec is None:
        return False
    for rule in spec["egress"]:
        for peer in rule["to"]:
            block = peer["ipBlock"]
            left_out = any(ip_address(address) in ip_network(each) for each in block.get("except", ()))
            if ip_address(address) in ip_network(block["cidr"]) and not left_out:
                return True
    return False


@pytest.mark.parametrize(
    ("fields", "want"),
    [
        pytest.param({}, set(), id="closed by default"),
        pytest.param({"egress": "Internet"}, {PUBLIC}, id="the Internet is what is not private"),
        pytest.param({"egress": "AllowList"}, set(), id="an empty list opens nothing"),
        pytest.param({"egress": "AllowList", "egress_ranges": ("8.8.8.0/24",)}, {PUBLIC}, id="one range"),
        pytest.param(
            {"egress": "AllowList", "egress_ranges": ("0.0.0.0/0",)},
            {PUBLIC},
            id="wide: without private ones",
        ),
        pytest.param(
            {"egress": "AllowList", "egress_ranges": ("10.1.2.0/24",)},
            {CLUSTER},
            id="private and narrow: meant",
        ),
        pytest.param(
            {"egress": "AllowList", "egress_ranges": ("999.0.0.0/8",)}, set(), id="no network at all"
        ),
        pytest.param({"egress": "None", "egress_ranges": ("0.0.0.0/0",)}, set(), id="ranges need AllowList"),
    ],
)
def test_egress__offers__open_exactly(fields: dict[str, Any], want: set[str]) -> None:
    offer = OfferSpec(**fields)
    assert {each for each in (METADATA, CLUSTER, PUBLIC) if reachable(offer, each)} == want


@pytest.mark.parametrize(
    "address",
    ["fe80::1", "fd00:ec2::254", "::1", "64:ff9b::a9fe:a9fe", "127.0.0.1", "100.100.100.200", "224.0.0.1"],
)
def test_internet__special_addresses__are_never_reached(address: str) -> None:
    assert not reachable(OfferSpec(egress="Internet"), address)
    assert reachable(OfferSpec(egress="Internet"), "2606:4700::1111")


def test_names__no_egress__only_gangs_may_ask_name_servers() -> None:
    spec = policies(OfferSpec())[NAMES_POLICY]
    assert spec is not None
    assert spec["podSelector"] == {"matchLabels": {"fallow.dev/gang": "true"}}
    assert spec["egress"][0]["ports"] == [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]


def test_names__egress_and_ranges__everybody_may_ask_there() -> None:
    spec = policies(OfferSpec(egress="Internet", dns_ranges=("10.96.0.10/32",)))[NAMES_POLICY]
    assert spec is not None
    assert spec["podSelector"] == {}
    assert spec["egress"][0]["to"] == [{"ipBlock": {"cidr": "10.96.0.10/32"}}]
