"""Checks of a receipt: where it counts, who signed it over what, and who agreed to pay. Pure.

Written against the formats of `docs/money.md` and `fallow.receipts` alone, as `claim_proofs` is.
"""

from __future__ import annotations

from fallow.cli.claim_evidence import Work
from fallow.cli.proofs import Place, Report
from fallow.receipts.attempts import attempts_root, payable_seconds
from fallow.receipts.pricing import UnpricedError, cumulative_amount
from fallow.receipts.statements import (
    QUOTE_SLACK_SECONDS,
    authorization_message,
    check_quote,
    domain_of,
    quoted_price,
    receipt_message,
    unix_seconds,
)
from fallow.receipts.typed_data import Domain, SignatureError, digest, recover
from fallow.receipts.words import checksummed, from_hex, to_hex
from fallow.resources.elapsed import stops_of
from fallow.resources.money import parse_amount

_COMMON_CHAINS = (0, 1, 10, 56, 100, 137, 8453, 31337, 42161, 43114, 59144, 11155111, 84532, 421614)
"""Chains that a receipt which does not fit here may have been signed for."""


def check_place(work: Work, place: Place, report: Report) -> bool:
    """Check that a receipt is for this hub, chain, escrow and token; False when not."""
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


def check_signed(work: Work, place: Place, report: Report) -> None:
    """Check quote, price, receipt and authorization: everything that somebody signed."""
    _check_attempts(work, report)
    _check_quote(work, report)
    _check_price(work, report)
    _check_receipt(work, report)
    _check_account(work, place, report)
    report.leave_open(
        "That the tasks ran, and ran right: a receipt proves who claimed what, not that it was done."
    )


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
    if work.placed_at is not None and work.placed_at > unix_seconds(quote.valid_until) + QUOTE_SLACK_SECONDS:
        report.refuse("QuoteExpired", f"The work was placed after the quote's end, {quote.valid_until}.")
    report.prove(
        f"Key {checksummed(quote.signer)} signed quote {quote.sequence} of provider {quote.provider}, "
        f"to be paid to {checksummed(quote.payee)}."
    )


def _check_price(work: Work, report: Report) -> None:
    """Work out the price again: what the signed quote asks for the pod's requests."""
    terms = work.terms
    price = parse_amount(terms.price_per_task_hour, decimals=terms.token_decimals)
    try:
        quoted = quoted_price(terms)
    except UnpricedError as error:
        report.refuse("PriceBelowQuote", f"{error}.")
        return
    said = f"The quote makes {work.amount(quoted)} a task-hour of the pod's requests"
    if price == quoted:
        report.prove(f"{said}, which is the price.")
    else:
        reason = "PriceBelowQuote" if price < quoted else "PriceAboveQuote"
        report.refuse(reason, f"{said}; the terms say {terms.price_per_task_hour}.")


def _check_receipt(work: Work, report: Report) -> None:
    terms, receipt = work.terms, work.receipt
    try:
        root = attempts_root(work.covered, work.elapsed, attempt=work.attempt)
    except ValueError:
        root = None  # an attempt twice, which was said
    if root is not None and root != from_hex(receipt.attempts_root):
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
    payable = payable_seconds(work.covered, stops_of(work.elapsed))
    if receipt.seconds != payable:
        report.refuse(
            "ReceiptInflated", f"The receipt says {receipt.seconds} s, its attempts come to {payable} s."
        )
    elif signed != worth:
        report.refuse(
            "PriceChanged",
            f"The provider signed {work.amount(signed)} for {receipt.seconds} s; at the price in the terms "
            f"they would be {work.amount(worth)}.",
        )
    more = f" and {sum(len(one.tasks) for one in work.elapsed)} elapsed times" if work.elapsed else ""
    report.prove(
        f"The same key signed receipt {receipt.sequence} over exactly {len(work.covered)} ended attempts"
        f"{more}: {receipt.seconds} s, at most {work.amount(signed)}."
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


def _address(text: str) -> str:
    try:
        return checksummed(text)
    except ValueError:
        return text
