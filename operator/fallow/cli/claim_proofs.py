"""Checks of one receipt or claim by somebody who trusts neither hub nor settler: pure.

Written against the formats of `docs/money.md` and `fallow.receipts` alone, not with the settler's
own checks: a mistake there must not repeat itself here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from pydantic import ValidationError

from fallow.cli.proofs import Place, Report
from fallow.errors import FallowError, Malformed
from fallow.receipts.attempts import PAYABLE, attempts_root, payable_seconds
from fallow.receipts.epochs import claim_id
from fallow.receipts.pricing import UnitPrices, cumulative_amount, price_per_task_hour
from fallow.receipts.requests import effective_requests
from fallow.receipts.statements import (
    authorization_message,
    check_quote,
    domain_of,
    receipt_message,
    unix_seconds,
)
from fallow.receipts.typed_data import Domain, SignatureError, digest, recover
from fallow.receipts.words import checksummed, from_hex, to_hex
from fallow.resources.ended import Ended
from fallow.resources.money import format_amount, parse_amount
from fallow.resources.paymentclaim import PaymentClaimSpec
from fallow.resources.ranges import EMPTY, IndexRanges, parse_optional
from fallow.resources.receipt import SignedReceipt
from fallow.resources.terms import Terms

SLACK_SECONDS = 5
"""Clocks of hub and node may differ by so much, and seconds are whole."""
_COMMON_CHAINS = (0, 1, 10, 56, 100, 137, 8453, 31337, 42161, 43114, 59144, 11155111, 84532, 421614)
"""Chains that a receipt which does not fit here may have been signed for."""

ContractAccepts = Callable[[str, bytes, bytes], bool]
"""(account, digest, signature) -> whether a contract accepts it (EIP-1271)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a check may use beyond the claim itself."""

    placement: Mapping[str, Any] | None = None
    """The Placement object, where somebody kept it: it has template and tasks."""
    namespace_uid: str | None = None
    """UID of the account's namespace, where the verifier knows it."""
    other_work: tuple[tuple[str, str], ...] = ()
    """(job UID, placement UID) of other work that a receipt may have been taken from."""
    contract_accepts: ContractAccepts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A receipt with all that it is about."""

    job_uid: str
    placement_uid: str
    terms: Terms
    receipt: SignedReceipt
    covered: tuple[Ended, ...]
    """All attempts that the receipt is over."""
    placed_at: int | None = None
    finished_at: int | None = None
    evidence: Evidence = field(default_factory=Evidence)

    def amount(self, units: int) -> str:
        """Return units of the token for people."""
        return format_amount(units, decimals=self.terms.token_decimals)


def work_of_claim(spec: PaymentClaimSpec, evidence: Evidence) -> Work:
    """Return what a claim's receipt is about. Malformed when its attempts are none."""
    texts = [*spec.ended, *(text for part in spec.disallowed for text in part.ended)]
    seen = spec.observations
    return Work(
        job_uid=spec.job.uid,
        placement_uid=spec.placement.uid,
        terms=spec.terms,
        receipt=spec.receipt,
        covered=tuple(Ended.parse(text) for text in texts),
        placed_at=unix_seconds(seen.placed_at),
        finished_at=unix_seconds(seen.finished_at) if seen.finished_at else None,
        evidence=evidence,
    )


def work_of_placement(obj: Mapping[str, Any], evidence: Evidence) -> Work:
    """Return what the receipt in a Placement object is about. Malformed when it has none."""
    try:
        status = obj.get("status") or {}
        if not status.get("receipt"):
            raise Malformed("this Placement has no receipt yet")
        return Work(
            job_uid=obj["spec"]["job"]["uid"],
            placement_uid=obj["metadata"]["uid"],
            terms=Terms.model_validate(obj["spec"]["terms"]),
            receipt=SignedReceipt.model_validate(status["receipt"]),
            covered=tuple(Ended.parse(text) for text in status.get("ended") or ()),
            placed_at=unix_seconds(obj["metadata"]["creationTimestamp"]),
            evidence=evidence,
        )
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise Malformed(f"this is no Placement: {str(error).splitlines()[0]}") from error


def check_claim(raw: Mapping[str, Any], place: Place, evidence: Evidence, report: Report) -> None:
    """Check a claim's spec (as on the wire, or in a bundle) by itself."""
    try:
        spec = PaymentClaimSpec.model_validate(raw)
        work = work_of_claim(spec, evidence)
    except (ValidationError, FallowError, ValueError) as error:
        report.refuse("Malformed", f"The claim cannot be read: {str(error).splitlines()[0]}.")
        return
    if _check_place(work, place, report):
        _check_work(work, place, report)
        _check_claimed(spec, work, place, report)


