"""Each ended attempt is paid or disallowed, with a reason; never twice, never more than was seen."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account import Account as Key

from fallow.hub import claims
from fallow.hub.claims import assess
from fallow.hub.placements import Placed
from fallow.resources.ranges import IndexRanges
from unit.hub.builders import CREATED_UNIX, a_placement, ended, placed

LATER = CREATED_UNIX + 1000

CASES: dict[str, tuple[Placed, list[str], dict[str, list[str]]]] = {
    "successes and own failures are paid": (
        placed(reports=[ended(0), ended(1, "F"), ended(2, "T")]),
        [ended(0), ended(1, "F"), ended(2, "T")],
        {},
    ),
    "the provider's own risk is not": (
        placed(reports=[ended(0, "R"), ended(1, "L"), ended(2, "U"), ended(3)]),
        [ended(3)],
        {"Lost": [ended(1, "L")], "Reclaimed": [ended(0, "R")], "Unstartable": [ended(2, "U")]},
    ),
    "what was taken away is not, whatever became of it": (
        placed(released="0-1", reports=[ended(0), ended(1, "C"), ended(2)]),
        [ended(2)],
        {"Released": [ended(0), ended(1, "C")]},
    ),
    "cancelled by the submitter is paid up to then": (
        placed(desired="Stop", stop_reason="JobDeleted", reports=[ended(0, "C"), ended(1)]),
        [ended(0, "C"), ended(1)],
        {},
    ),
    "cancelled by nobody is not": (
        placed(reports=[ended(0, "C")]),
        [],
        {"NotCancelled": [ended(0, "C")]},
    ),
    "stopped because the provider was removed is not": (
        placed(desired="Stop", stop_reason="ProviderRemoved", reports=[ended(0, "C")]),
        [],
        {"NotCancelled": [ended(0, "C")]},
    ),
    "one slot cannot run two such attempts at once": (
        placed("0-1", slots=1, reports=[ended(0, seconds=600), ended(1, seconds=600)]),
        [ended(0, seconds=600)],
        {"LongerThanObserved": [ended(1, seconds=600)]},
    ),
    "failures beyond what the job pays for are not": (
        placed(reports=[ended(0, "F", seconds=60), ended(1, "F", seconds=60), ended(2, seconds=60)]),
        [ended(0, "F", seconds=60), ended(2, seconds=60)],
        {"FailureLimit": [ended(1, "F", seconds=60)]},
    ),
    "a gang that succeeded is paid whole": (
        placed("0-1", gang=True, reports=[ended(0), ended(1)]),
        [ended(0), ended(1)],
        {},
    ),
    "a gang that lost a member is paid nothing": (
        placed("0-1", gang=True, reports=[ended(0), ended(1, "L")]),
        [],
        {"GangBroken": [ended(0)], "Lost": [ended(1, "L")]},
    ),
    "a gang that failed of itself is paid as a failure, never as successes that will run again": (
        placed("0-1", gang=True, reports=[ended(0), ended(1, "F")]),
        [ended(1, "F")],
        {"GangBroken": [ended(0)]},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_assess(case: str) -> None:
    one, paid, disallowed = CASES[case]
    assessment = assess(one, now=LATER, failure_seconds_left=100)
    assert [str(attempt) for attempt in assessment.paid] == paid
    assert {
        reason: [str(attempt) for attempt in attempts] for reason, attempts in assessment.disallowed.items()
    } == disallowed
    assert assessment.seconds == sum(int(text.split(":")[2]) for text in paid)
    assert assessment.amount == assessment.seconds * 1000  # 3.6 an hour is 1000 micro a second
    count = len(assessment.paid) + sum(map(len, assessment.disallowed.values()))
    assert count == len(one.ended)


@pytest.mark.parametrize(
    ("sentence", "timeout", "signed", "want_seconds", "want_cut"),
    [
        ("within the time-out: all of it", 60, 60, 60, 0),
        ("longer than the time-out: up to it", 60, 61, 60, 1),
        ("as long as since it was placed, and the slack: all of it", 5000, 1005, 1005, 0),
        ("longer than that: up to it", 5000, 1006, 1005, 1),
        ("absurdly long: up to it", 5000, 10**9, 1005, 10**9 - 1005),
    ],
)
def test_assess__payable__is_the_smaller_of_signed_and_observed(
    sentence: str, timeout: int, signed: int, want_seconds: int, want_cut: int
) -> None:
    one = placed(timeout=timeout, reports=[ended(0, seconds=signed)])
    assessment = assess(one, now=LATER, failure_seconds_left=0)
    assert (assessment.seconds, assessment.cut_seconds) == (want_seconds, want_cut), sentence
    assert assessment.amount == want_seconds * 1000


def test_assess__agent_changed_its_report_after_the_task_ran_elsewhere__is_not_paid_a_second_time() -> None:
    one = placed(reports=[ended(0), ended(1, "F"), ended(2)])
    elsewhere = claims.Elsewhere(succeeded=IndexRanges.of([0]), failed_for_good=IndexRanges.of([1]))
    assessment = assess(one, now=LATER, failure_seconds_left=100, elsewhere=elsewhere)
    assert [str(attempt) for attempt in assessment.paid] == [ended(2)]
    assert {reason: [str(a) for a in attempts] for reason, attempts in assessment.disallowed.items()} == {
        "FailureLimit": [ended(1, "F")],
        "SecondSuccess": [ended(0)],
    }


def test_assess__amount__is_rounded_down_once_over_the_whole_placement() -> None:
    one = placed(price="0.000001", reports=[ended(n, seconds=900) for n in range(4)], timeout=1000)
    assert assess(one, now=LATER, failure_seconds_left=0).amount == 1


def test_covered__report_with_a_strangers_attempt__is_not() -> None:
    obj = a_placement(reports=[ended(0), ended(9)])
    one = placed(reports=[ended(0), ended(9)])
    assert not claims.covered(one, obj["status"]["ended"])
    assert claims.covered(placed(reports=[ended(0)]), [ended(0)])


def test_receipt_problem__none_signed__is_said() -> None:
    assert claims.receipt_problem(a_placement(reports=[ended(0)])) == "there is no receipt"


def _signed(reports: list[str], key: Any, *, signer: str) -> dict[str, Any]:
    from fallow.receipts.statements import sign_receipt
    from fallow.resources.ended import Ended
    from fallow.resources.quote import Prices, QuoteSpec
    from fallow.resources.terms import Terms

    obj = a_placement(reports=reports, job_uid="6f1f0c50-0000-4000-8000-000000000001")
    obj["metadata"]["uid"] = "6f1f0c50-0000-4000-8000-000000000002"
    quote = QuoteSpec(
        provider="aurora",
        prices=Prices(),
        payee="0x" + 40 * "1",
        signer=signer,
        valid_until="2026-01-02T00:00:00Z",
        sequence=1,
        signature="0x00",
    )
    obj["spec"]["terms"] |= {
        "hubId": "0x" + 64 * "a",
        "chainId": 0,
        "escrow": "0x" + 40 * "0",
        "token": "0x" + 40 * "0",
        "provider": "aurora",
        "ownerId": "owner",
        "quote": quote.wire(),
        "requests": {},
    }
    receipt = sign_receipt(
        [Ended.parse(text) for text in reports],
        terms=Terms.model_validate(obj["spec"]["terms"]),
        job_uid=obj["spec"]["job"]["uid"],
        placement_uid=obj["metadata"]["uid"],
        previous=None,
        period=(CREATED_UNIX, CREATED_UNIX + 10),
        key=key,
    )
    obj["status"]["receipt"] = receipt.wire()
    return obj


def test_receipt_problem__signed_by_the_quotes_signer__none() -> None:
    key = Key.create()
    assert claims.receipt_problem(_signed([ended(0)], key, signer=key.address)) == ""


def test_receipt_problem__signed_by_another__says_so() -> None:
    obj = _signed([ended(0)], Key.create(), signer=Key.create().address)
    assert "signed by" in claims.receipt_problem(obj)


def test_receipt_problem__attempts_changed_after_signing__says_so() -> None:
    key = Key.create()
    obj = _signed([ended(0)], key, signer=key.address)
    obj["status"]["ended"] = [ended(0, seconds=11)]
    assert "not those that the receipt was signed over" in claims.receipt_problem(obj)


def test_claim__made_and_read_back__says_what_was_assessed() -> None:
    key = Key.create()
    obj = _signed([ended(0), ended(1, "F"), ended(2, "R")], key, signer=key.address)
    from fallow.hub.placements import read

    one = read(obj, request=())
    assessment = assess(one, now=LATER, failure_seconds_left=100)
    claim = claims.claim_of(
        obj,
        one,
        assessment,
        name="claim",
        claim_id="0x" + 64 * "0",
        term=3,
        labels={},
        first_running=None,
        finished=LATER,
    )
    from fallow.resources.paymentclaim import PaymentClaimSpec

    spec = PaymentClaimSpec.model_validate(claim["spec"])
    assert spec.seconds == 20
    assert spec.amount == "0.02"
    assert spec.disallowed[0].reason == "Reclaimed"
    paid = claims.paid_of(claim)
    assert (paid.seconds, paid.amount, paid.failure_seconds, paid.claimed) == (20, 20_000, 10, True)
