"""What has been proven of the cage, pool by pool, and what that closes.

A pool is a set of nodes that the owner runs alike; what a canary guest finds on one counts for all of them.
A check that is neither proven nor waived by name closes the pool; without any open pool all is closed (I9).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from pydantic import ValidationError

from fallow.agent.nodes import Node
from fallow.resources.offer import CAGE_CHECKS, CageProof, OfferSpec

log = structlog.get_logger(__name__)

POOL_LABELS = (
    "fallow.dev/pool",
    "cloud.google.com/gke-nodepool",
    "eks.amazonaws.com/nodegroup",
    "kubernetes.azure.com/agentpool",
    "karpenter.sh/nodepool",
    "node.kubernetes.io/instance-type",
)
"""By which label nodes are taken for alike; the first that a node has. Without one: by its product."""
MAX_POOLS = 64


def pool_of(node: Node) -> str:
    """Return the name of a node's pool."""
    for label in POOL_LABELS:
        if value := node.labels.get(label):
            return value
    return node.product or "unlabelled"


def unproven_checks(offer: OfferSpec) -> tuple[str, ...]:
    """Return the cage's checks that the owner has not waived by name: these have to be proven."""
    return tuple(check for check in CAGE_CHECKS if check not in offer.accept_unproven)


@dataclass(frozen=True, slots=True)
class Cage:
    """The proofs there are, by pool, and why there is none where a canary could not run."""

    proofs: Mapping[str, CageProof] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)

    def why_closed(self, pool: str, offer: OfferSpec) -> str:
        """Return why a pool's nodes take no guests; "" when they may."""
        wanted = unproven_checks(offer)
        if not wanted:
            return ""
        proof = self.proofs.get(pool)
        if proof is None:
            why = self.problems.get(pool) or "no canary guest has come back yet"
            return f"the cage is not proven in pool {pool}: {why}"[:1000]
        reached = [f"{each.check} ({each.found})" for each in proof.reached if each.check in wanted]
        if not reached:
            return ""
        return f"a canary guest on {proof.node} reached what guests must not: {', '.join(reached)}"[:1000]

    def broken(self, pool: str, offer: OfferSpec) -> bool:
        """Whether a canary did reach something there: then guests have to go."""
        return pool in self.proofs and bool(self.why_closed(pool, offer))

    def member_closed(self, offer: OfferSpec) -> str:
        """Return why the whole member is closed for its cage, in one sentence; "" when some pool is open."""
        wanted = unproven_checks(offer)
        if not wanted or any(not self.why_closed(pool, offer) for pool in self.proofs):
            return ""
        found = [self.why_closed(pool, offer) for pool in (*self.proofs, *self.problems)]
        said = f": {found[0]}" if found else ""
        return (
            f"The cage is not proven ({', '.join(wanted)}){said}; prove it, or waive these checks by name in "
            "spec.acceptUnproven."
        )[:1000]


NOTHING_PROVEN = Cage()


def read_proofs(status: Mapping[str, object]) -> dict[str, CageProof]:
    """Return the proofs in an Offer's status; none where they cannot be read: then they are made anew."""
    entries = status.get("cage") or ()
    assert isinstance(entries, Iterable)
    try:
        proofs = [CageProof.model_validate(each) for each in entries]
    except ValidationError as error:
        log.warning("proofs of the cage cannot be read: made anew", error=str(error))
        return {}
    return {each.pool: each for each in proofs}


def is_old(proof: CageProof, *, now: datetime, hours: float) -> bool:
    """Whether a proof is so old that it is made again."""
    return (now - datetime.fromisoformat(proof.checked_at)).total_seconds() >= hours * 3600
