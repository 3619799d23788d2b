"""Who gets work, and the first reason why not."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account import Account as Key

from fallow.hub.providers import Hearing, read_quote, standing
from fallow.receipts.statements import sign_quote, timestamp
from fallow.receipts.typed_data import Domain
from fallow.resources.quote import Prices, QuoteSpec
from unit.hub.builders import CREATED_UNIX

JSON = dict[str, Any]
DOMAIN = Domain.of_ledger(bytes(32))
KEY = Key.create()
PAYEE = Key.create().address
HEARD = Hearing(seen=True, silent=False)


def a_provider(**spec: Any) -> JSON:
    return {
        "metadata": {"name": "aurora"},
        "spec": {
            "accepted": True,
            "ownerId": "owner",
            "region": "eu",
            "payee": PAYEE,
            "signer": KEY.address,
            **spec,
        },
    }


def a_quote(*, key: Any = KEY, changed_after: JSON | None = None, **fields: Any) -> JSON:
    spec = QuoteSpec(
        **{
            "provider": "aurora",
            "prices": Prices(),
            "payee": PAYEE,
            "signer": KEY.address,
            "valid_until": timestamp(CREATED_UNIX + 60),
            "sequence": 1,
            "signature": "0x00",
            **fields,
        }
    )
    wire = sign_quote(spec, domain=DOMAIN, key=key).wire()
    return {"metadata": {"resourceVersion": "1"}, "spec": {**wire, **(changed_after or {})}}


CASES: dict[str, tuple[JSON, JSON | None, Hearing, str]] = {
    "all is well": (a_provider(), a_quote(), HEARD, ""),
    "not accepted": (a_provider(accepted=False), a_quote(), HEARD, "NotAccepted"),
    "no Quote yet": (a_provider(), None, HEARD, "AgentMissing"),
    "no Lease yet": (a_provider(), a_quote(), Hearing(seen=False, silent=True), "AgentMissing"),
    "draining": (a_provider(desired="Drain"), a_quote(), HEARD, "Drain"),
    "removed": (a_provider(desired="Removed"), a_quote(), HEARD, "Removed"),
    "silent": (a_provider(), a_quote(), Hearing(seen=True, silent=True), "Silent"),
    "signed by another key": (a_provider(), a_quote(key=Key.create()), HEARD, "QuoteInvalid"),
    "price changed after signing": (
        a_provider(),
        a_quote(changed_after={"prices": {"cpuCoreHour": "9"}}),
        HEARD,
        "QuoteInvalid",
    ),
    "another payee than accepted": (
        a_provider(),
        a_quote(payee="0x" + 40 * "1"),
        HEARD,
        "IdentityChanged",
    ),
    "another signer than accepted": (
        a_provider(signer="0x" + 40 * "1"),
        a_quote(),
        HEARD,
        "IdentityChanged",
    ),
    "payee in other letters is the same": (a_provider(payee=PAYEE.lower()), a_quote(), HEARD, ""),
    "expired": (a_provider(), a_quote(valid_until=timestamp(CREATED_UNIX)), HEARD, "QuoteExpired"),
    "closed by its owner": (a_provider(), a_quote(closed=True), HEARD, "Closed"),
}


@pytest.mark.parametrize("case", CASES)
def test_standing__schedulable(case: str) -> None:
    provider, quote, hearing, want = CASES[case]
    terms = read_quote(quote, domain=DOMAIN) if quote else None
    found = standing(provider, terms, hearing, now=CREATED_UNIX, payee_unregistered=False)
    assert found.refuses == want
    assert found.schedulable["status"] == str(not want)
    assert found.schedulable["reason"] == (want or "Schedulable")


def test_standing__payee_not_registered__gets_no_new_work() -> None:
    terms = read_quote(a_quote(), domain=DOMAIN)
    found = standing(a_provider(), terms, HEARD, now=CREATED_UNIX, payee_unregistered=True)
    assert found.refuses == "PayeeUnregistered"


def test_standing__silent_while_the_hub_suspects_itself__says_that_nothing_moves() -> None:
    terms = read_quote(a_quote(), domain=DOMAIN)
    silent = Hearing(seen=True, silent=True)
    found = standing(a_provider(), terms, silent, now=CREATED_UNIX, payee_unregistered=False, suspicious=True)
    assert "suspects itself" in found.reachable["message"]


def test_read_quote__nonsense__is_a_problem_and_no_exception() -> None:
    terms = read_quote({"metadata": {"resourceVersion": "1"}, "spec": {"provider": 3}}, domain=DOMAIN)
    assert terms.quote is None
    assert terms.problem
