"""Who signed what: everything that makes a signature not count."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from eth_account import Account

from fallow.receipts.messages import PayeeRegistration
from fallow.receipts.typed_data import Domain, SignatureError, check_signed_by, recover, sign
from fallow.receipts.words import address_bytes, checksummed, keccak, uid_bytes

DOMAIN = Domain(chain_id=1, escrow="0x" + "ab" * 20, hub_id=keccak(b"hub"))
KEY = Account.from_key(keccak(b"key"))
MESSAGE = PayeeRegistration(payee=str(KEY.address), deadline=5)
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def test_recover__own_signature__is_the_signer() -> None:
    assert recover(DOMAIN, MESSAGE, signature=sign(DOMAIN, MESSAGE, key=KEY)) == KEY.address


@pytest.mark.parametrize(
    "change", [{"chain_id": 2}, {"escrow": "0x" + "ac" * 20}, {"hub_id": keccak(b"other")}]
)
def test_check__signed_for_another_domain__is_refused(change: dict[str, Any]) -> None:
    signature = sign(replace(DOMAIN, **change), MESSAGE, key=KEY)
    with pytest.raises(SignatureError, match="signed by"):
        check_signed_by(str(KEY.address), DOMAIN, MESSAGE, signature=signature)


def test_check__message_changed__is_refused() -> None:
    signature = sign(DOMAIN, MESSAGE, key=KEY)
    with pytest.raises(SignatureError, match="signed by"):
        check_signed_by(str(KEY.address), DOMAIN, replace(MESSAGE, deadline=6), signature=signature)


def test_recover__malleable_twin__is_refused() -> None:
    raw = bytes.fromhex(sign(DOMAIN, MESSAGE, key=KEY)[2:])
    twin = raw[:32] + (ORDER - int.from_bytes(raw[32:64], "big")).to_bytes(32, "big") + bytes([55 - raw[64]])
    with pytest.raises(SignatureError, match="low s"):
        recover(DOMAIN, MESSAGE, signature="0x" + twin.hex())


@pytest.mark.parametrize("signature", ["", "0x", "0x12", "zz", "0x" + "00" * 65, "0x" + "00" * 64 + "1b"])
def test_recover__what_is_no_signature__is_refused(signature: str) -> None:
    with pytest.raises(SignatureError):
        recover(DOMAIN, MESSAGE, signature=signature)


def test_address__mistyped_checksum__is_refused() -> None:
    good = checksummed("0x" + "ab" * 20)
    bad = good[:-1] + good[-1].swapcase()
    assert address_bytes(good) == b"\xab" * 20
    with pytest.raises(ValueError, match="checksum"):
        address_bytes(bad)


@pytest.mark.parametrize(
    "uid", ["", "abc", "8F14E45F-CEEA-467F-A0E6-7B3B3C2D1E0F", "8f14e45fceea467fa0e67b3b3c2d1e0f"]
)
def test_uid__second_spelling__is_refused(uid: str) -> None:
    with pytest.raises(ValueError, match=r"UI?D|UUID"):
        uid_bytes(uid)