def check_receipt(work: Work, place: Place, report: Report) -> None:
    """Check a receipt: where it counts, who signed it over what, and who agreed to pay."""
    if _check_place(work, place, report):
        _check_work(work, place, report)
        _check_lengths(work.covered, work, report)


def _check_work(work: Work, place: Place, report: Report) -> None:
    _check_attempts(work, report)
    _check_quote(work, report)
    _check_receipt(work, report)
    _check_account(work, place, report)
    _check_against_placement(work, report)
    report.leave_open(
        "That the tasks ran, and ran right: a receipt proves who claimed what, not that it was done."
    )


def _check_place(work: Work, place: Place, report: Report) -> bool:
    # NB: first and alone: with another domain all signatures fail, and that would explain nothing.
    terms, domain = work.terms, place.domain
    before = len(report.refused)
    for reason, what, said, wanted in (
        ("ForeignHub", "hub", terms.hub_id, to_hex(domain.hub_id)),
        ("ForeignChain", "chain", str(terms.chain_id), str(domain.chain_id)),
        ("ForeignEscrow", "escrow", _address(terms.escrow), checksummed(domain.escrow)),
        ("ForeignToken", "token", _address(terms.token), checksummed(place.token)),
        ("ForeignToken", "number of decimals", str(terms.token_decimals), str(place.decimals)),
    ):
        if said != wanted:
            report.refuse(reason, f"It is for {what} {said}; here it is {wanted}.")
    return len(report.refused) == before


def _check_attempts(work: Work, report: Report) -> None:
    pairs = [(one.index, one.attempt) for one in work.covered]
    if len(set(pairs)) != len(pairs):
        report.refuse("AttemptTwice", "The receipt counts an attempt of an index twice.")


def _check_quote(work: Work, report: Report) -> None:
    quote = work.terms.quote
    if quote.provider != work.terms.provider:
        report.refuse(
            "ForeignQuote", f"The quote is of provider {quote.provider}, not {work.terms.provider}."
        )
    try:
        check_quote(quote, domain=domain_of(work.terms))
    except (SignatureError, ValueError) as error:
        report.refuse("QuoteForged", f"The quote is not what its signer signed: {error}.")
        return
    if work.placed_at is not None and work.placed_at > unix_seconds(quote.valid_until) + SLACK_SECONDS:
        report.refuse("QuoteExpired", f"The work was placed after the quote's end, {quote.valid_until}.")
    report.prove(
        f"Key {checksummed(quote.signer)} signed quote {quote.sequence} of provider {quote.provider}, "
        f"to be paid to {checksummed(quote.payee)}."
    )


def _check_receipt(work: Work, report: Report) -> None:
    terms, receipt = work.terms, work.receipt
    if len({(one.index, one.attempt) for one in work.covered}) == len(work.covered):
        root = attempts_root(work.covered)
        if root != from_hex(receipt.attempts_root):
            report.refuse("AttemptsChanged", "The attempts are not those that the receipt was signed over.")
            return
    message = receipt_message(receipt, terms=terms, job_uid=work.job_uid, placement_uid=work.placement_uid)
    try:
        found = recover(domain_of(terms), message, signature=receipt.signature)
    except SignatureError as error:
        report.refuse("ReceiptForged", f"The receipt's signature is none: {error}.")
        return
    if found != checksummed(terms.quote.signer):
        report.refuse(*_why_not_signed(work, found))
        return
    price = parse_amount(terms.price_per_task_hour, decimals=terms.token_decimals)
    signed = parse_amount(receipt.cumulative_amount, decimals=terms.token_decimals)
    worth = cumulative_amount(total_seconds=receipt.seconds, price_per_task_hour=price)
    if terms.billing == "PerTask" and receipt.seconds != payable_seconds(work.covered):
        report.refuse(
            "ReceiptInflated",
            f"The receipt says {receipt.seconds} s, its attempts come to {payable_seconds(work.covered)} s.",
        )
    elif signed > worth:
        report.refuse(
            "PriceBelowQuote",
            f"The provider signed {work.amount(signed)} for {receipt.seconds} s; at the price in the terms "
            f"they would be {work.amount(worth)}.",
        )
    elif signed < worth:
        report.refuse(
            "PriceAboveReceipt",
            f"The price in the terms makes {work.amount(worth)} of {receipt.seconds} s; "
            f"the provider signed {work.amount(signed)}.",
        )
    report.prove(
        f"The same key signed receipt {receipt.sequence} over exactly {len(work.covered)} ended attempts: "
        f"{receipt.seconds} s, at most {work.amount(signed)}."
    )


