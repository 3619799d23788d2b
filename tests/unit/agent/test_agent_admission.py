from __future__ import annotations

from typing import Any

import pytest

import money_terms
from fallow.agent.admission import offer_refusal, terms_refusal
from fallow.receipts.typed_data import Domain
from fallow.resources.placement import PlacementSpec
from fallow.resources.terms import TaskRequests
from unit.agent.guest_pods import at
from unit.agent.some_work import CHAIN, GPU, H100, LEDGER, a_spec, a_template, an_identity, an_offer

NODES = {"n1": H100, "n2": H100, "cpu": ""}
OTHER = Domain(chain_id=1, escrow="0x" + "e6" * 20, hub_id=money_terms.HUB_ID)


def why(spec: PlacementSpec, domain: Domain = LEDGER, **more: Any) -> str:
    refusal = terms_refusal(
        spec, **{"created_at": at(0), "products": NODES, "identity": an_identity(domain), **more}
    )
    return refusal.message if refusal is not None else ""


@pytest.mark.parametrize("domain", [LEDGER, CHAIN])
def test_terms__all_in_order__are_accepted(domain: Domain) -> None:
    assert why(a_spec({"n1": (1, "0"), "n2": (1, "1")}, domain=domain), domain) == ""


def test_terms__cpu_only_task__costs_cores_and_memory() -> None:
    template = a_template(container={"resources": {"requests": {"cpu": "2", "memory": "1Gi"}}})
    requests = TaskRequests(cpu_millicores=2000, memory_mib=1024)
    terms = {"price_per_task_hour": "0.021", "requests": requests}
    assert why(a_spec({"cpu": (1, "0")}, template=template, terms=terms)) == ""


def _tampered_quote() -> Any:
    quote = money_terms.a_quote(LEDGER)
    return quote.model_copy(update={"replicate": True})


def _unsigned_account() -> Any:
    account = money_terms.an_account(CHAIN)
    assert account.authorization is not None
    given = account.authorization.model_copy(update={"nonce": 2})
    return account.model_copy(update={"authorization": given})


TERMS: dict[str, tuple[dict[str, Any], str]] = {
    "another provider": ({"provider": "borealis"}, "provider borealis"),
    "another hub": ({"hub_id": "0x" + "ab" * 32}, "hub 0x"),
    "another chain": ({"chain_id": 5}, "chain 5"),
    "another escrow": ({"escrow": "0x" + "11" * 20}, "escrow"),
    "another token": ({"token": "0x" + "11" * 20}, "token"),
    "other decimals": ({"token_decimals": 18}, "decimal places"),
    "a lower price than the Quote's": ({"price_per_task_hour": "1.79"}, "costs 1.8 by the Quote, not 1.79"),
    "other requests than the pod's": (
        {"requests": TaskRequests(cpu_millicores=1, accelerators={GPU: 1})},
        "count other requests",
    ),
    "intervals without a length": ({"billing": "PerInterval"}, "go together"),
    "a length without intervals": ({"interval_seconds": 600}, "go together"),
    "a price that is none": ({"price_per_task_hour": "1.8000001"}, "cannot be read"),
    "a Quote changed after signing": ({"quote": _tampered_quote()}, "signature does not hold"),
    "a Quote of somebody else": (
        {"quote": money_terms.a_quote(LEDGER, signer="thief")},
        "not this provider's",
    ),
    "a Quote that pays somebody else": ({"quote": money_terms.a_quote(LEDGER, payee="thief")}, "pays"),
    "a Quote for another chain": ({"quote": money_terms.a_quote(OTHER)}, "signature does not hold"),
    "longer than the Quote allows": ({"task_timeout_seconds": 90_000}, "the Quote allows 86400 s"),
}


@pytest.mark.parametrize("case", TERMS)
def test_terms__are_not_what_was_signed__are_refused(case: str) -> None:
    fields, word = TERMS[case]
    assert word in why(a_spec({"n1": (1, "0")}, terms=fields))


