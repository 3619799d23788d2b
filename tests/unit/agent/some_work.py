"""Work, nodes and offers for tables: `some_work({"n1": (2, "0-3")})`, `a_node("n1", gpus=8)`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import money_terms
from fallow.agent.nodes import Amounts, Node, OwnerPod
from fallow.agent.offering import Offering, offering
from fallow.agent.quoting import Identity
from fallow.agent.site import Room, Site
from fallow.agent.work import Work
from fallow.receipts.requests import Requests
from fallow.receipts.typed_data import Domain
from fallow.resources.base import JobRef
from fallow.resources.offer import CAGE_CHECKS, OfferSpec
from fallow.resources.placement import Assignment, PlacementSpec
from fallow.resources.quote import AcceleratorPrice, Prices
from fallow.resources.template import Template
from fallow.resources.terms import Terms
from unit.agent.guest_pods import UID, at

H100 = "NVIDIA-H100-80GB-HBM3"
GPU = "nvidia.com/gpu"
LEDGER = Domain.of_ledger(money_terms.HUB_ID)
CHAIN = Domain(chain_id=31_337, escrow="0x" + "e5" * 20, hub_id=money_terms.HUB_ID)
TOKEN = "0x" + "70" * 20
KEY = money_terms.key("signer")


def an_identity(domain: Domain = LEDGER) -> Identity:
    return Identity(
        provider="aurora",
        payee=money_terms.address("payee"),
        key=KEY,
        domain=domain,
        token=TOKEN,
        token_decimals=money_terms.DECIMALS,
    )


@lru_cache
def _usual_terms(domain: Domain) -> Terms:
    """Signing takes 10 ms; the usual terms are signed once."""
    return money_terms.some_terms(domain)


def a_template(*, container: Mapping[str, Any] | None = None, **spec: Any) -> Template:
    main = {
        "name": "main",
        "image": "a.example/x:1",
        "resources": {"limits": {GPU: "1"}},
        **(container or {}),
    }
    return Template.model_validate({"spec": {"containers": [main], **spec}})


def a_spec(
    assignments: Mapping[str, tuple[int, str]],
    *,
    domain: Domain = LEDGER,
    template: Template | None = None,
    terms: Mapping[str, Any] | None = None,
    **fields: Any,
) -> PlacementSpec:
    return PlacementSpec(
        **{
            "job": JobRef(namespace="default", name="sweep", uid=money_terms.JOB_UID),
            "attempt": 0,
            "term": 0,
            "template": template or a_template(),
            "assignments": tuple(
                Assignment(node=node, slots=slots, tasks=tasks)
                for node, (slots, tasks) in assignments.items()
            ),
            "terms": money_terms.some_terms(domain, **(terms or {})),
            **fields,
        }
    )


def some_work(assignments: Mapping[str, tuple[int, str]], **fields: Any) -> Work:
    return Work(
        name="p-0",
        namespace="provider-aurora",
        uid=UID,
        generation=1,
        created_at=at(0),
        spec=a_spec(assignments, **fields),
    )


def a_site(*nodes: str, seconds: float = 0, closed: Mapping[str, str] | None = None, **more: Any) -> Site:
    return Site(now=at(seconds), nodes=dict.fromkeys(nodes or ("n1", "n2"), "") | dict(closed or {}), **more)


def some_room(gpus: int = 8, nodes: tuple[str, ...] = ("n1", "n2"), guests: int = 1000) -> Room:
    amounts = Amounts(cpu_millicores=64_000, memory_mib=2**20, pods=110, accelerators={GPU: gpus})
    return Room(dict.fromkeys(nodes, amounts), guests=guests)


def a_node(name: str, *, gpus: int = 8, product: str = H100, **more: Any) -> Node:
    accelerators = {GPU: gpus} if gpus else {}
    return Node(
        **{
            "name": name,
            "labels": {"pool": "a"},
            "allocatable": Amounts(
                cpu_millicores=64_000, memory_mib=1000, pods=110, accelerators=accelerators
            ),
            "product": product if gpus else "",
            **more,
        }
    )


def an_owner(node: str, *, gpus: int = 1, cpu: int = 1000) -> OwnerPod:
    requests = Requests(cpu_millicores=cpu, memory_mib=10, devices={GPU: gpus} if gpus else {})
    return OwnerPod(node=node, requests=requests)


def an_offer(**fields: Any) -> OfferSpec:
    return OfferSpec(
        **{
            "prices": Prices(
                accelerators=(AcceleratorPrice(price_per_hour="1.80"),),
                cpu_core_hour="0.01",
                memory_gib_hour="0.001",
            ),
            "images": ("*",),
            "accounts_allowed": ("*",),
            "accept_unproven": CAGE_CHECKS,
            **fields,
        }
    )


def an_offering(nodes: Iterable[Node], owners: Iterable[OwnerPod], offer: OfferSpec) -> Offering:
    return offering(nodes, owners, offer, token_decimals=money_terms.DECIMALS)
