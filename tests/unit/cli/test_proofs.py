"""Verification refuses each kind of wrong claim with its own reason, and says what it did not see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import money_terms as money
from fallow.cli.claim_evidence import Evidence, work_of_claim
from fallow.cli.claim_proofs import check_claim, check_receipt
from fallow.cli.epoch_proofs import BundleFile, Committed, Seen, check_claim_of, check_epoch
from fallow.cli.proofs import Place, Report
from fallow.errors import Malformed
from fallow.receipts.epochs import genesis_commitment
from fallow.receipts.statements import authorization_message, timestamp
from fallow.receipts.typed_data import Domain, digest, sign
from fallow.receipts.words import ZERO_WORD, to_hex
from fallow.resources.account import AccountLimits
from fallow.resources.paymentclaim import Observations, PaymentClaimSpec
from unit.cli.proof_cases import DOMAIN, JSON, PLACE, PLACED_AT, TOKEN, a_bundle, a_spec, changed

NOTHING_MORE = Evidence()
OTHER_CHAIN = Domain(chain_id=1, escrow=DOMAIN.escrow, hub_id=DOMAIN.hub_id)
OTHER_HUB = Domain(chain_id=31337, escrow=DOMAIN.escrow, hub_id=b"\x01" * 32)


def findings(
    spec: PaymentClaimSpec | JSON, evidence: Evidence = NOTHING_MORE, place: Place = PLACE
) -> Report:
    report = Report()
    check_claim(spec if isinstance(spec, dict) else spec.wire(), place, evidence, report)
    return report


def edited(change: Callable[[JSON], Any], **changes: Any) -> JSON:
    """A claim on the wire with something in it changed after everybody signed."""
    wire = a_spec(**changes).wire()
    change(wire)
    return wire


def a_placement(*, tasks: str = "0-3", cpu: str = "0", price: str = "1.80", gpus: int = 1) -> JSON:
    spec = a_spec(terms={"price_per_task_hour": price})
    requests = {"nvidia.com/gpu": str(gpus)} | ({"cpu": cpu} if cpu != "0" else {})
    return {
        "kind": "Placement",
        "metadata": {"uid": spec.placement.uid, "creationTimestamp": timestamp(PLACED_AT)},
        "spec": {
            "job": spec.job.wire(),
            "terms": spec.terms.wire(),
            "assignments": [{"node": "n", "slots": 1, "tasks": tasks}],
            "template": {"spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]}},
        },
        "status": {"receipt": spec.receipt.wire(), "ended": list(spec.ended)},
    }


def signed_elsewhere(domain: Domain) -> JSON:
    """A claim here with a receipt that the right key signed for another chain or hub."""
    receipt = money.a_claim(
        ["0:0:3600:S:"],
        terms=money.some_terms(DOMAIN, token=TOKEN).model_copy(
            update={"chain_id": domain.chain_id, "hub_id": to_hex(domain.hub_id)}
        ),
        placement_uid=a_spec().placement.uid,
    ).receipt
    return edited(lambda wire: wire.update(receipt=receipt.wire()))


def stranger_namespace() -> str:
    return "11111111-2222-4333-8444-555555555555"


def test_claim__honest__is_proven_and_what_it_does_not_show_is_said() -> None:
    report = findings(a_spec())
    assert (report.reasons, report.verified) == ([], True)
    assert any("1.8" in each for each in report.proven)
    assert any("That the tasks ran" in each for each in report.unproven)
    assert any("--placement" in each for each in report.unproven)


WRONG: dict[str, tuple[str, Callable[[], PaymentClaimSpec | JSON]]] = {
    "a receipt that another key signed": ("ReceiptForged", lambda: a_spec(signer="stranger")),
    "a receipt with a made-up signature": (
        "ReceiptForged",
        lambda: edited(lambda wire: wire["receipt"].update(signature="0x" + "11" * 64 + "1b")),
    ),
    "a receipt signed for another chain": ("ForeignChain", lambda: signed_elsewhere(OTHER_CHAIN)),
    "terms of another chain": (
        "ForeignChain",
        lambda: a_spec().model_copy(update={"terms": money.some_terms(OTHER_CHAIN, token=TOKEN)}),
    ),
    "terms of another hub": (
        "ForeignHub",
        lambda: a_spec().model_copy(update={"terms": money.some_terms(OTHER_HUB, token=TOKEN)}),
    ),
    "an attempt made longer after signing": (
        "AttemptsChanged",
        lambda: edited(lambda wire: wire.update(ended=["0:0:7200:S:"])),
    ),
    "an attempt longer than the hub observed": (
        "DurationInflated",
        lambda: a_spec(ended=["0:0:7200:S:"]),
    ),
    "an attempt longer than its time limit": (
        "DurationInflated",
        lambda: a_spec(terms={"task_timeout_seconds": 60}),
    ),
    "more seconds than the attempts have": (
        "DurationInflated",
        lambda: edited(lambda wire: wire.update(seconds=7200)),
    ),
    "an index twice": (
        "AttemptTwice",
        lambda: edited(lambda wire: wire.update(ended=["0:0:3600:S:", "0:0:3600:S:"])),
    ),
    "another attempt's number": ("WrongAttempt", lambda: a_spec(attempt=1)),
    "an attempt that the owner reclaimed": ("NotPayable", lambda: a_spec(ended=["0:0:60:R:"])),
    "a claim under another id": (
        "WrongClaimId",
        lambda: edited(lambda wire: wire.update(claimId="0x" + "12" * 32)),
    ),
    "an amount above seconds × price": (
        "AmountInflated",
        lambda: edited(lambda wire: wire.update(amount="1.9")),
    ),
    "an amount below it": ("AmountShort", lambda: edited(lambda wire: wire.update(amount="1.7"))),
    "a price below what the provider signed for": (
        "PriceBelowQuote",
        lambda: edited(lambda wire: wire["terms"].update(pricePerTaskHour="0.90")),
    ),
    "a price above it": (
        "PriceAboveQuote",
        lambda: edited(lambda wire: wire["terms"].update(pricePerTaskHour="3.60")),
    ),
    "a quote changed after signing": (
        "QuoteForged",
        lambda: edited(lambda wire: wire["terms"]["quote"]["prices"].update(cpuCoreHour="9")),
    ),
    "a quote of another provider": (
        "ForeignQuote",
        lambda: a_spec(terms={"quote": money.a_quote(DOMAIN, provider="borealis")}),
    ),
    "an account without authorization": (
        "AccountUnbound",
        lambda: edited(lambda wire: wire["terms"]["account"].pop("authorization")),
    ),
    "an account whose payer never signed": (
        "AccountUnbound",
        lambda: edited(lambda wire: wire["terms"]["account"].update(payer=money.address("stranger"))),
    ),
    "limits raised after signing": (
        "AccountUnbound",
        lambda: edited(lambda wire: wire["terms"]["account"].update(limits={"maxTotal": "5"})),
    ),
    "an authorization for another hub": (
        "ForeignHub",
        lambda: a_spec(terms={"account": money.an_account(OTHER_HUB)}),
    ),
    "work placed after the authorization's end": (
        "AuthorizationExpired",
        lambda: a_spec(terms={"account": money.an_account(DOMAIN, expiry=PLACED_AT)}),
    ),
    "a job that charges another namespace's account": (
        "StrangersPayer",
        lambda: edited(lambda wire: wire["job"].update(namespace="somebody-else")),
    ),
    "something that is no claim": ("Malformed", lambda: {"terms": {}}),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(WRONG))
def test_claim__wrong__is_refused_with_its_own_reason(case: str) -> None:
    reason, make = WRONG[case]
    report = findings(make())
    assert reason in report.reasons, report
    assert not report.verified


def test_account__of_another_namespace__is_a_strangers_payer_once_the_uid_is_known() -> None:
    spec = a_spec(terms={"account": money.an_account(DOMAIN, namespace_uid=stranger_namespace())})
    assert findings(spec).verified
    report = findings(spec, Evidence(namespace_uid=money.NAMESPACE_UID))
    assert report.reasons == ["StrangersPayer"]


def test_account__of_a_contract__is_asked_over_exactly_what_is_signed() -> None:
    wire = edited(lambda wire: wire["terms"]["account"].update(payer=money.address("a multisig")))
    spec = PaymentClaimSpec.model_validate(wire)
    asked: list[tuple[str, bytes]] = []

    def accepts(account: str, signed: bytes, signature: bytes) -> bool:
        asked.append((account, signed))
        return len(signature) == 65

    # The receipt names the payer, so the agent signs again for this one.
    terms = spec.terms
    again = money.a_claim(["0:0:3600:S:"], terms=terms, placement_uid=spec.placement.uid)
    report = findings(again, Evidence(contract_accepts=accepts))
    assert report.verified, report
    message = authorization_message(terms.account, decimals=money.DECIMALS)
    assert asked == [(money.address("a multisig"), digest(DOMAIN, message))]


def test_receipt__of_other_work__is_a_replay() -> None:
    other = a_spec(5)
    wire = edited(lambda wire: wire.update(receipt=a_spec(5, ended=["0:0:3600:S:"]).receipt.wire()))
    evidence = Evidence(other_work=((other.job.uid, other.placement.uid),))
    assert findings(wire, evidence).reasons == ["ReceiptReplayed"]
    assert findings(wire).reasons == ["ReceiptForged"]


@pytest.mark.parametrize(
    ("placement", "reason"),
    [
        (a_placement(tasks="1-3"), "IndexOutsidePlacement"),
        (a_placement(gpus=2), "PriceBelowQuote"),
        (a_placement(cpu="4"), "PriceBelowQuote"),
        ({**a_placement(), "metadata": {"uid": "another"}}, "ForeignPlacement"),
    ],
)
def test_placement__given__shows_indexes_and_price(placement: JSON, reason: str) -> None:
    assert reason in findings(a_spec(), Evidence(placement=placement)).reasons


def test_placement__given_and_honest__proves_both() -> None:
    report = findings(a_spec(), Evidence(placement=a_placement()))
    assert report.verified
    assert not any("--placement" in each for each in report.unproven)


def test_receipt__of_a_running_placement__is_checked_without_a_claim() -> None:
    report = Report()
    check_receipt(work_of_claim(a_spec(), Evidence()), PLACE, report)
    assert report.verified


def committed(bundle: BundleFile, *, previous: bytes | None = None) -> Committed:
    return Committed(
        epoch=bundle.epoch,
        previous=previous or genesis_commitment(DOMAIN),
        commitment=bundle.stated_commitment,
    )


def test_epoch__as_settled__is_proven() -> None:
    bundle = a_bundle([a_spec(0), a_spec(1)])
    report = Report()
    epoch = check_epoch(bundle, PLACE, committed(bundle), report)
    assert report.verified, report
    assert epoch is not None
    assert [line.amount for line in epoch.lines] == [3_600_000]


TAMPERED: dict[str, tuple[str, Callable[[JSON], Any]]] = {
    "a claim's amount": ("BundleTampered", lambda c: c["claims"][0]["spec"].update(amount="9")),
    "a line": ("LinesDiffer", lambda c: c["lines"][0].update(amount="1")),
    "a salt": ("BundleTampered", lambda c: c["claims"][0].update(salt="0x" + "00" * 32)),
    "a root": ("BundleTampered", lambda c: c.update(claimsRoot="0x" + "00" * 32)),
    "a claim left out": ("BundleTampered", lambda c: c["claims"].pop()),
    "the order of claims": ("BundleTampered", lambda c: c["claims"].reverse()),
    "another hub": ("ForeignHub", lambda c: c.update(hubId="0x" + "01" * 32)),
    "another chain": ("ForeignChain", lambda c: c.update(chainId=1)),
    "what nothing is computed from": ("BundleTampered", lambda c: c.update(note="hello")),
    "no claims": ("BundleTampered", lambda c: c.pop("claims")),
}


@pytest.mark.parametrize("case", sorted(TAMPERED))
def test_epoch__tampered_with__is_refused(case: str) -> None:
    reason, change = TAMPERED[case]
    honest = a_bundle([a_spec(0), a_spec(1)])
    report = Report()
    check_epoch(changed(honest, change), PLACE, committed(honest), report)
    assert reason in report.reasons, report


def test_epoch__not_committed_to_or_on_another_past__is_refused() -> None:
    bundle = a_bundle([a_spec(0)])
    report = Report()
    unsettled = Committed(epoch=1, previous=genesis_commitment(DOMAIN), commitment=ZERO_WORD)
    check_epoch(bundle, PLACE, unsettled, report)
    assert report.reasons == ["NotSettled"]
    report = Report()
    check_epoch(bundle, PLACE, committed(bundle, previous=b"\x01" * 32), report)
    assert report.reasons == ["ChainBroken"]


def test_claim_in_a_bundle__with_a_neighbours_receipt__is_a_replay() -> None:
    def swap(content: JSON) -> None:
        one, other = content["claims"]
        one["spec"]["receipt"] = other["spec"]["receipt"]
        for name in ("ended", "tasks"):
            one["spec"][name] = other["spec"][name]

    bundle = changed(a_bundle([a_spec(0), a_spec(1)]), swap)
    report = Report()
    check_claim_of(bundle, 0, PLACE, Evidence(), report)
    assert report.reasons == ["ReceiptReplayed"]


def test_seen__paid_again__is_refused_by_claim_attempt_and_success() -> None:
    seen, report = Seen(), Report()
    seen.add(a_spec(0).wire(), 1, report)
    assert report.verified
    seen.add(a_spec(0).wire(), 2, report)
    seen.add(a_spec(9, ended=["0:0:3600:S:"]).wire(), 2, report)
    assert report.reasons == ["ClaimTwice", "AttemptTwice", "SecondSuccess"]
    report = Report()
    seen.add(a_spec(8, ended=["0:3:3600:S:"], attempt=3).wire(), 2, report)
    assert report.reasons == ["SecondSuccess"]
    report = Report()
    seen.add(a_spec(7, ended=["1:4:3600:F:"], attempt=4).wire(), 2, report)
    assert report.verified


def test_seen__replicated__allows_as_many_successes_as_copies() -> None:
    seen, report = Seen(), Report()
    for attempt in range(3):
        terms = {"replicas": 2}
        spec = a_spec(attempt, ended=[f"0:{attempt}:3600:S:"], attempt=attempt, terms=terms)
        seen.add(spec.wire(), 1, report)
        assert report.verified == (attempt < 2)


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"format": "fallow-epoch/0"}'])
def test_bundle__of_no_known_format__is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        BundleFile.of(data)


def test_limits__signed__are_said() -> None:
    account = money.an_account(DOMAIN, limits=AccountLimits(max_total="100"))
    report = findings(a_spec(terms={"account": account}))
    assert report.verified
    assert any("at most 100" in each for each in report.proven)


def test_observations__none_of_the_end__nothing_longer_than_the_slack_is_payable() -> None:
    seen = Observations(placed_at=timestamp(PLACED_AT))
    spec = a_spec(ended=["0:0:7200:S:"]).model_copy(update={"observations": seen})
    assert findings(spec).reasons == ["DurationInflated"]
    assert findings(a_spec(ended=["0:0:5:S:"]).model_copy(update={"observations": seen})).verified


def test_signature__by_the_payer_over_another_nonce__does_not_bind() -> None:
    account = money.an_account(DOMAIN)
    given = account.authorization
    assert given is not None
    other = account.model_copy(update={"authorization": given.model_copy(update={"nonce": 2})})
    assert findings(a_spec(terms={"account": other})).reasons == ["AccountUnbound"]
    signature = sign(DOMAIN, authorization_message(other, decimals=6), key=money.key("payer"))
    assert other.authorization is not None
    right = other.authorization.model_copy(update={"signature": signature})
    assert findings(a_spec(terms={"account": other.model_copy(update={"authorization": right})})).verified
