"""Leaves of an archived epoch as the contract takes them: they hash to what was committed to."""

from __future__ import annotations

import json

import pytest
from eth_abi.abi import encode

from fallow.receipts import merkle
from fallow.receipts.epochs import CLAIM_TYPE, genesis_commitment
from fallow.receipts.words import from_hex, keccak
from fallow.settler.leaves import EpochLeaves, NoSuchLine
from unit.settler.epochs import DOMAIN, a_bundle, a_checked_claim

_TYPES = [
    "bytes32", "bytes32", "uint256", "address", "uint64", "uint32", "bytes32", "bytes32", "bytes16",
    "bytes16", "bytes32", "bytes32", "bytes32", "address", "address", "uint64", "uint256", "uint256",
]  # fmt: skip


def _leaves(count: int) -> EpochLeaves:
    claims = [a_checked_claim(number) for number in range(count)]
    return EpochLeaves(a_bundle(1, genesis_commitment(DOMAIN), claims))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_leaf__of_each_claim__hashes_to_the_claims_root_and_has_its_place(count: int) -> None:
    leaves = _leaves(count)
    told = leaves.bundle.settlement
    for index in range(count):
        claim, claim_proof, allocation_proof = leaves.leaf(index)
        salt, number, *rest = claim
        head = (keccak(CLAIM_TYPE.encode()), salt, DOMAIN.chain_id, DOMAIN.escrow, told.epoch, number)
        leaf = merkle.leaf_hash(encode(_TYPES, [*head, *rest]))
        assert merkle.verify(leaf, claim_proof, root=told.claims_root)
        allocation = from_hex(json.loads(leaves.bundle.data)["claims"][index]["allocationLeaf"])
        assert merkle.verify(allocation, allocation_proof, root=told.allocations_root)
        assert leaves.find(leaves.claim_id(index)) == number == index


def test_claims_of_a_line__ascend_by_their_ids() -> None:
    leaves = _leaves(5)
    ids = [leaves.claim_id(index) for index in leaves.claims_of_line(0)]
    assert ids == sorted(ids)
    assert len(ids) == 5


def test_line__between_two_that_have_none__is_refused_by_name() -> None:
    leaves = _leaves(1)
    line = leaves.bundle.lines[0]
    assert leaves.line_index(line.payer.lower(), line.payee) == 0
    with pytest.raises(NoSuchLine, match="has no line"):
        leaves.line_index(line.payee, line.payer)
