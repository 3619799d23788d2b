"""From API objects to what is signed: the one place that maps fields of the models onto messages.

Agent, hub and settler all come through here, so that what one signs is what the others check.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import lru_cache

from eth_account.signers.local import LocalAccount

from fallow.receipts.attempts import attempts_root, payable_seconds
from fallow.receipts.contract_signatures import ContractSignature
from fallow.receipts.messages import NO_LIMIT, AccountAuthorization, Quote, Receipt
from fallow.receipts.pricing import UnitPrices, cumulative_amount, price_per_task_hour
from fallow.receipts.requests import Requests
from fallow.receipts.terms import terms_hash
from fallow.receipts.typed_data import Domain, SignatureError, check_signed_by, digest, sign
from fallow.receipts.words import checksummed, from_hex, to_hex
from fallow.resources.account import AccountSpec
from fallow.resources.elapsed import Elapsed, stops_of
from fallow.resources.ended import Ended
from fallow.resources.money import format_amount, parse_amount
from fallow.resources.quote import Prices, QuoteSpec
from fallow.resources.receipt import SignedReceipt
from fallow.resources.terms import Terms

_REMEMBERED = lru_cache(maxsize=512)
"""Thousands of claims share a quote and an account; what held once holds again (a refusal is not kept)."""
QUOTE_SLACK_SECONDS = 30
"""A Quote's end is its agent's clock, a Placement's beginning the hub's: by so much they may differ."""


class NotThePayersKey(SignatureError):  # noqa: N818 - says what happened, as in fallow.errors
    """The payer is no key that made this signature; should it be a contract, the contract can tell."""

    def __init__(self, message: str, asked: ContractSignature) -> None:
        super().__init__(message)
        self.asked = asked


def unix_seconds(timestamp: str) -> int:
    """Return an RFC 3339 timestamp of whole seconds as Unix seconds. ValueError without a zone."""
    instant = datetime.fromisoformat(timestamp)
    if instant.tzinfo is None or instant.microsecond:
        raise ValueError(f"{timestamp!r} has no zone, or fractions of a second")
    return int(instant.timestamp())


def timestamp(unix: int) -> str:
    """Return Unix seconds as Kubernetes writes times ("2026-01-31T12:00:00Z")."""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def domain_of(terms: Terms) -> Domain:
    """Return the domain that a placement's signatures are made for."""
    return Domain(chain_id=terms.chain_id, escrow=terms.escrow, hub_id=from_hex(terms.hub_id))


def unit_prices(prices: Prices, *, resources: Iterable[str], product: str, decimals: int) -> UnitPrices:
    """Return the quote's prices for `resources` on nodes with accelerator `product`, in smallest units.

    Of the accelerator entries the first counts whose resource is equal and whose product pattern
    matches. A resource without one gets no price: `price_per_task_hour` then refuses it. Raises
    AmountError for a price with more places than the token.
    """
    device_hour: dict[str, int] = {}
    for resource in resources:
        for entry in prices.accelerators:
            if entry.resource == resource and fnmatchcase(product, entry.product):
                device_hour[resource] = parse_amount(entry.price_per_hour, decimals=decimals)
                break
    return UnitPrices(
        cpu_core_hour=parse_amount(prices.cpu_core_hour, decimals=decimals),
        memory_gib_hour=parse_amount(prices.memory_gib_hour, decimals=decimals),
        device_hour=device_hour,
    )


def quoted_price(terms: Terms) -> int:
    """Return what the quote in the terms asks for a task-hour of the terms' requests, in smallest units.

    Raises UnpricedError when the quote has no price for a device, AmountError for a price with more
    places than the token.
    """
    requests = terms.requests
    prices = unit_prices(
        terms.quote.prices,
        resources=requests.accelerators,
        product=terms.product,
        decimals=terms.token_decimals,
    )
    return price_per_task_hour(
        Requests(
            cpu_millicores=requests.cpu_millicores,
            memory_mib=requests.memory_mib,
            devices=requests.accelerators,
        ),
        prices,
    )


@lru_cache(maxsize=1024)
def quote_message(quote: QuoteSpec) -> Quote:
    """Return what a quote's signer signs; the present `signature` plays no part.

    Remembered, as a provider's thousands of placements are under one quote.
    """
    return Quote(
        provider=quote.provider,
        payee=quote.payee,
        signer=quote.signer,
        terms_hash=terms_hash(quote.wire()),
        valid_until=unix_seconds(quote.valid_until),
        sequence=quote.sequence,
    )


def sign_quote(quote: QuoteSpec, *, domain: Domain, key: LocalAccount) -> QuoteSpec:
    """Return `quote` with its signature (put any placeholder of the right form there before)."""
    return quote.model_copy(update={"signature": sign(domain, quote_message(quote), key=key)})


@_REMEMBERED
def check_quote(quote: QuoteSpec, *, domain: Domain) -> None:
    """Raise SignatureError unless the quote's signer signed exactly these terms for this domain."""
    check_signed_by(quote.signer, domain, quote_message(quote), signature=quote.signature)


@_REMEMBERED
def quote_hash(quote: QuoteSpec, *, domain: Domain) -> bytes:
    """Return the digest by which receipts and claims name a quote."""
    return digest(domain, quote_message(quote))


