"""The ledger: Settlements chained by their commitments and signed; credit limits as balances."""

from __future__ import annotations

from typing import Any

import pytest

import money_terms as money
from fallow.receipts.epochs import MAX_LINE_AMOUNT, genesis_commitment
from fallow.receipts.typed_data import SignatureError
from fallow.receipts.words import to_hex
from fallow.settler.bundle import Bundle
from fallow.settler.ledger import LedgerPayments
from fallow.settler.refusals import ArchiveDamaged
from fallow.settler.settlement_index import SettlementIndex
from fallow.settler.signing import KeySigner
from fallow.settler.statuses import settlement_object
from unit.settler.epochs import DOMAIN, a_bundle, a_checked_claim

PAYER = money.address("payer")


def _ledger(
    settlements: list[dict[str, Any]],
    *,
    key: str = "operator",
    accounts: list[dict[str, Any]] | None = None,
    charged: int = 0,
) -> LedgerPayments:
    index = SettlementIndex(lambda spec: True)
    for obj in settlements:
        index.changed("ADDED", obj)
    return LedgerPayments(
        DOMAIN,
        KeySigner(money.key(key)),
        decimals=6,
        index=index,
        accounts=lambda: accounts or [],
        accounts_version=lambda: 1,
        charged=lambda payer: charged,
        unix_now=lambda: 1_800_000_000,
    )


async def _settlement(bundle: Bundle, *, key: str = "operator") -> dict[str, Any]:
    payments = _ledger([], key=key)
    obj = settlement_object(
        bundle,
        name=payments.settlement_name(bundle),
        mode="ledger",
        signature=await payments.signature(bundle),
    )
    obj["metadata"]["uid"] = to_hex(bundle.hash)
    return obj


async def _books(length: int) -> tuple[list[dict[str, Any]], bytes]:
    previous, made = genesis_commitment(DOMAIN), []
    for number in range(1, length + 1):
        bundle = a_bundle(number, previous, [a_checked_claim(number)])
        made.append(await _settlement(bundle))
        previous = bundle.commitment
    return made, previous


async def test_position__of_a_chain_of_settlements__is_its_end_in_whatever_order_they_come() -> None:
    settlements, last = await _books(3)
    position = await _ledger(settlements[::-1]).position()
    assert (position.epoch, position.settled, position.block, position.commitment) == (3, 3, 3, last)


async def test_position__of_nothing__is_the_genesis() -> None:
    assert (await _ledger([]).position()).commitment == genesis_commitment(DOMAIN)


async def test_position__a_settlement_is_missing__says_so() -> None:
    settlements, _ = await _books(3)
    with pytest.raises(ArchiveDamaged, match="not epoch 2"):
        await _ledger([settlements[0], settlements[2]]).position()


async def test_position__an_amount_was_changed__is_noticed() -> None:
    settlements, _ = await _books(1)
    settlements[0]["spec"]["lines"][0]["amount"] = "9"
    with pytest.raises(ArchiveDamaged, match="not what its commitment says"):
        await _ledger(settlements).position()


async def test_position__signed_by_another_key__is_noticed() -> None:
    bundle = a_bundle(1, genesis_commitment(DOMAIN), [a_checked_claim(1)])
    with pytest.raises(SignatureError, match="signed by"):
        await _ledger([await _settlement(bundle, key="stranger")]).position()


def test_name__of_an_epoch__does_not_depend_on_its_content() -> None:
    one = a_bundle(1, genesis_commitment(DOMAIN), [a_checked_claim(1)])
    other = a_bundle(1, genesis_commitment(DOMAIN), [a_checked_claim(2)])
    assert _ledger([]).settlement_name(one) == _ledger([]).settlement_name(other) == "epoch-000001"


@pytest.mark.parametrize(
    ("sentence", "limits", "charged", "want"),
    [
        ("the limit less what was charged", ["10"], 3_000_000, 7_000_000),
        ("never below nothing", ["1"], 3_000_000, 0),
        ("of two accounts the higher limit", ["1", "4"], 0, 4_000_000),
        ("without a limit as much as there can be", [None], 0, MAX_LINE_AMOUNT),
        ("a limit that cannot be read counts as none given", ["1.0000001"], 0, 0),
    ],
)
async def test_purse__of_a_payer__is(
    sentence: str, limits: list[str | None], charged: int, want: int
) -> None:
    accounts: list[dict[str, Any]] = [
        {"spec": {"payer": PAYER.lower(), "limits": {"maxTotal": limit} if limit else {}}} for limit in limits
    ]
    accounts.append({"spec": {"payer": _mistyped(PAYER), "limits": {"maxTotal": "99"}}})
    ledger = _ledger([], accounts=accounts, charged=charged)
    purse = await ledger.purse(PAYER, position=await ledger.position(), final=True)
    assert purse.balance == want, sentence


def _mistyped(address: str) -> str:
    """The address with one letter in the wrong case: its checksum no longer holds."""
    at = next(at for at, digit in enumerate(address) if at > 1 and digit.isalpha())
    return address[:at] + address[at].swapcase() + address[at + 1 :]
