"""The settler's door: each untrue claim is refused with its own reason, and the true one beside it is paid.

Real signed objects, a real API server, and a real chain or ledger. `docs/money.md` lists these tests.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

import money_terms as money
from fallow.receipts.statements import sign_receipt, timestamp
from fallow.receipts.typed_data import Domain
from fallow.resources.ended import Ended
from fallow.resources.paymentclaim import Observations, PaymentClaimSpec
from fallow.resources.terms import Terms
from integration.settler_process import claim_object
from integration.settler_world import API, DEPOSIT, NAMESPACE, PRICE_OF_ONE, World

HOUR = "0:0:3600:S:"
PER_INTERVAL: dict[str, Any] = {"billing": "PerInterval", "interval_seconds": 600}


@pytest.fixture(params=["chain", "ledger"])
def world(request: pytest.FixtureRequest) -> World:
    """Either kind of payments: what follows holds for both, but where a case says so."""
    found: World = request.getfixturevalue(f"{request.param}_world")
    return found


def a_claim(world: World, *, terms: Terms | None = None, **more: Any) -> PaymentClaimSpec:
    """A true claim of one paid hour, of a placement and job of its own."""
    fields: dict[str, Any] = {
        "ended": [HOUR],
        "terms": terms or world.terms,
        "placement_uid": str(uuid.uuid4()),
        "job_uid": str(uuid.uuid4()),
    }
    return money.a_claim(**(fields | more))


def put(world: World, spec: PaymentClaimSpec) -> str:
    """Create the claim as the hub would; returns its name."""
    name = f"claim-{uuid.uuid4().hex[:16]}"
    made = claim_object(spec, name=name, namespace=NAMESPACE)
    world.rig.hub_client().post(f"{API}/namespaces/{NAMESPACE}/paymentclaims", made)
    return name


def foreign(world: World, **changes: Any) -> PaymentClaimSpec:
    """A claim that is true for another domain: all of it signed there."""
    domain = world.domain
    other = Domain(
        **{"chain_id": domain.chain_id, "escrow": domain.escrow, "hub_id": domain.hub_id, **changes}
    )
    terms = money.some_terms(
        other,
        token=world.terms.token,
        account=money.an_account(other),
        account_namespace=world.terms.account_namespace,
    )
    return a_claim(world, terms=terms)


def signed_for_another_chain(world: World) -> PaymentClaimSpec:
    """Our terms, and a receipt that the provider signed over the same work on another chain."""
    spec = a_claim(world)
    elsewhere = world.terms.model_copy(update={"chain_id": 137})
    receipt = sign_receipt(
        [Ended.parse(HOUR)], terms=elsewhere, job_uid=spec.job.uid, placement_uid=spec.placement.uid,
        previous=None, period=(money.PLACED_AT, money.PLACED_AT + 3600), key=money.key("signer"),
    )  # fmt: skip
    return spec.model_copy(update={"receipt": receipt})


def seen_for(spec: PaymentClaimSpec, seconds: int) -> PaymentClaimSpec:
    seen = Observations(
        placed_at=timestamp(money.PLACED_AT), finished_at=timestamp(money.PLACED_AT + seconds)
    )
    return spec.model_copy(update={"observations": seen})


def account_without(world: World) -> PaymentClaimSpec:
    account = world.terms.account.model_copy(update={"authorization": None})
    return a_claim(world, terms=world.terms.model_copy(update={"account": account}))


def account_of_a_victim(world: World) -> PaymentClaimSpec:
    """The payer of another namespace, with its real authorization, copied into this one."""
    account = money.an_account(world.domain, namespace_uid=str(uuid.uuid4()))
    return a_claim(world, terms=world.terms.model_copy(update={"account": account}))


def in_namespace_of_nobody(world: World) -> PaymentClaimSpec:
    return a_claim(world, terms=world.terms.model_copy(update={"account_namespace": "nobody"}))


def of_payer_elsewhere(world: World) -> PaymentClaimSpec:
    account = world.terms.account.model_copy(update={"payer": money.address("victim")})
    return a_claim(world, terms=world.terms.model_copy(update={"account": account}))


def charged_by_another_namespace(world: World) -> PaymentClaimSpec:
    spec = a_claim(world)
    return spec.model_copy(update={"job": spec.job.model_copy(update={"namespace": "another"})})


Make = Callable[[World], PaymentClaimSpec]
BOTH: dict[str, tuple[Make, str]] = {
    "a forged receipt": (lambda world: a_claim(world, signer="stranger"), "ReceiptForged"),
    "a receipt for another hub": (lambda world: foreign(world, hub_id=b"h" * 32), "ForeignHub"),
    "a receipt for another chain": (lambda world: foreign(world, chain_id=137), "ForeignChain"),
    "a receipt for another chain under our terms": (signed_for_another_chain, "ForeignChain"),
    "an inflated duration, against what the hub saw": (
        lambda world: seen_for(a_claim(world), 60),
        "DurationInflated",
    ),
    "an inflated duration, against what the provider signed": (
        lambda world: a_claim(world).model_copy(update={"ended": ("0:0:7200:S:",)}),
        "AttemptsChanged",
    ),
    "an index outside its placement": (
        lambda world: a_claim(world).model_copy(update={"tasks": "1-9"}),
        "IndexOutsidePlacement",
    ),
    "a price below the quote": (
        lambda world: a_claim(world, terms=world.terms.model_copy(update={"price_per_task_hour": "0.90"})),
        "PriceBelowQuote",
    ),
    "a price above the quote": (
        lambda world: a_claim(world, terms=world.terms.model_copy(update={"price_per_task_hour": "3.60"})),
        "PriceAboveQuote",
    ),
    "a job that charges another namespace's account": (charged_by_another_namespace, "StrangersPayer"),
}
ON_CHAIN: dict[str, tuple[Make, str]] = {
    "an unbound account": (account_without, "AccountUnbound"),
    "an account whose payer never signed": (of_payer_elsewhere, "AccountUnbound"),
    "a namespace that charges a stranger's payer": (account_of_a_victim, "StrangersPayer"),
}
IN_A_LEDGER: dict[str, tuple[Make, str]] = {
    "an unbound account": (in_namespace_of_nobody, "AccountUnbound"),
    "a namespace that charges a stranger's payer": (of_payer_elsewhere, "StrangersPayer"),
}
"""There Accounts are the hub admin's word, who may put one back: such a claim waits, and is not paid."""


