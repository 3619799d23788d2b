"""The standard tree: proofs, order, and what must not verify."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.receipts import merkle
from fallow.receipts.attempts import attempts_root, payable_seconds
from fallow.receipts.words import ZERO_WORD
from fallow.resources.ended import Ended, Outcome

leaves_strategy = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40, unique=True)


@given(leaves_strategy)
def test_proof__of_every_leaf__leads_to_the_root(leaves: list[bytes]) -> None:
    root = merkle.root(leaves)
    assert all(merkle.verify(leaf, merkle.proof(leaves, leaf), root=root) for leaf in leaves)


@given(leaves_strategy, st.randoms(use_true_random=False))
def test_root__leaves_in_another_order__is_the_same(leaves: list[bytes], random: object) -> None:
    shuffled = list(leaves)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert merkle.root(shuffled) == merkle.root(leaves)


@given(leaves_strategy, st.binary(min_size=32, max_size=32))
def test_proof__of_a_stranger__does_not_verify(leaves: list[bytes], stranger: bytes) -> None:
    if stranger not in leaves:
        assert not merkle.verify(stranger, merkle.proof(leaves, leaves[0]), root=merkle.root(leaves))


def test_root__of_nothing__is_the_zero_word() -> None:
    assert merkle.root([]) == ZERO_WORD


def test_attempts_root__one_attempt_twice__is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        attempts_root([Ended(1, 0, 5, Outcome.SUCCEEDED), Ended(1, 0, 6, Outcome.FAILED)])


@pytest.mark.parametrize(
    "other",
    [
        Ended(2, 0, 5, Outcome.SUCCEEDED),
        Ended(1, 1, 5, Outcome.SUCCEEDED),
        Ended(1, 0, 6, Outcome.SUCCEEDED),
        Ended(1, 0, 5, Outcome.FAILED),
        Ended(1, 0, 5, Outcome.SUCCEEDED, b"d" * 32),
    ],
)
def test_attempts_root__any_field_changed__is_another(other: Ended) -> None:
    assert attempts_root([Ended(1, 0, 5, Outcome.SUCCEEDED)]) != attempts_root([other])


def test_payable_seconds__by_outcome__leaves_out_the_providers_own_risk() -> None:
    assert payable_seconds(Ended(n, 0, 10**n, outcome) for n, outcome in enumerate("SFTCRLU")) == 1111  # type: ignore[arg-type]
