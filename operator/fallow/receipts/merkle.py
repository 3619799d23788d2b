"""OpenZeppelin's StandardMerkleTree: double-hashed leaves, sorted, pairs hashed in sorted order.

A leaf is keccak(keccak(abi.encode(fields))): hashing twice keeps a leaf from being taken for an
inner node. The layout (a complete binary tree in one array, leaves ascending from its end) is that
of @openzeppelin/merkle-tree, so roots and proofs equal its and `MerkleProof.verify` accepts them.
Unlike it, an empty tree has a root: the zero word, which is the hash of nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from fallow.receipts.words import ZERO_WORD, keccak


def leaf_hash(encoded: bytes) -> bytes:
    """Return the leaf over `abi.encode(fields)`."""
    return keccak(keccak(encoded))


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the root over leaf hashes in any order; the zero word when there are none."""
    return tree(leaves)[0] if leaves else ZERO_WORD


def proof(leaves: Sequence[bytes], leaf: bytes) -> list[bytes]:
    """Return the siblings from `leaf` up to the root. ValueError when it is not among `leaves`."""
    return proof_in(tree(leaves), leaf)


def proof_in(tree: Sequence[bytes], leaf: bytes) -> list[bytes]:
    """Return `proof` from a tree that was built before: for many leaves of the same one."""
    position = tree.index(leaf, len(tree) // 2)
    siblings = []
    while position > 0:
        siblings.append(tree[position + 1 if position % 2 else position - 1])
        position = (position - 1) // 2
    return siblings


def verify(leaf: bytes, siblings: Sequence[bytes], *, root: bytes) -> bool:
    """Whether `siblings` lead from `leaf` to `root`."""
    node = leaf
    for sibling in siblings:
        node = _pair(node, sibling)
    return node == root


def tree(leaves: Sequence[bytes]) -> list[bytes]:
    """Return the whole tree, its root first and its leaves last, descending."""
    count = len(leaves)
    nodes = [b""] * (count - 1) + sorted(leaves, reverse=True)
    for position in range(count - 2, -1, -1):
        nodes[position] = _pair(nodes[2 * position + 1], nodes[2 * position + 2])
    return nodes


def _pair(one: bytes, other: bytes) -> bytes:
    return keccak(one + other if one < other else other + one)
