"""What agents and payers sign about API objects, and what each tampering is answered with."""

from __future__ import annotations

from typing import Any

import pytest

import money_terms as money
from fallow.receipts.statements import (
    check_authorization,
    check_quote,
    check_receipt,
    receipt_hash,
    sign_receipt,
    timestamp,
    unit_prices,
    unix_seconds,
)
from fallow.receipts.typed_data import Domain, SignatureError
from fallow.receipts.words import to_hex
from fallow.resources.account import AccountLimits
from fallow.resources.ended import Ended, Outcome
from fallow.resources.quote import AcceleratorPrice, Prices, QuoteSpec
from fallow.resources.terms import Terms

DOMAIN = Domain(chain_id=31337, escrow="0x" + "e5" * 20, hub_id=money.HUB_ID)
ENDED = [Ended(0, 0, 3600, Outcome.SUCCEEDED), Ended(1, 0, 100, Outcome.LOST)]
IDS: dict[str, Any] = {"job_uid": money.JOB_UID, "placement_uid": money.PLACEMENT_UID}


def _receipt(terms: Terms, **more: Any) -> Any:
    arguments: dict[str, Any] = {"previous": None, "period": (1, 2), "key": money.key("signer")}
    return sign_receipt(ENDED, terms=terms, **IDS, **(arguments | more))


def test_receipt__by_the_quotes_signer_over_these_attempts__is_accepted() -> None:
    terms = money.some_terms(DOMAIN)
    receipt = _receipt(terms)
    check_receipt(receipt, ENDED[::-1], terms=terms, **IDS)
    assert (receipt.seconds, receipt.cumulative_amount) == (3600, "1.8")  # the lost attempt is not owed


def test_receipt__the_next_one__names_the_one_before() -> None:
    terms = money.some_terms(DOMAIN)
    first = _receipt(terms)
    second = _receipt(terms, previous=first)
    assert second.sequence == 2
    assert second.previous == to_hex(receipt_hash(first, terms=terms, **IDS))


@pytest.mark.parametrize(
    ("sentence", "ids", "receipt_changes"),
    [
        ("another placement", {"placement_uid": money.NAMESPACE_UID}, {}),
        ("another job", {"job_uid": money.NAMESPACE_UID}, {}),
        ("inflated seconds", {}, {"seconds": 3601}),
        ("inflated amount", {}, {"cumulative_amount": "1.800001"}),
        ("another period", {}, {"period_end": timestamp(3)}),
        ("another sequence", {}, {"sequence": 2}),
    ],
)
def test_receipt__tampered_with__is_refused(
    sentence: str, ids: dict[str, str], receipt_changes: dict[str, Any]
) -> None:
    terms = money.some_terms(DOMAIN)
    receipt = _receipt(terms).model_copy(update=receipt_changes)
    with pytest.raises(SignatureError, match="signed by"):
        check_receipt(receipt, ENDED, terms=terms, **(IDS | ids))


@pytest.mark.parametrize(
    "changes",
    [
        {"chain_id": 1}, {"escrow": "0x" + "e6" * 20}, {"hub_id": to_hex(b"h" * 32)},
        {"provider": "borealis"},
        {"token": "0x" + "71" * 20}, {"quote": money.a_quote(DOMAIN, payee="thief")},
    ],
)  # fmt: skip
def test_receipt__under_other_terms__is_refused(changes: dict[str, Any]) -> None:
    terms = money.some_terms(DOMAIN)
    with pytest.raises(SignatureError, match="signed by"):
        check_receipt(_receipt(terms), ENDED, terms=terms.model_copy(update=changes), **IDS)


def test_receipt__over_other_attempts__is_refused() -> None:
    terms = money.some_terms(DOMAIN)
    with pytest.raises(SignatureError, match="attempts"):
        check_receipt(_receipt(terms), ENDED[:1], terms=terms, **IDS)


def test_receipt__by_a_stranger__is_refused() -> None:
    terms = money.some_terms(DOMAIN)
    with pytest.raises(SignatureError, match="signed by"):
        check_receipt(_receipt(terms, key=money.key("stranger")), ENDED, terms=terms, **IDS)


def test_quote__signed_then_read_back_from_the_wire__is_accepted() -> None:
    check_quote(QuoteSpec.model_validate(money.a_quote(DOMAIN).wire()), domain=DOMAIN)


@pytest.mark.parametrize(
    "changes",
    [{"sequence": 2}, {"closed": True}, {"prices": Prices()}, {"payee": "0x" + "99" * 20}],
)
def test_quote__a_term_changed__is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SignatureError):
        check_quote(money.a_quote(DOMAIN).model_copy(update=changes), domain=DOMAIN)


def _check(account: Any, **changes: Any) -> None:
    arguments: dict[str, Any] = {"domain": DOMAIN, "namespace_uid": money.NAMESPACE_UID, "decimals": 6}
    check_authorization(account, **(arguments | changes))


def test_authorization__by_the_payer_for_this_namespace__is_accepted() -> None:
    _check(money.an_account(DOMAIN, limits=AccountLimits(max_total="1000")))


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("namespace", {"namespace_uid": money.JOB_UID}),
        ("chain", {"domain": Domain(chain_id=1, escrow=DOMAIN.escrow, hub_id=money.HUB_ID)}),
        ("escrow", {"domain": Domain(chain_id=31337, escrow="0x" + "e6" * 20, hub_id=money.HUB_ID)}),
        ("hub", {"domain": Domain(chain_id=31337, escrow=DOMAIN.escrow, hub_id=b"h" * 32)}),
    ],
)
def test_authorization__for_somewhere_else__says_what_differs(what: str, changes: dict[str, Any]) -> None:
    with pytest.raises(SignatureError, match=what):
        _check(money.an_account(DOMAIN), **changes)


def test_authorization__of_a_strangers_payer__is_refused() -> None:
    account = money.an_account(DOMAIN).model_copy(update={"payer": money.address("stranger")})
    with pytest.raises(SignatureError, match="signed by"):
        _check(account)


def test_authorization__limit_raised_afterwards__is_refused() -> None:
    account = money.an_account(DOMAIN, limits=AccountLimits(max_total="10"))
    with pytest.raises(SignatureError, match="signed by"):
        _check(account.model_copy(update={"limits": AccountLimits(max_total="11")}))


def test_unit_prices__several_entries__the_first_match_counts() -> None:
    prices = Prices(
        accelerators=(
            AcceleratorPrice(product="NVIDIA-H100*", price_per_hour="2"),
            AcceleratorPrice(price_per_hour="1"),
        )
    )
    asked = {"resources": ["nvidia.com/gpu", "rdma/hca"], "decimals": 6}
    h100 = unit_prices(prices, product="NVIDIA-H100-80GB", **asked)  # type: ignore[arg-type]
    other = unit_prices(prices, product="NVIDIA-L4", **asked)  # type: ignore[arg-type]
    assert h100.device_hour == {"nvidia.com/gpu": 2_000_000}
    assert other.device_hour == {"nvidia.com/gpu": 1_000_000}


def test_unix_seconds__there_and_back__is_the_same() -> None:
    assert unix_seconds(timestamp(1_800_000_000)) == 1_800_000_000
    assert unix_seconds("2027-01-15T09:00:00+01:00") == 1_800_000_000


@pytest.mark.parametrize("text", ["2027-01-15T08:00:00", "2027-01-15T08:00:00.5Z", "soon"])
def test_unix_seconds__no_zone_or_fractions__is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"zone|isoformat"):
        unix_seconds(text)