def authorization_message(account: AccountSpec, *, decimals: int) -> AccountAuthorization:
    """Return what an account's payer signs. ValueError when the account has no authorization.

    `decimals` are those of the escrow's token: limits are written in whole tokens.
    """
    given = account.authorization
    if given is None:
        raise ValueError("the account has no authorization")
    limits = account.limits
    return AccountAuthorization(
        hub_id=from_hex(given.hub_id),
        namespace_uid=given.namespace_uid,
        payer=account.payer,
        max_total=_limit(limits.max_total, decimals=decimals),
        max_per_day=_limit(limits.max_per_day, decimals=decimals),
        expiry=unix_seconds(given.expires_at),
        nonce=given.nonce,
    )


@_REMEMBERED
def check_authorization(account: AccountSpec, *, domain: Domain, namespace_uid: str, decimals: int) -> None:
    """Raise SignatureError unless the payer lets this namespace spend on this chain, escrow and hub.

    NotThePayersKey when all is right but for the signature: a payer that is a contract (EIP-1271) has to be
    asked on the chain, which is the caller's. So is expiry: the caller knows the time.
    """
    given = account.authorization
    if given is None:
        raise SignatureError("the account has no authorization by its payer")
    for what, said, wanted in (
        ("chain", str(given.chain_id), str(domain.chain_id)),
        ("escrow", checksummed(given.escrow), checksummed(domain.escrow)),
        ("hub", given.hub_id, to_hex(domain.hub_id)),
        ("namespace", given.namespace_uid, namespace_uid),
    ):
        if said != wanted:
            raise SignatureError(f"the authorization is for {what} {said}, not {wanted}")
    message = authorization_message(account, decimals=decimals)
    try:
        check_signed_by(account.payer, domain, message, signature=given.signature)
    except SignatureError as error:
        asked = ContractSignature(
            checksummed(account.payer), digest(domain, message), bytes.fromhex(given.signature[2:])
        )
        raise NotThePayersKey(str(error), asked) from error


def receipt_message(receipt: SignedReceipt, *, terms: Terms, job_uid: str, placement_uid: str) -> Receipt:
    """Return what was signed: the receipt's own fields and, from the terms, the rest."""
    return Receipt(
        hub_id=from_hex(terms.hub_id),
        provider=terms.provider,
        payer=terms.account.payer,
        payee=terms.quote.payee,
        token=terms.token,
        job_uid=job_uid,
        placement_uid=placement_uid,
        quote_hash=quote_hash(terms.quote, domain=domain_of(terms)),
        sequence=receipt.sequence,
        previous_receipt=from_hex(receipt.previous),
        period_start=unix_seconds(receipt.period_start),
        period_end=unix_seconds(receipt.period_end),
        attempts_root=from_hex(receipt.attempts_root),
        total_seconds=receipt.seconds,
        cumulative_amount=parse_amount(receipt.cumulative_amount, decimals=terms.token_decimals),
    )


def receipt_hash(receipt: SignedReceipt, *, terms: Terms, job_uid: str, placement_uid: str) -> bytes:
    """Return the digest by which the next receipt and a claim name this one."""
    message = receipt_message(receipt, terms=terms, job_uid=job_uid, placement_uid=placement_uid)
    return digest(domain_of(terms), message)


def sign_receipt(
    ended: Sequence[Ended],
    *,
    elapsed: Sequence[Elapsed] = (),
    attempt: int = 0,
    terms: Terms,
    job_uid: str,
    placement_uid: str,
    previous: SignedReceipt | None,
    period: tuple[int, int],
    key: LocalAccount,
) -> SignedReceipt:
    """Return the next cumulative receipt over all of a placement's ended attempts.

    `elapsed` is the elapsed time of attempts number `attempt`, with interval billing. `previous` is the
    placement's last receipt, `period` Unix seconds from the first attempt's start to the last one's end.
    Seconds and amount count elapsed time and payable outcomes only.
    """
    seconds = payable_seconds(ended, stops_of(elapsed))
    price = parse_amount(terms.price_per_task_hour, decimals=terms.token_decimals)
    amount = cumulative_amount(total_seconds=seconds, price_per_task_hour=price)
    unsigned = SignedReceipt(
        sequence=previous.sequence + 1 if previous else 1,
        previous=to_hex(
            receipt_hash(previous, terms=terms, job_uid=job_uid, placement_uid=placement_uid)
            if previous
            else bytes(32)
        ),
        period_start=timestamp(period[0]),
        period_end=timestamp(period[1]),
        attempts_root=to_hex(attempts_root(ended, elapsed, attempt=attempt)),
        seconds=seconds,
        cumulative_amount=format_amount(amount, decimals=terms.token_decimals),
        signature="0x00",
    )
    message = receipt_message(unsigned, terms=terms, job_uid=job_uid, placement_uid=placement_uid)
    return unsigned.model_copy(update={"signature": sign(domain_of(terms), message, key=key)})


def check_receipt(
    receipt: SignedReceipt,
    ended: Sequence[Ended],
    *,
    elapsed: Sequence[Elapsed] = (),
    attempt: int = 0,
    terms: Terms,
    job_uid: str,
    placement_uid: str,
) -> None:
    """Raise SignatureError unless the quote's signer signed this receipt over exactly these."""
    if attempts_root(ended, elapsed, attempt=attempt) != from_hex(receipt.attempts_root):
        raise SignatureError("the attempts are not those that the receipt was signed over")
    message = receipt_message(receipt, terms=terms, job_uid=job_uid, placement_uid=placement_uid)
    check_signed_by(terms.quote.signer, domain_of(terms), message, signature=receipt.signature)


def _limit(text: str | None, *, decimals: int) -> int:
    return NO_LIMIT if text is None else parse_amount(text, decimals=decimals)
