"""What a remote signer returned is what was asked for, or it is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from pydantic import ValidationError

import money_terms as money
from fallow.errors import InvalidSetting
from fallow.receipts.messages import Settlement
from fallow.receipts.typed_data import Domain, sign
from fallow.receipts.words import checksummed, to_hex
from fallow.settings import RemoteSignerSettings
from fallow.settler.refusals import SignerLies
from fallow.settler.signing import KeySigner, RemoteSigner, check_transaction, typed_content

OPERATOR = money.key("operator")
ASKED: dict[str, Any] = {
    "to": checksummed("0x" + "e5" * 20),
    "data": "0xabcdef",
    "value": 0,
    "chainId": 31337,
    "type": 2,
    "nonce": 7,
    "gas": 100_000,
    "maxFeePerGas": 30 * 10**9,
    "maxPriorityFeePerGas": 10**9,
}


async def _signed(changes: dict[str, Any], *, by: str = "operator") -> bytes:
    return await KeySigner(money.key(by)).sign_transaction(ASKED | changes)


async def test_transaction__exactly_as_asked__is_taken() -> None:
    check_transaction(await _signed({}), ASKED, sender=OPERATOR.address)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("to", checksummed("0x" + "bb" * 20)),
        ("data", "0xabcdee"),
        ("value", 1),
        ("chainId", 1),
        ("nonce", 8),
        ("gas", 30_000_000),
        ("maxFeePerGas", 31 * 10**9),
        ("maxPriorityFeePerGas", 2 * 10**9),
    ],
)
async def test_transaction__with_another_value__is_refused(field: str, value: object) -> None:
    with pytest.raises(SignerLies, match=f"its {field} differs"):
        check_transaction(await _signed({field: value}), ASKED, sender=OPERATOR.address)


async def test_transaction__by_another_key_or_none_at_all__is_refused() -> None:
    with pytest.raises(SignerLies, match="signed with the key of"):
        check_transaction(await _signed({}, by="stranger"), ASKED, sender=OPERATOR.address)
    for raw in (b"", b"\x02", b"\x02" + bytes(40), (await _signed({}))[:-1]):
        with pytest.raises(SignerLies, match="no signed EIP-1559"):
            check_transaction(raw, ASKED, sender=OPERATOR.address)


async def test_transaction__of_the_old_kind__is_refused() -> None:
    legacy = {name: value for name, value in ASKED.items() if not name.startswith(("max", "type"))}
    legacy |= {"gasPrice": 30 * 10**9}
    raw = bytes(OPERATOR.sign_transaction(legacy).raw_transaction)
    with pytest.raises(SignerLies, match="no signed EIP-1559"):
        check_transaction(raw, ASKED, sender=OPERATOR.address)


def test_typed_content__of_a_settlement__is_signed_alike_by_who_reads_it_as_json() -> None:
    domain = Domain.of_ledger(money.HUB_ID)
    message = Settlement(
        epoch=3,
        previous_commitment=b"p" * 32,
        lines_hash=b"l" * 32,
        claims_root=b"c" * 32,
        allocations_root=b"a" * 32,
        bundle_hash=b"b" * 32,
    )
    signed = Account.sign_message(
        encode_typed_data(full_message=typed_content(domain, message)), OPERATOR.key
    )
    assert to_hex(bytes(signed.signature)) == sign(domain, message, key=OPERATOR)
    assert typed_content(domain, replace(message, epoch=4)) != typed_content(domain, message)


@pytest.mark.parametrize(
    ("url", "is_allowed"),
    [
        ("https://signer.keys.svc:9000/rpc", True),
        ("http://127.0.0.1:8550", True),
        ("http://localhost:8550/", True),
        ("http://signer.keys.svc:9000", False),
        ("http://127.0.0.1.example.com/", False),
        ("ftp://127.0.0.1/", False),
    ],
)
def test_url__without_tls__is_this_very_host(url: str, is_allowed: bool) -> None:
    try:
        RemoteSignerSettings(url=url)
    except ValidationError:
        assert not is_allowed
    else:
        assert is_allowed


def test_signer__of_nobody_or_without_its_files__says_so(tmp_path: Path) -> None:
    url = "https://signer.keys.svc"
    with pytest.raises(InvalidSetting, match=r"--signer\.address"):
        RemoteSigner(RemoteSignerSettings(url=url))
    for missing in ({"token_file": tmp_path / "none"}, {"ca_file": tmp_path / "none"}):
        with pytest.raises(InvalidSetting, match="cannot be read"):
            RemoteSigner(RemoteSignerSettings(url=url, address=OPERATOR.address, **missing))
