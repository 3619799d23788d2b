"""Every way in which a claim can be untrue, and the reason it is refused for."""

from __future__ import annotations

from typing import Any

import pytest

import money_terms as money
from fallow.receipts.statements import sign_receipt, timestamp
from fallow.receipts.typed_data import Domain
from fallow.receipts.words import to_hex
from fallow.resources.ended import Ended
from fallow.resources.terms import Terms
from fallow.settler.claim_checks import CheckedClaim, Money, check_claim
from fallow.settler.refusals import ClaimRefused

DOMAIN = Domain(chain_id=31337, escrow="0x" + "e5" * 20, hub_id=money.HUB_ID)
MONEY = Money(domain=DOMAIN, token="0x" + "70" * 20, decimals=6)
ENDED = ["0:0:3600:S:", "1:0:1800:F:"]


def _object(spec: Any, *, namespace: str = "provider-aurora") -> dict[str, Any]:
    meta = {
        "namespace": namespace,
        "name": "a-claim",
        "uid": "u",
        "creationTimestamp": timestamp(1_800_000_000),
    }
    return {"metadata": meta, "spec": spec.wire() if hasattr(spec, "wire") else spec}


def _check(spec: Any, **more: Any) -> CheckedClaim:
    return check_claim(_object(spec, **more), money=MONEY)


def _reason(spec: Any, **more: Any) -> str:
    with pytest.raises(ClaimRefused) as refused:
        _check(spec, **more)
    return refused.value.reason


def _terms(**changes: Any) -> Terms:
    return money.some_terms(DOMAIN, **changes)


def test_claim__that_holds__is_what_an_epoch_takes() -> None:
    checked = _check(money.a_claim(ENDED, terms=_terms(), disallowed=["2:0:50:L:"]))
    assert checked.claim.amount == 5400 * 1_800_000 // 3600
    assert checked.claim.total_seconds == 5400
    assert str(checked.counted.indexes) == "0-1"
    assert str(checked.counted.succeeded) == "0"
    assert checked.counted.account == "default/default"


def test_claim__in_ledger_mode__needs_no_authorization() -> None:
    ledger = Domain.of_ledger(money.HUB_ID)
    claim = money.a_claim(ENDED, terms=money.some_terms(ledger))
    checked = check_claim(_object(claim), money=Money(domain=ledger, token=MONEY.token, decimals=6))
    assert checked.claim.payer == money.address("payer")


@pytest.mark.parametrize(
    "other",
    [
        Domain(chain_id=1, escrow=DOMAIN.escrow, hub_id=money.HUB_ID),
        Domain(chain_id=31337, escrow="0x" + "e6" * 20, hub_id=money.HUB_ID),
        Domain(chain_id=31337, escrow=DOMAIN.escrow, hub_id=b"h" * 32),
    ],
)
def test_claim__for_another_chain_escrow_or_hub__is_refused(other: Domain) -> None:
    assert _reason(money.a_claim(ENDED, terms=money.some_terms(other))) == "WrongDomain"


@pytest.mark.parametrize(
    ("sentence", "terms", "claim_arguments", "changes", "want"),
    [
        ("another token", {"token": "0x" + "71" * 20}, {}, {}, "WrongDomain"),
        ("a receipt by a stranger", {}, {"signer": "stranger"}, {}, "ReceiptRefused"),
        ("more seconds than the attempts have", {}, {}, {"seconds": 5401}, "SecondsInflated"),
        ("more than seconds times price", {}, {}, {"amount": "2.700001"}, "AmountInflated"),
        (
            "an attempt that was left out of the receipt",
            {},
            {},
            {"ended": tuple(ENDED[:1]), "seconds": 60, "amount": "0.01"},
            "ReceiptRefused",
        ),
        ("an inflated duration", {}, {}, {"ended": ("0:0:9999:S:", ENDED[1])}, "ReceiptRefused"),
        ("the id of another claim", {}, {}, {"claim_id": to_hex(b"c" * 32)}, "WrongClaimId"),
        ("another sequence", {}, {}, {"sequence": 1}, "WrongClaimId"),
        ("what is no attempt at all", {}, {}, {"ended": ("0:0:01:S:",)}, "Malformed"),
    ],
)
def test_claim__untrue__is_refused_with_its_own_reason(
    sentence: str, terms: dict[str, Any], claim_arguments: dict[str, Any], changes: dict[str, Any], want: str
) -> None:
    claim = money.a_claim(ENDED, terms=_terms(**terms), **claim_arguments)
    assert _reason(claim.model_copy(update=changes)) == want, sentence


def test_claim__of_attempts_that_are_not_paid__is_refused() -> None:
    assert _reason(money.a_claim(["0:0:3600:R:"], terms=_terms())) == "NotPayable"
    assert _reason(money.a_claim(["0:1:3600:S:"], terms=_terms())) == "WrongAttempt"


def test_claim__an_index_twice__is_refused() -> None:
    claim = money.a_claim(ENDED, terms=_terms())
    assert _reason(claim.model_copy(update={"ended": (ENDED[0], ENDED[0])})) == "AttemptTwice"


def test_claim__in_another_providers_namespace__is_refused() -> None:
    assert _reason(money.a_claim(ENDED, terms=_terms()), namespace="provider-borealis") == "WrongProvider"


def test_claim__that_charges_a_strangers_payer__is_refused() -> None:
    account = money.an_account(DOMAIN).model_copy(update={"payer": money.address("victim")})
    assert _reason(money.a_claim(ENDED, terms=_terms(account=account))) == "AccountUnbound"
    assert _reason(
        money.a_claim(ENDED, terms=_terms(account=money.an_account(Domain.of_ledger(b"h" * 32))))
    ) == ("AccountUnbound")


def test_claim__placed_after_the_consent_expired__is_refused() -> None:
    account = money.an_account(DOMAIN, expiry=1_800_000_000)
    assert _reason(money.a_claim(ENDED, terms=_terms(account=account))) == "AuthorizationExpired"


def test_claim__receipt_without_its_predecessor__is_refused() -> None:
    claim = money.a_claim(ENDED, terms=_terms())
    second = sign_receipt(
        [Ended.parse(each) for each in ENDED], terms=claim.terms, job_uid=claim.job.uid,
        placement_uid=claim.placement.uid, previous=claim.receipt, period=(1_800_000_000, 1_800_003_600),
        key=money.key("signer"),
    )  # fmt: skip
    assert _check(claim.model_copy(update={"receipt": second})).claim.amount == 2_700_000
    torn = second.model_copy(update={"sequence": 1})
    assert _reason(claim.model_copy(update={"receipt": torn})) == "ReceiptRefused"


def test_claim__price_raised_after_the_receipt__is_refused() -> None:
    claim = money.a_claim(ENDED, terms=_terms())
    raised = claim.model_copy(
        update={"terms": claim.terms.model_copy(update={"price_per_task_hour": "9"}), "amount": "13.5"}
    )
    assert _reason(raised) == "AmountInflated"
