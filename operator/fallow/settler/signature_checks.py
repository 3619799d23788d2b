"""Who signed a claim's quote, receipt and authorization; and what a wrong signature really is.

A signature over other data looks like one by a random key. Trying what it may have been made for tells a
receipt of another chain from a forged one; one that was claimed with before is told by the books
(`fallow.settler.books`).
"""

from __future__ import annotations

from collections.abc import Sequence

from fallow.errors import FallowError
from fallow.receipts.attempts import attempts_root, payable_seconds
from fallow.receipts.contract_signatures import ContractSignature
from fallow.receipts.pricing import cumulative_amount
from fallow.receipts.statements import (
    QUOTE_SLACK_SECONDS,
    NotThePayersKey,
    check_authorization,
    check_quote,
    domain_of,
    receipt_message,
    unix_seconds,
)
from fallow.receipts.typed_data import Domain, SignatureError, recover
from fallow.receipts.words import checksummed, from_hex, to_hex
from fallow.resources.elapsed import Elapsed, stops_of
from fallow.resources.ended import Ended
from fallow.resources.money import parse_amount
from fallow.resources.paymentclaim import PaymentClaimSpec
from fallow.settler.refusals import ClaimRefused

OTHER_CHAINS = (1, 10, 56, 100, 137, 8453, 31337, 42161, 43114, 59144, 84532, 421614, 11155111, 0)
"""Chains that a receipt which does not fit may have been signed for; 0 is a ledger."""


def check_signatures(
    spec: PaymentClaimSpec,
    covered: Sequence[Ended],
    elapsed: Sequence[Elapsed],
    *,
    domain: Domain,
    decimals: int,
) -> ContractSignature | None:
    """Raise ClaimRefused unless quote, receipt and authorization hold.

    `covered` and `elapsed` are all that the receipt is over. Returns what the payer still has to be asked
    on the chain, should it be a contract.
    """
    _check_quote(spec, domain=domain)
    _check_receipt(spec, covered, elapsed)
    if domain.chain_id == 0:
        if spec.terms.account.authorization is not None:
            raise ClaimRefused("AccountUnbound", "a ledger's accounts are the hub admin's word")
        return None
    return _check_account(spec, domain=domain, decimals=decimals)


def _check_quote(spec: PaymentClaimSpec, *, domain: Domain) -> None:
    quote = spec.terms.quote
    try:
        check_quote(quote, domain=domain)
    except FallowError as error:
        raise ClaimRefused("QuoteForged", f"the Quote is not what its signer signed: {error}") from error
    placed_at = unix_seconds(spec.observations.placed_at)
    if placed_at > unix_seconds(quote.valid_until) + QUOTE_SLACK_SECONDS:
        raise ClaimRefused("QuoteExpired", f"the work was placed after the Quote's end, {quote.valid_until}")


def _check_receipt(spec: PaymentClaimSpec, covered: Sequence[Ended], elapsed: Sequence[Elapsed]) -> None:
    terms, receipt = spec.terms, spec.receipt
    root = attempts_root(covered, elapsed, attempt=spec.attempt)
    if root != from_hex(receipt.attempts_root):
        raise ClaimRefused("AttemptsChanged", "the attempts are not those that the receipt was signed over")
    signer = checksummed(terms.quote.signer)
    try:
        found = _signer_of(spec, domain_of(terms))
    except SignatureError as error:
        raise ClaimRefused("ReceiptForged", f"the receipt's signature is none: {error}") from error
    if found != signer:
        for chain_id in OTHER_CHAINS:
            other = Domain(chain_id=chain_id, escrow=terms.escrow, hub_id=from_hex(terms.hub_id))
            if chain_id != terms.chain_id and _signer_of(spec, other) == signer:
                raise ClaimRefused("ForeignChain", f"the receipt was signed for chain {chain_id}")
        raise ClaimRefused(
            "ReceiptForged",
            f"the receipt was signed by {found}, not by the Quote's key {signer} for this work",
        )
    if (receipt.sequence == 1) != (receipt.previous == to_hex(bytes(32))):
        raise ClaimRefused(
            "ReceiptOutOfChain", "the receipt's number and its predecessor contradict each other"
        )
    price = parse_amount(terms.price_per_task_hour, decimals=terms.token_decimals)
    seconds = payable_seconds(covered, stops_of(elapsed))
    if receipt.seconds != seconds:
        raise ClaimRefused(
            "ReceiptInflated", f"the receipt says {receipt.seconds} s, its attempts come to {seconds} s"
        )
    worth = cumulative_amount(total_seconds=seconds, price_per_task_hour=price)
    if parse_amount(receipt.cumulative_amount, decimals=terms.token_decimals) != worth:
        raise ClaimRefused("PriceChanged", "the receipt was signed at another price than the terms say")


def _signer_of(spec: PaymentClaimSpec, domain: Domain) -> str:
    """Return whose key made the receipt's signature, had it been made for `domain`."""
    message = receipt_message(
        spec.receipt,
        terms=spec.terms.model_copy(update={"chain_id": domain.chain_id}),
        job_uid=spec.job.uid,
        placement_uid=spec.placement.uid,
    )
    return recover(domain, message, signature=spec.receipt.signature)


def _check_account(spec: PaymentClaimSpec, *, domain: Domain, decimals: int) -> ContractSignature | None:
    account = spec.terms.account
    given = account.authorization
    if given is None:
        raise ClaimRefused("AccountUnbound", f"the payer {account.payer} has authorised nobody")
    if unix_seconds(spec.observations.placed_at) >= unix_seconds(given.expires_at):
        raise ClaimRefused("AuthorizationExpired", "the work was placed after the payer's consent expired")
    try:
        # NB: whether the UID is that of the job's namespace, `accounts.why_a_stranger` finds out.
        check_authorization(account, domain=domain, namespace_uid=given.namespace_uid, decimals=decimals)
    except NotThePayersKey as error:
        return error.asked
    except FallowError as error:
        raise ClaimRefused("AccountUnbound", str(error)) from error
    return None
