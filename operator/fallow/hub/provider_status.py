"""A Provider's status: conditions, capacity by product, what it earned. Written only on change."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from fallow.hub.holdings import Holdings
from fallow.hub.placements import JSON
from fallow.hub.providers import Standing
from fallow.hub.snapshots import offerable
from fallow.kube.conditions import merged, rfc3339
from fallow.resources.money import format_amount
from fallow.scheduler.snapshot import CPU, NATIVE

CONTACT_STEP_SECONDS = 60
"""`lastContact` moves in steps this long: a write per heartbeat would be one every 3 s and provider."""


def status_of(
    provider: JSON,
    standing: Standing,
    nodes: Iterable[JSON],
    holdings: Holdings,
    *,
    earned: int,
    waiting: int,
    decimals: int,
    last_contact: datetime | None,
    now: datetime,
    record: JSON | None = None,
) -> JSON:
    """Return the whole status that a Provider should have; `record` replaces the one that is there."""
    before = provider.get("status") or {}
    capacity, offered, held = _capacity(provider["metadata"]["name"], nodes, holdings)
    status: JSON = {
        **before,
        "observedGeneration": provider["metadata"].get("generation") or 0,
        "conditions": merged(before.get("conditions"), standing.conditions, now=now),
        "capacity": capacity,
        "offerableAccelerators": offered,
        "heldAccelerators": held,
        "earned": format_amount(earned, decimals=decimals),
        "waiting": format_amount(waiting, decimals=decimals),
    }
    if record is not None and any(record.values()):
        status["record"] = record
    if last_contact is not None and _moved(before.get("lastContact"), last_contact):
        status["lastContact"] = rfc3339(last_contact)
    return status


def _capacity(name: str, nodes: Iterable[JSON], holdings: Holdings) -> tuple[list[JSON], int, int]:
    products: dict[str, JSON] = {}
    offered = held = 0
    for node in nodes:
        spec = node["spec"]
        vector = offerable(node)
        accelerators = sum(amount for key, amount in vector.items() if key not in NATIVE)
        product = spec.get("product") or "cpu"
        entry = products.setdefault(product, {"product": product, "nodes": 0, "offerable": 0, "held": 0})
        entry["nodes"] += 1
        if product == "cpu":
            entry["offerable"] += vector[CPU] // 1000
            entry["held"] += -(-holdings.on_node(name, spec["nodeName"])[CPU] // 1000)
        else:
            mine = holdings.accelerators_on_node(name, spec["nodeName"])
            entry["offerable"] += accelerators
            entry["held"] += mine
            offered += accelerators
            held += mine
    return [products[product] for product in sorted(products)][:64], offered, held


def _moved(before: str | None, contact: datetime) -> bool:
    if before is None:
        return True
    return (contact - datetime.fromisoformat(before)).total_seconds() >= CONTACT_STEP_SECONDS
