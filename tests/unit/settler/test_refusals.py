"""Reverts by class, from the committed artifact's own errors."""

from __future__ import annotations

import pytest
from eth_abi.abi import encode

from fallow.receipts.words import keccak
from fallow.settler.abi import artifact
from fallow.settler.refusals import (
    EpochTaken,
    EscrowRefused,
    PayeeRefused,
    PayerRefused,
    SettlingStopped,
    from_revert,
)

KNOWN = artifact("FallowEscrow").errors
SOMEBODY = "0x" + "ab" * 20


def _data(signature: str, *values: object) -> bytes:
    types = signature[signature.index("(") + 1 : -1].split(",")
    return keccak(signature.encode())[:4] + (encode(types, values) if values else b"")


@pytest.mark.parametrize(
    ("data", "want"),
    [
        (_data("PayerNotBound(address)", SOMEBODY), PayerRefused),
        (_data("CapExceeded(address,uint256,uint256)", SOMEBODY, 2, 1), PayerRefused),
        (_data("DebitTooSoon(address,uint256)", SOMEBODY, 9), PayerRefused),
        (_data("InsufficientBalance(address,uint256,uint256)", SOMEBODY, 2, 1), PayerRefused),
        (_data("PayeeNotActive(address)", SOMEBODY), PayeeRefused),
        (_data("EpochOutOfOrder(uint64,uint64)", 1, 2), EpochTaken),
        (_data("SettlingPaused()"), SettlingStopped),
        (_data("Insolvent(uint256,uint256)", 1, 2), SettlingStopped),
    ],
)
def test_from_revert__the_escrows_errors__have_their_class(data: bytes, want: type[EscrowRefused]) -> None:
    refusal = from_revert(data, known=KNOWN)
    assert type(refusal) is want
    assert refusal.name in str(refusal)


def test_from_revert__about_a_payer__names_it_checksummed() -> None:
    refusal = from_revert(_data("PayerNotBound(address)", SOMEBODY), known=KNOWN)
    assert isinstance(refusal, PayerRefused)
    assert refusal.payer.lower() == SOMEBODY
    assert refusal.payer != SOMEBODY


@pytest.mark.parametrize("data", [b"", b"\x12\x34\x56\x78", _data("PayerNotBound(address)", SOMEBODY)[:10]])
def test_from_revert__data_that_nobody_knows__is_a_plain_refusal(data: bytes) -> None:
    refusal = from_revert(data, known=KNOWN)
    assert type(refusal) is EscrowRefused
    assert refusal.name == ""