def test_terms__quote_ran_out_before_the_placement__are_refused() -> None:
    assert "valid until" in why(a_spec({"n1": (1, "0")}), created_at=at(4e9))


ACCOUNTS: dict[str, tuple[Any, str]] = {
    "no authorization": (money_terms.an_account(LEDGER), "no authorization"),
    "for another escrow": (money_terms.an_account(OTHER), "authorization does not hold"),
    "signed for another nonce": (_unsigned_account(), "authorization does not hold"),
    "expired": (money_terms.an_account(CHAIN, expiry=int(at(0).timestamp())), "expired"),
}


@pytest.mark.parametrize("case", ACCOUNTS)
def test_terms__payer_did_not_agree__are_refused_on_a_chain(case: str) -> None:
    account, word = ACCOUNTS[case]
    assert word in why(a_spec({"n1": (1, "0")}, domain=CHAIN, terms={"account": account}), CHAIN)


def test_terms__unknown_node__are_refused() -> None:
    assert why(a_spec({"n9": (1, "0")})) == "there is no node n9 here"


def test_terms__node_of_a_product_without_price__are_refused() -> None:
    prices_other = a_spec(
        {"n1": (1, "0")},
        template=a_template(container={"resources": {"limits": {"x.io/y": "1"}}}),
        terms={"requests": TaskRequests(accelerators={"x.io/y": 1})},
    )
    assert "no price for x.io/y" in why(prices_other)


CAGE: dict[str, tuple[dict[str, Any], str]] = {
    "the node's network": ({"hostNetwork": True}, "template.spec.hostNetwork is not allowed"),
    "another scheduler": ({"schedulerName": "mine"}, "schedulerName"),
    "an identity": ({"serviceAccountName": "admin"}, "serviceAccountName"),
    "the node's files": (
        {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]},
        "volume v is not an emptyDir",
    ),
    "privileges": ({"container": {"securityContext": {"privileged": True}}}, "privileges are not given"),
    "a port of the node": ({"container": {"ports": [{"containerPort": 1, "hostPort": 1}]}}, "host ports"),
    "a secret": (
        {"container": {"env": [{"name": "S", "valueFrom": {"secretKeyRef": {"name": "x", "key": "y"}}}]}},
        "variable S may not come from",
    ),
    "a field nobody knows": ({"container": {"resizePolicy": []}}, "resizePolicy is not allowed"),
}


@pytest.mark.parametrize("case", CAGE)
def test_template__asks_for_more_than_the_cage_gives__is_refused(case: str) -> None:
    fields, word = CAGE[case]
    assert word in why(a_spec({"n1": (1, "0")}, template=a_template(**fields)))


PAYER = money_terms.address("payer")
OFFERS: dict[str, tuple[dict[str, Any], str]] = {
    "everything allowed": ({}, ""),
    "this payer allowed, in another case": ({"accounts_allowed": (PAYER.lower(),)}, ""),
    "other payers allowed": ({"accounts_allowed": ("0x" + "11" * 20,)}, "does not allow the account"),
    "refused although all are allowed": ({"accounts_refused": (PAYER,)}, "refuses the account"),
    "image allowed by pattern": ({"images": ("a.example/*",)}, ""),
    "image not allowed": ({"images": ("b.example/*",)}, "does not allow the image a.example/x:1"),
}


@pytest.mark.parametrize("case", OFFERS)
def test_offer__as_it_is_now__decides(case: str) -> None:
    fields, word = OFFERS[case]
    refusal = offer_refusal(a_spec({"n1": (1, "0")}), an_offer(**fields))
    assert (refusal is None) if not word else (refusal is not None and word in refusal.message)


def test_price__several_devices__are_all_priced() -> None:
    template = a_template(container={"resources": {"limits": {GPU: "8"}}})
    terms = {"price_per_task_hour": "14.4", "requests": TaskRequests(accelerators={GPU: 8})}
    assert why(a_spec({"n1": (1, "0")}, template=template, terms=terms)) == ""
