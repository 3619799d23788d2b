"""What is written on objects: once, and only when it says something new."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fallow.receipts.epochs import genesis_commitment
from fallow.resources.account import AccountStatus
from fallow.resources.paymentclaim import PaymentClaimStatus
from fallow.resources.settlement import SettlementSpec
from fallow.settler import statuses
from fallow.settler.gathering import Wait
from fallow.settler.protocol import Purse, Settled
from fallow.settler.refusals import ClaimRefused
from unit.settler.epochs import DOMAIN, a_bundle, a_checked_claim

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = datetime(2026, 3, 1, 13, tzinfo=UTC)
BUNDLE = a_bundle(1, genesis_commitment(DOMAIN), [a_checked_claim(1), a_checked_claim(2)])
SETTLED = Settled(block=7, transaction="0x" + "aa" * 32, gas_used=100)
PURSE = Purse(bound=True, balance=5_000_000, cap=1, debitable_from=0, under_notice=2_000_000)


def _object(**status: Any) -> dict[str, Any]:
    return {"metadata": {"generation": 3}, "spec": {"payer": "0x" + "ab" * 20}, "status": status}


def _account(before: dict[str, Any], *, block: int = 9, **changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "unbound": None,
        "settled": 1_800_000,
        "decimals": 6,
        "block": block,
        "must_show_block": False,
        "now": NOON,
    }
    return statuses.account_status(before, changes.pop("purse", PURSE), **(arguments | changes))


def test_account__same_as_before_at_a_later_block__is_not_written_again() -> None:
    first = _account(_object())
    assert first["observedBlock"] == 9
    assert _account(_object(**first), block=10, now=LATER) == first


def test_account__told_for_an_epoch__shows_its_block_even_if_nothing_else_changed() -> None:
    first = _account(_object())
    assert _account(_object(**first), block=10, must_show_block=True)["observedBlock"] == 10


def test_account__all_under_notice__is_not_funded_but_still_shows_its_balance() -> None:
    purse = Purse(bound=True, balance=5, cap=1, debitable_from=0, under_notice=5)
    status = AccountStatus.model_validate(_account(_object(), purse=purse))
    assert (status.balance, status.under_notice) == ("0.000005", "0.000005")
    assert [(each.type, each.status) for each in status.conditions] == [
        ("Bound", "True"),
        ("Funded", "False"),
    ]


def test_account__without_any_limit__shows_as_much_as_the_api_can() -> None:
    purse = Purse(bound=True, balance=2**96 - 1, cap=1, debitable_from=0, under_notice=0)
    status = AccountStatus.model_validate(_account(_object(), purse=purse))
    assert status.balance == "999999999999999999.999999"


def test_claim__settled__keeps_what_was_said_before_and_is_valid() -> None:
    waiting = statuses.claim_waiting(
        _object(), Wait(reason="PayeeUnregistered", message="Register."), now=NOON
    )
    submitted = statuses.claim_submitted(_object(**waiting), BUNDLE, now=NOON)
    settled = statuses.claim_settled(_object(**submitted), BUNDLE, SETTLED, now=LATER)
    status = PaymentClaimStatus.model_validate(settled)
    assert (status.state, status.epoch, status.block) == ("Settled", 1, 7)
    assert {each.type: each.status for each in status.conditions} == {
        "Settled": "True",
        "Submitted": "True",
        "PayeeUnregistered": "False",
    }
    assert statuses.claim_settled(_object(**settled), BUNDLE, SETTLED, now=LATER) == settled


def test_claim__back_to_waiting__forgets_the_abandoned_epoch() -> None:
    submitted = statuses.claim_submitted(_object(), BUNDLE, now=NOON)
    waiting = statuses.claim_waiting(
        _object(**submitted), Wait(reason="PayerUnfunded", message="Lacks 1."), now=NOON
    )
    assert waiting["state"] == "Pending"
    assert "epoch" not in waiting
    assert "commitment" not in waiting


def test_claim__refused__says_why() -> None:
    refused = statuses.claim_refused(_object(), ClaimRefused("SecondSuccess", "paid before"), now=NOON)
    assert (refused["state"], refused["message"]) == ("Refused", "paid before")
    assert refused["conditions"][0]["reason"] == "SecondSuccess"


def test_settlement__of_a_bundle__is_valid_and_sums_up() -> None:
    obj = statuses.settlement_object(BUNDLE, name="epoch-000001", mode="ledger", signature="0x" + "11" * 65)
    spec = SettlementSpec.model_validate(obj["spec"])
    assert spec.total == "3.6"
    assert [sorted(part.claims) for part in spec.claims] == [["claim-1", "claim-2"]]
