"""What a canary's findings close."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import money_terms
from fallow.agent.cage import Cage, pool_of
from fallow.agent.offering import offering
from fallow.resources.offer import CAGE_CHECKS, CageFinding, CageProof
from unit.agent.some_work import a_node, an_offer


def a_proof(pool: str, *reached: str) -> CageProof:
    return CageProof(
        pool=pool,
        node="n1",
        checked_at="2026-01-01T00:00:00Z",
        reached=tuple(CageFinding(check=check, found="10.0.0.1:1 answers") for check in reached),
    )


def a_cage(*proofs: CageProof) -> Cage:
    return Cage(proofs={each.pool: each for each in proofs})


CASES: dict[str, tuple[dict[str, Any], Cage, dict[str, str]]] = {
    "nothing proven": ({}, Cage(), {"a1": "not proven", "b1": "not proven"}),
    "both proven": ({}, a_cage(a_proof("a"), a_proof("b")), {"a1": "", "b1": ""}),
    "one pool proven": ({}, a_cage(a_proof("a")), {"a1": "", "b1": "not proven in pool b"}),
    "one reached": (
        {},
        a_cage(a_proof("a"), a_proof("b", "Metadata")),
        {"a1": "", "b1": "reached what guests must not: Metadata (10.0.0.1:1 answers)"},
    ),
    "what it reached is waived": (
        {"accept_unproven": ("Metadata",)},
        a_cage(a_proof("a"), a_proof("b", "Metadata")),
        {"a1": "", "b1": ""},
    ),
    "waived is not all that it reached": (
        {"accept_unproven": ("Metadata",)},
        a_cage(a_proof("a"), a_proof("b", "Metadata", "Pids")),
        {"a1": "", "b1": "Pids (10.0.0.1:1 answers)"},
    ),
    "all waived": ({"accept_unproven": CAGE_CHECKS}, Cage(), {"a1": "", "b1": ""}),
}


@pytest.mark.parametrize("case", CASES)
def test_offering__cage__closes_pool_by_pool(case: str) -> None:
    fields, cage, want = CASES[case]
    nodes = [replace(a_node(n), labels={"fallow.dev/pool": n[0]}) for n in ("a1", "b1")]
    offer = an_offer(**{"accept_unproven": (), "node_selector": {}, **fields})
    offered = offering(nodes, [], offer, token_decimals=money_terms.DECIMALS, cage=cage)
    for name, words in want.items():
        closed = offered.nodes[name].closed
        assert words in closed
        assert bool(words) is bool(closed)
        assert offered.nodes[name].vacate is ("reached" in closed or bool(offered.closed))
    assert bool(offered.closed) is all(want.values())


def test_pool_of__labels__the_first_known_one_counts() -> None:
    node = a_node("n1")
    assert pool_of(node) == node.product
    labelled = replace(
        node, labels={"node.kubernetes.io/instance-type": "p5", "cloud.google.com/gke-nodepool": "x"}
    )
    assert pool_of(labelled) == "x"