def test_door__every_untrue_claim__has_its_own_reason_and_costs_nobody_anything(world: World) -> None:
    first = a_claim(world)
    interval = money.some_terms(
        world.domain,
        token=world.terms.token,
        account=world.terms.account,
        account_namespace=world.terms.account_namespace,
        **PER_INTERVAL,
    )
    placement = {"placement_uid": str(uuid.uuid4()), "job_uid": str(uuid.uuid4())}
    two_intervals = a_claim(world, terms=interval, ended=[], elapsed=["0-1200:0"], partial=True, **placement)
    paid = [put(world, first), put(world, two_intervals)]
    world.settler.start()
    world.until_settled(*paid)

    second = a_claim(world)
    after = {
        "a receipt that was paid on before, for another placement": (
            second.model_copy(update={"receipt": first.receipt}),
            "ReceiptReplayed",
        ),
        "a claim twice": (first, "AlreadyPaid"),
        "an attempt twice, in a claim of another placement": (
            a_claim(world, job_uid=first.job.uid),
            "AlreadyPaid",
        ),
        "a second success of an index": (
            a_claim(world, ended=["0:1:3600:S:"], attempt=1, job_uid=first.job.uid),
            "SecondSuccess",
        ),
        "a second twice, with interval billing": (
            a_claim(
                world, terms=interval, ended=[], elapsed=["600-1800:0"], partial=True, sequence=2, **placement
            ),
            "SecondsTwice",
        ),
    }
    here = {**BOTH, **ON_CHAIN} if world.domain.chain_id else BOTH
    wanted = {put(world, make(world)): (case, want) for case, (make, want) in here.items()}
    wanted |= {put(world, spec): (case, want) for case, (spec, want) in after.items()}
    waiting = {} if world.domain.chain_id else IN_A_LEDGER
    held = {put(world, make(world)): (case, want) for case, (make, want) in waiting.items()}
    honest = [
        put(world, second),
        put(
            world,
            a_claim(
                world, terms=interval, elapsed=["1200-1800:0"], ended=["0:0:2000:S:"], sequence=1, **placement
            ),
        ),
    ]
    world.until_settled(*honest, seconds=120)

    def told() -> bool:
        refused = all(world.status(name).get("state") == "Refused" for name in wanted)
        return refused and all(world.condition(name, "Settled") for name in held)

    world.until("every untrue claim to be answered", told, seconds=120)
    for name, (case, want) in wanted.items():
        condition = world.condition(name, "Settled")
        assert (condition["status"], condition["reason"]) == ("False", want), case
        assert world.status(name)["message"] == condition["message"] != "", case
    for name, (case, want) in held.items():
        condition = world.condition(name, "Settled")
        assert (condition["status"], condition["reason"]) == ("False", want), case
        assert world.status(name)["state"] == "Pending", case
    # Two hours, and 2000 s of the attempt that was paid in two claims: one floor over both.
    total = 2 * PRICE_OF_ONE + 2000 * PRICE_OF_ONE // 3600
    assert world.balances() == (DEPOSIT - total, total)
    assert world.settler.stop() == 0
