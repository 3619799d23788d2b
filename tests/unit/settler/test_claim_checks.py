"""Every way in which a claim can be untrue, and the reason it is refused for."""

from __future__ import annotations

from typing import Any

import pytest

import money_terms as money
from fallow.receipts.statements import sign_receipt, timestamp
from fallow.receipts.typed_data import Domain
from fallow.receipts.words import to_hex
from fallow.resources.ended import Ended
from fallow.resources.terms import TaskRequests, Terms
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
    ("other", "want"),
    [
        (Domain(chain_id=1, escrow=DOMAIN.escrow, hub_id=money.HUB_ID), "ForeignChain"),
        (Domain(chain_id=31337, escrow="0x" + "e6" * 20, hub_id=money.HUB_ID), "ForeignEscrow"),
        (Domain(chain_id=31337, escrow=DOMAIN.escrow, hub_id=b"h" * 32), "ForeignHub"),
    ],
)
def test_claim__for_another_chain_escrow_or_hub__is_refused(other: Domain, want: str) -> None:
    assert _reason(money.a_claim(ENDED, terms=money.some_terms(other))) == want


@pytest.mark.parametrize(
    ("sentence", "terms", "claim_arguments", "changes", "want"),
    [
        ("another token", {"token": "0x" + "71" * 20}, {}, {}, "ForeignToken"),
        ("a receipt by a stranger", {}, {"signer": "stranger"}, {}, "ReceiptForged"),
        ("more seconds than the attempts have", {}, {}, {"seconds": 5401}, "DurationInflated"),
        ("more than seconds times price", {}, {}, {"amount": "2.700001"}, "AmountInflated"),
        (
            "an attempt that was left out of the receipt",
            {},
            {},
            {"ended": tuple(ENDED[:1]), "seconds": 60, "amount": "0.01"},
            "AttemptsChanged",
        ),
        ("an inflated duration", {}, {}, {"ended": ("0:0:9999:S:", ENDED[1])}, "AttemptsChanged"),
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


def test_claim__whose_payer_no_key_stands_for__asks_the_contract() -> None:
    account = money.an_account(DOMAIN).model_copy(update={"payer": money.address("victim")})
    asked = _check(money.a_claim(ENDED, terms=_terms(account=account))).to_ask
    assert asked is not None
    assert asked.account == money.address("victim")
    assert _check(money.a_claim(ENDED, terms=_terms())).to_ask is None


def test_claim__that_charges_a_strangers_payer__is_refused() -> None:
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
    assert _reason(claim.model_copy(update={"receipt": torn})) == "ReceiptForged"


def test_claim__price_raised_after_the_receipt__is_refused() -> None:
    claim = money.a_claim(ENDED, terms=_terms())
    raised = claim.model_copy(
        update={"terms": claim.terms.model_copy(update={"price_per_task_hour": "9"}), "amount": "13.5"}
    )
    assert _reason(raised) == "PriceAboveQuote"


PER_INTERVAL = {"billing": "PerInterval", "interval_seconds": 600}


def test_claim__partial__pays_elapsed_time_only() -> None:
    claim = money.a_claim([], terms=_terms(**PER_INTERVAL), elapsed=["0-600:0-1"], partial=True)
    checked = _check(claim)
    assert (checked.claim.total_seconds, checked.claim.amount) == (1200, 600_000)
    assert [str(one) for one in checked.counted.spans] == ["0-600:0-1"]
    assert (str(checked.counted.indexes), str(checked.counted.succeeded)) == ("", "")


def test_claim__last_of_several__pays_the_difference_to_the_floor_of_all() -> None:
    terms = _terms(**PER_INTERVAL, price="0.000007")
    first = money.a_claim([], terms=terms, elapsed=["0-600:0"], partial=True)
    last = money.a_claim(["0:0:1543:S:"], terms=terms, elapsed=["600-1200:0"], sequence=1)
    # 600 s come to 1.17 smallest units, 1543 s to 3.0003: one and two of them.
    assert [_check(one).claim.amount for one in (first, last)] == [1, 2]
    counted = _check(last).counted
    assert [(one.start, str(one.tasks)) for one in counted.spans] == [(600, "0"), (1200, "0")]
    assert str(counted.indexes) == "0"


@pytest.mark.parametrize(
    ("sentence", "terms", "claim_arguments", "changes", "want"),
    [
        ("elapsed time of a task that is billed once", {}, {"elapsed": ["0-600:0"]}, {}, "NotPayable"),
        (
            "an ended attempt in a partial claim",
            PER_INTERVAL,
            {"ended": ["0:0:700:S:"], "elapsed": ["0-600:0"]},
            {"partial": True},
            "NotPayable",
        ),
        (
            "more elapsed time than was signed",
            PER_INTERVAL,
            {"elapsed": ["0-600:0"]},
            {"elapsed": ("0-1200:0",), "seconds": 1200, "amount": "0.6"},
            "AttemptsChanged",
        ),
        (
            "the same seconds as if none were charged before",
            PER_INTERVAL,
            {"elapsed": ["600-1200:0"], "sequence": 1},
            {"seconds": 1200, "amount": "0.6"},
            "DurationInflated",
        ),
        (
            "elapsed time of an index outside",
            PER_INTERVAL,
            {"elapsed": ["0-600:0-1"]},
            {"tasks": "0"},
            "IndexOutsidePlacement",
        ),
        (
            "elapsed time that runs backwards",
            PER_INTERVAL,
            {"elapsed": ["0-600:0"]},
            {"elapsed": ("600-0:0",)},
            "Malformed",
        ),
    ],
)
def test_claim__untrue_about_intervals__is_refused_with_its_own_reason(
    sentence: str, terms: dict[str, Any], claim_arguments: dict[str, Any], changes: dict[str, Any], want: str
) -> None:
    claim = money.a_claim(**{"ended": [], **claim_arguments}, terms=_terms(**terms))
    assert _reason(claim.model_copy(update=changes)) == want, sentence


@pytest.mark.parametrize(
    ("sentence", "observed_seconds", "timeout", "want"),
    [
        ("as long as observed", 3600, 86_400, None),
        ("by the slack longer than observed", 3595, 86_400, None),
        ("longer than observed", 3594, 86_400, "DurationInflated"),
        ("as long as the time-out", 10_000, 3600, None),
        ("longer than the time-out", 10_000, 3599, "DurationInflated"),
    ],
)
def test_claim__attempt_of_an_hour__is_paid_up_to_what_the_hub_observed(
    sentence: str, observed_seconds: int, timeout: int, want: str | None
) -> None:
    claim = money.a_claim(["0:0:3600:S:"], terms=_terms(task_timeout_seconds=timeout))
    seen = claim.observations.model_copy(update={"finished_at": timestamp(1_800_000_000 + observed_seconds)})
    claim = claim.model_copy(update={"observations": seen})
    if want is None:
        assert _check(claim).claim.total_seconds == 3600, sentence
    else:
        assert _reason(claim) == want, sentence


@pytest.mark.parametrize(
    ("sentence", "changes", "want"),
    [
        ("below the quote", {"price_per_task_hour": "1.79"}, "PriceBelowQuote"),
        ("above the quote", {"price_per_task_hour": "1.81"}, "PriceAboveQuote"),
        ("for fewer devices than priced", {"requests": TaskRequests()}, "PriceAboveQuote"),
        (
            "for a device without a price",
            {"requests": TaskRequests(accelerators={"other.example/npu": 1})},
            "PriceBelowQuote",
        ),
        (
            "for cores and memory too, as the floor of the exact sum",
            {
                "requests": TaskRequests(
                    cpu_millicores=1500, memory_mib=3000, accelerators={"nvidia.com/gpu": 2}
                ),
                "price_per_task_hour": "3.617929",
            },
            None,
        ),
    ],
)
def test_price__is_worked_out_again_from_the_signed_quote(
    sentence: str, changes: dict[str, Any], want: str | None
) -> None:
    claim = money.a_claim(ENDED, terms=_terms().model_copy(update=changes))
    if want is None:
        assert _check(claim).claim.price_per_task_hour == 3_617_929, sentence
    else:
        assert _reason(claim) == want, sentence