def _why_not_signed(work: Work, found: str) -> tuple[str, str]:
    """Return reason and sentence for a receipt that another key than the quote's seems to have signed.

    A signature over other data looks like one by a random key; trying what it may have been made
    for tells replay from forgery.
    """
    terms, receipt = work.terms, work.receipt
    signer = checksummed(terms.quote.signer)

    def fits(domain: Domain, job_uid: str, placement_uid: str) -> bool:
        told = terms.model_copy(update={"chain_id": domain.chain_id})
        message = receipt_message(receipt, terms=told, job_uid=job_uid, placement_uid=placement_uid)
        return recover(domain, message, signature=receipt.signature) == signer

    domain = domain_of(terms)
    for job_uid, placement_uid in work.evidence.other_work:
        if fits(domain, job_uid, placement_uid):
            return "ReceiptReplayed", f"The receipt was signed for placement {placement_uid}, not for this."
    for chain_id in _COMMON_CHAINS:
        elsewhere = Domain(chain_id=chain_id, escrow=domain.escrow, hub_id=domain.hub_id)
        if chain_id != domain.chain_id and fits(elsewhere, work.job_uid, work.placement_uid):
            return "ForeignChain", f"The receipt was signed for chain {chain_id}, not {domain.chain_id}."
    said = f"The receipt was not signed by the quote's key {signer} for this work, chain, escrow and hub"
    return "ReceiptForged", f"{said} (the signature gives {found})."


def _check_lengths(attempts: Iterable[Ended], work: Work, report: Report) -> None:
    """Refuse what is paid and longer than it may or can have been."""
    limit = min(work.terms.task_timeout_seconds, work.terms.quote.limits.max_run_seconds)
    said = f"the time limit of {limit} s"
    if work.placed_at is not None and work.finished_at is not None:
        observed = max(0, work.finished_at - work.placed_at) + SLACK_SECONDS
        if observed < limit:
            limit, said = observed, f"the {observed} s that the hub observed"
    for one in attempts:
        if one.outcome in PAYABLE and one.seconds > limit:
            report.refuse("DurationInflated", f"Attempt {one} is longer than {said}.")
            return


def _check_account(work: Work, place: Place, report: Report) -> None:
    account, given = work.terms.account, work.terms.account.authorization
    if place.domain.chain_id == 0:
        report.leave_open("That the payer agreed: in ledger mode accounts are the hub admin's word.")
        return
    if given is None:
        report.refuse("AccountUnbound", f"The payer {account.payer} has authorised nobody.")
        return
    for reason, what, said, wanted in (
        ("ForeignHub", "hub", given.hub_id, to_hex(place.domain.hub_id)),
        ("ForeignChain", "chain", str(given.chain_id), str(place.domain.chain_id)),
        ("ForeignEscrow", "escrow", _address(given.escrow), checksummed(place.domain.escrow)),
    ):
        if said != wanted:
            report.refuse(reason, f"The payer's authorization is for {what} {said}, not {wanted}.")
            return
    message = authorization_message(account, decimals=place.decimals)
    try:
        found = recover(place.domain, message, signature=given.signature)
    except SignatureError:
        found = ""
    payer = checksummed(account.payer)
    if found != payer:
        accepts = work.evidence.contract_accepts
        signed = digest(place.domain, message)
        if accepts is None or not accepts(payer, signed, bytes.fromhex(given.signature[2:])):
            report.refuse("AccountUnbound", f"The payer {payer} did not sign this authorization.")
            return
    wanted_uid = work.evidence.namespace_uid
    if wanted_uid is not None and given.namespace_uid != wanted_uid:
        report.refuse(
            "StrangersPayer",
            f"The payer {payer} authorised namespace {given.namespace_uid}, and {wanted_uid} charges it.",
        )
        return
    if work.placed_at is not None and work.placed_at >= unix_seconds(given.expires_at):
        report.refuse("AuthorizationExpired", f"The work was placed after {given.expires_at}.")
    limits = account.limits
    report.prove(
        f"The payer {payer} signed that namespace UID {given.namespace_uid} may charge it "
        f"{'at most ' + limits.max_total if limits.max_total else 'without limit'}, "
        f"for work placed before {given.expires_at}."
    )
    if wanted_uid is None:
        report.leave_open(
            f"That namespace {work.terms.account_namespace} has that UID: compare with --namespace-uid."
        )


