"""Epochs: a pure function of their claims, and everything that must not enter one."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devkit import money_vectors
from fallow.receipts import merkle
from fallow.receipts.epochs import Epoch, Line, claim_id, commitment, lines_of, pack_lines, salt, unpack_lines

ADDRESSES = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())


def _again(epoch: Epoch, **changes: object) -> Epoch:
    arguments = {
        "domain": epoch.domain,
        "number": epoch.number,
        "previous_commitment": epoch.previous_commitment,
        "salt_key": money_vectors.SALT_KEY,
    }
    claims = changes.pop("claims", epoch.claims)
    return Epoch.of(claims, **(arguments | changes))  # type: ignore[arg-type]


def test_epoch__same_claims_in_another_order__has_the_same_commitment() -> None:
    epoch = money_vectors.an_epoch()
    shuffled = list(epoch.claims)
    Random(7).shuffle(shuffled)
    assert commitment(_again(epoch, claims=shuffled).settlement(b"b" * 32)) == commitment(
        epoch.settlement(b"b" * 32)
    )


@pytest.mark.parametrize(
    "change", [{"number": 2}, {"previous_commitment": b"p" * 32}, {"salt_key": b"k" * 32}]
)
def test_epoch__anything_else_about_it__has_another_commitment(change: dict[str, object]) -> None:
    epoch = money_vectors.an_epoch()
    assert commitment(_again(epoch, **change).settlement(b"b" * 32)) != commitment(
        epoch.settlement(b"b" * 32)
    )


def test_epoch__lines__are_what_their_allocations_sum_to() -> None:
    epoch = money_vectors.an_epoch()
    sums = [0] * len(epoch.lines)
    for index, claim in enumerate(epoch.claims):
        sums[epoch.line_index(index)] += claim.amount
    assert sums == [line.amount for line in epoch.lines]
    leaves = [epoch.allocation_leaf(index) for index in range(len(epoch.claims))]
    assert merkle.verify(leaves[2], merkle.proof(leaves, leaves[2]), root=epoch.allocations_root)


def test_epoch__a_claim_twice__is_refused() -> None:
    epoch = money_vectors.an_epoch()
    with pytest.raises(ValueError, match="each claim once"):
        _again(epoch, claims=[*epoch.claims, epoch.claims[0]])


def test_epoch__a_claim_of_nothing__is_refused() -> None:
    epoch = money_vectors.an_epoch()
    with pytest.raises(ValueError, match="nothing"):
        _again(epoch, claims=[replace(epoch.claims[0], amount=0)])


@given(st.dictionaries(st.tuples(ADDRESSES, ADDRESSES), st.integers(1, 2**96 - 1), min_size=1, max_size=30))
def test_lines__packed_and_unpacked__are_the_same(amounts: dict[tuple[str, str], int]) -> None:
    rows = [(*pair, amount) for pair, amount in sorted(amounts.items())]
    lines = unpack_lines(pack_lines([Line(*row) for row in rows]))
    assert [(line.payer.lower(), line.payee.lower(), line.amount) for line in lines] == rows


@given(st.binary(min_size=1, max_size=120))
def test_unpack__bytes_that_nobody_packed__are_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match=r"lines|line"):
        unpack_lines(packed)


@pytest.mark.parametrize("order", [(0, 0), (1, 0)])
def test_pack__lines_that_do_not_ascend__is_refused(order: tuple[int, int]) -> None:
    lines = [Line("0x" + "11" * 20, f"0x{n:040x}", 1) for n in (1, 2)]
    with pytest.raises(ValueError, match="ascend"):
        pack_lines([lines[n] for n in order])


def test_lines__spelled_with_and_without_checksum__are_one() -> None:
    claim = money_vectors.an_epoch().claims[0]
    twin = replace(claim, payer=claim.payer.lower(), payee=claim.payee.lower())
    assert len(lines_of([claim, twin])) == 1


@pytest.mark.parametrize("amount", [0, -1, 2**96])
def test_line__amount_out_of_bounds__is_refused(amount: int) -> None:
    with pytest.raises(ValueError, match="units"):
        pack_lines([Line("0x" + "11" * 20, "0x" + "22" * 20, amount)])


def test_salt__short_key__is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        salt(b"short", b"c" * 32, epoch=1)


def test_claim_id__another_placement_sequence_or_hub__is_another() -> None:
    one, other = money_vectors.PLACEMENT_UIDS[:2]
    ids = {
        claim_id(b"h" * 32, one, 0),
        claim_id(b"h" * 32, other, 0),
        claim_id(b"h" * 32, one, 1),
        claim_id(b"i" * 32, one, 0),
    }
    assert len(ids) == 4
