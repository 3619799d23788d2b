"""Which claims make an epoch: nobody's trouble is anybody else's."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from typing import Any

import pytest

import money_terms as money
from fallow.receipts.statements import timestamp
from fallow.receipts.typed_data import Domain
from fallow.resources.account import AccountLimits
from fallow.settler.books import Books
from fallow.settler.claim_checks import Money, check_claim
from fallow.settler.gathering import Gathered, Known, gather, is_due
from fallow.settler.protocol import Purse
from fallow.settler.shelf import HeldClaim, Shelf

DOMAIN = Domain.of_ledger(money.HUB_ID)
MONEY = Money(domain=DOMAIN, token="0x" + "70" * 20, decimals=6)
RICH = Purse(bound=True, balance=10**12, cap=10**12, debitable_from=0, under_notice=0)
HOUR = 1_800_000


def _claim(*, payer: str = "payer", payee: str = "payee", age: int = 0, **more: Any) -> HeldClaim:
    limits = AccountLimits(max_total=more.pop("max_total", None), max_per_day=more.pop("max_per_day", None))
    price = more.pop("price", "1.80")
    terms = money.some_terms(
        DOMAIN,
        account=money.an_account(DOMAIN, payer=payer, limits=limits),
        quote=money.a_quote(DOMAIN, payee=payee, gpu_price=price),
        account_name=payer.replace(" ", "-"),
        price=price,
    )
    placement = str(uuid.uuid4())
    job = more.pop("job_uid", str(uuid.uuid4()))
    spec = money.a_claim(["0:0:3600:S:"], terms=terms, placement_uid=placement, job_uid=job)
    meta = {
        "namespace": "provider-aurora",
        "name": f"claim-{placement[:8]}",
        "uid": placement,
        "creationTimestamp": timestamp(1_800_000_000 - age),
        "resourceVersion": "1",
    }
    shelf = Shelf(lambda obj: check_claim(obj, money=MONEY), dirty=asyncio.Event())
    return shelf.hold({"metadata": meta, "spec": spec.wire()})


def _gather(*claims: HeldClaim, **more: Any) -> Gathered:
    purses = {claim.paid_as.payer: RICH for claim in claims}
    purses |= {money.address(name): purse for name, purse in more.pop("purses", {}).items()}
    inactive = {money.address(name) for name in more.pop("inactive", ())}
    fields: dict[str, Any] = {
        "past": Books(), "purses": purses, "inactive_payees": inactive, "now": 1_800_000_000, "decimals": 6,
        "max_claims": 100,
    }  # fmt: skip
    return gather(claims, Known(**(fields | more)))


@pytest.mark.parametrize(
    ("sentence", "more", "want", "said"),
    [
        ("an unregistered payee", {"inactive": ["payee"]}, "PayeeUnregistered", "register"),
        ("an unbound payer", {"purses": {"payer": replace(RICH, bound=False)}}, "PayerUnbound", "bind"),
        (
            "an empty payer",
            {"purses": {"payer": replace(RICH, balance=HOUR - 1)}},
            "PayerUnfunded",
            "0.000001",
        ),
        ("too low a cap", {"purses": {"payer": replace(RICH, cap=HOUR - 10)}}, "AboveCap", "0.00001"),
        (
            "a payer debited a moment ago",
            {"purses": {"payer": replace(RICH, debitable_from=1_800_000_001)}},
            "TooSoon",
            "interval",
        ),
    ],
)
def test_gather__one_in_trouble__waits_visibly_and_the_others_go_on(
    sentence: str, more: dict[str, Any], want: str, said: str
) -> None:
    stuck, other = _claim(age=100), _claim(payer="other payer", payee="other payee")
    gathered = _gather(stuck, other, **more)
    assert gathered.chosen == [other], sentence
    assert gathered.waiting[stuck.key].reason == want
    assert said in gathered.waiting[stuck.key].message


def test_gather__money_for_one_of_two__takes_the_older() -> None:
    younger, older = _claim(age=1), _claim(age=2)
    gathered = _gather(younger, older, purses={"payer": replace(RICH, balance=2 * HOUR - 1)})
    assert gathered.chosen == [older]
    assert gathered.waiting[younger.key].reason == "PayerUnfunded"


def test_gather__cap_for_one_of_two__leaves_the_other_for_the_next_epoch() -> None:
    younger, older = _claim(age=1), _claim(age=2)
    gathered = _gather(younger, older, purses={"payer": replace(RICH, cap=HOUR)})
    assert gathered.chosen == [older]
    assert gathered.waiting[younger.key].reason == "TooSoon"


def test_gather__payer_that_is_leaving__gets_an_epoch_of_its_own_first() -> None:
    leaving, other = _claim(), _claim(payer="other payer", age=100)
    purse = {"payer": replace(RICH, under_notice=1)}
    assert _gather(leaving, other, purses=purse).chosen == [leaving]
    broke = {"payer": replace(RICH, under_notice=1, balance=1)}
    assert _gather(leaving, other, purses=broke).chosen == [other]


def test_gather__limit_of_the_authorization__counts_what_was_paid_before() -> None:
    first, second = _claim(max_total="3.5"), _claim(max_total="3.5", age=-1)
    past = Books()
    past.add(first.paid_as)
    gathered = _gather(second, past=past)
    assert gathered.waiting[second.key].reason == "LimitReached"
    assert "0.1" in gathered.waiting[second.key].message


def test_gather__limit_of_a_day__counts_what_was_charged_today_and_within_the_epoch() -> None:
    first, second, free = _claim(age=2, max_per_day="3.6"), _claim(age=1, max_per_day="3.6"), _claim()
    today = {first.paid_as.account: HOUR}
    gathered = _gather(first, second, free, charged_today=today)
    assert gathered.chosen == [first, free]
    assert gathered.waiting[second.key].reason == "DayLimitReached"
    assert "1.8 too low" in gathered.waiting[second.key].message
    assert _gather(first, second, charged_today={}).chosen == [first, second]


def test_gather__second_success_of_an_index__is_refused_within_one_epoch_too() -> None:
    job = str(uuid.uuid4())
    first, second = _claim(job_uid=job, age=1), _claim(job_uid=job)
    gathered = _gather(first, second)
    assert gathered.chosen == [first]
    assert gathered.refused[second.key].reason == "AlreadyPaid"


def test_gather__claim_of_nothing__needs_no_epoch() -> None:
    free = _claim(price="0")
    gathered = _gather(free)
    assert (gathered.chosen, gathered.nothing_owed) == ([], [free])


def test_gather__more_than_fit__takes_the_oldest() -> None:
    claims = [_claim(age=age) for age in range(4)]
    assert _gather(*claims, max_claims=2).chosen == [claims[3], claims[2]]


@pytest.mark.parametrize(
    ("sentence", "ages", "want"),
    [
        ("nothing is never due", [], False),
        ("young and few wait", [10, 20], False),
        ("the oldest decides", [10, 300], True),
        ("as many as fit are due at once", [0, 0, 0], True),
    ],
)
def test_is_due__by_age_or_count(sentence: str, ages: list[int], want: bool) -> None:
    chosen = [_claim(age=age) for age in ages]
    assert is_due(chosen, now=1_800_000_000, max_age_seconds=300, max_claims=3) == want, sentence


def test_gather__several_payers__takes_them_whole_and_the_longest_waiting_first() -> None:
    ours = [_claim(age=age) for age in (3, 1)]
    theirs = [_claim(payer="other payer", age=age) for age in (4, 2)]
    assert _gather(*ours, *theirs).chosen == [*theirs, *ours]
    payer = ours[0].paid_as.payer
    served = {theirs[0].paid_as.payer: 9, payer: 3}
    assert _gather(*ours, *theirs, last_debited=served).chosen == [*ours, *theirs]
    # Who would fit as a whole, only not here any more, waits for an epoch with room: it may be debited
    # only once in its interval.
    assert _gather(*ours, *theirs, max_claims=3).chosen == theirs


def test_gather__more_lines_than_an_epoch_takes__leaves_the_rest_for_the_next() -> None:
    first, second = _claim(payee="payee", age=2), _claim(payee="other payee", age=1)
    third = _claim(payee="payee")
    assert _gather(first, second, third, max_lines=1).chosen == [first, third]


def test_is_due__by_value() -> None:
    claims = [_claim(), _claim()]
    terms: dict[str, Any] = {"now": 1_800_000_000, "max_age_seconds": 300, "max_claims": 9}
    assert not is_due(claims, **terms)
    assert not is_due(claims, max_value=2 * HOUR + 1, **terms)
    assert is_due(claims, max_value=2 * HOUR, **terms)