def _check_claimed(spec: PaymentClaimSpec, work: Work, place: Place, report: Report) -> None:
    terms, decimals = spec.terms, spec.terms.token_decimals
    if spec.job.namespace != terms.account_namespace:
        report.refuse(
            "StrangersPayer",
            f"A job of namespace {spec.job.namespace} charges the account of {terms.account_namespace}.",
        )
    try:
        wanted_id = to_hex(claim_id(place.domain.hub_id, spec.placement.uid, spec.sequence))
    except ValueError as error:
        report.refuse("Malformed", f"The placement's UID is none: {error}.")
        return
    if spec.claim_id != wanted_id:
        report.refuse("WrongClaimId", f"The id of this placement's claim {spec.sequence} is {wanted_id}.")
    ended = [Ended.parse(text) for text in spec.ended]
    if len({one.index for one in ended}) != len(ended):
        report.refuse("IndexTwice", "An index is claimed twice.")
    for one in ended:
        if one.attempt != spec.attempt:
            report.refuse("WrongAttempt", f"{one} is no attempt number {spec.attempt}.")
        elif one.outcome not in PAYABLE:
            report.refuse("NotPayable", f"{one} did not end in a way that is paid.")
    # NB: only what is charged counts: what the hub disallowed may be as long as it likes.
    _check_lengths(ended, work, report)
    if spec.seconds > sum(one.seconds for one in ended):
        report.refuse("DurationInflated", f"{spec.seconds} s are charged; the attempts have fewer.")
    price = parse_amount(terms.price_per_task_hour, decimals=decimals)
    worth = cumulative_amount(total_seconds=spec.seconds, price_per_task_hour=price)
    amount = parse_amount(spec.amount, decimals=decimals)
    if amount > min(worth, parse_amount(spec.receipt.cumulative_amount, decimals=decimals)):
        report.refuse("AmountInflated", f"{spec.amount} is more than seconds × price, or than was signed.")
    elif amount < worth and spec.sequence == 0:
        report.refuse("AmountShort", f"{spec.seconds} s cost {work.amount(worth)}, not {spec.amount}.")
    elif report.verified:
        report.prove(
            f"{len(ended)} attempts are charged: {spec.seconds} s × {terms.price_per_task_hour} an hour "
            f"= {spec.amount}."
        )


def _check_against_placement(work: Work, report: Report) -> None:
    placement = work.evidence.placement
    if placement is None:
        report.leave_open("That the price follows from the quote and the pod: give --placement.")
        report.leave_open("That the charged indexes were placed there: give --placement.")
        return
    try:
        spec = placement["spec"]
        if placement["metadata"]["uid"] != work.placement_uid:
            report.refuse("ForeignPlacement", "The given Placement has another UID than the claim's.")
            return
        tasks = EMPTY
        for one in spec["assignments"]:
            tasks |= IndexRanges.parse(one["tasks"])
        strangers = IndexRanges.of(one.index for one in work.covered) - tasks
        released = parse_optional(spec.get("released"))
        cheapest = _cheapest_price(work.terms, spec["template"]["spec"])
    except (KeyError, TypeError, FallowError, ValueError) as error:
        report.refuse("Malformed", f"The given Placement cannot be read: {error!r}.")
        return
    if strangers:
        report.refuse("IndexOutsidePlacement", f"Index {strangers} was never placed there, only {tasks}.")
    else:
        report.prove(f"All indexes of the receipt are among those placed there: {tasks}.")
    if released & IndexRanges.of(one.index for one in work.covered):
        report.leave_open(f"Tasks {released} had been taken away again; charged ones would be wrong.")
    price = parse_amount(work.terms.price_per_task_hour, decimals=work.terms.token_decimals)
    if cheapest is None:
        report.refuse("PriceBelowQuote", "The quote has no price for a resource that the pod requests.")
    elif price < cheapest:
        report.refuse(
            "PriceBelowQuote",
            f"The quote asks at least {work.amount(cheapest)} a task-hour for this pod; "
            f"the terms say {work.terms.price_per_task_hour}.",
        )
    else:
        report.prove("The price is not below what the quote asks for this pod.")


def _cheapest_price(terms: Terms, pod: Mapping[str, Any]) -> int | None:
    """Return the least price of a pod under any product that the quote names; None for none at all.

    Which product a node has is not in the Placement, so the cheapest matching entry is the bound.
    """
    requests = effective_requests(pod)
    decimals = terms.token_decimals
    prices = terms.quote.prices
    offers: list[list[int]] = []
    for resource in requests.devices:
        found = [
            parse_amount(one.price_per_hour, decimals=decimals)
            for one in prices.accelerators
            if one.resource == resource
        ]
        if not found:
            return None
        offers.append(found)
    return min(
        price_per_task_hour(
            requests,
            UnitPrices(
                cpu_core_hour=parse_amount(prices.cpu_core_hour, decimals=decimals),
                memory_gib_hour=parse_amount(prices.memory_gib_hour, decimals=decimals),
                device_hour=dict(zip(requests.devices, chosen, strict=True)),
            ),
        )
        for chosen in product(*offers)
    )


def _address(text: str) -> str:
    try:
        return checksummed(text)
    except ValueError:
        return text
