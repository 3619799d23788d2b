"""Checks of one PaymentClaim that need nothing but the claim: whether it is what its parts signed.

The hub decides what to claim; the settler believes none of it. It recomputes the attempts root from
the `ended` strings, checks who signed receipt, quote and authorization, and bounds seconds and
amount. What was paid before is the business of `fallow.settler.books`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from fallow.errors import FallowError
from fallow.receipts.attempts import PAYABLE, attempts_root
from fallow.receipts.epochs import MAX_LINE_AMOUNT, Claim, claim_id
from fallow.receipts.pricing import cumulative_amount
from fallow.receipts.statements import (
    check_authorization,
    check_quote,
    check_receipt,
    quote_hash,
    receipt_hash,
    unix_seconds,
)
from fallow.receipts.typed_data import Domain
from fallow.receipts.words import checksummed, to_hex
from fallow.resources.ended import Ended, Outcome
from fallow.resources.money import parse_amount
from fallow.resources.naming import provider_namespace
from fallow.resources.paymentclaim import PaymentClaimSpec
from fallow.resources.ranges import IndexRanges
from fallow.settler.refusals import ClaimRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """Where money is kept: what every claim's terms have to name."""

    domain: Domain
    token: str
    decimals: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What a claim takes out of the world once: attempts, successes, and somebody's money."""

    claim_id: bytes
    job_uid: str
    attempt: int
    indexes: IndexRanges
    succeeded: IndexRanges
    replicas: int
    owner: str
    """Who owns the provider: of a replicated index each owner is paid one success."""
    payer: str
    account: str
    """namespace/name."""
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedClaim:
    """A claim that holds by itself, in the form that an epoch takes."""

    namespace: str
    name: str
    uid: str
    created_at: int
    spec: Mapping[str, Any]
    claim: Claim
    counted: Counted
    max_total: int | None
    """Limit that the payer signed for the whole authorization, in smallest units."""
    max_per_day: int | None = None
    """Limit that the payer signed for any 24 hours, in smallest units."""

    @property
    def key(self) -> tuple[str, str]:
        """(namespace, name)."""
        return self.namespace, self.name


def check_claim(obj: Mapping[str, Any], *, money: Money) -> CheckedClaim:
    """Return a PaymentClaim object as something that can be paid.

    Raises ClaimRefused with the reason when it never can.
    """
    meta = obj["metadata"]
    try:
        spec = PaymentClaimSpec.model_validate(obj["spec"])
        ended = [Ended.parse(text) for text in spec.ended]
        unpaid = [Ended.parse(text) for part in spec.disallowed for text in part.ended]
        _check_terms(spec, namespace=meta["namespace"], money=money)
        _check_attempts(spec, ended)
        _check_signatures(spec, ended + unpaid, money=money)
        amount = _checked_amount(spec, ended)
        made = as_claim(spec, ended, amount)
    except ClaimRefused:
        raise
    except (ValidationError, FallowError, ValueError) as error:
        raise ClaimRefused("Malformed", _first_line(error)) from error
    limits = spec.terms.account.limits
    return CheckedClaim(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        created_at=unix_seconds(meta["creationTimestamp"]),
        spec=obj["spec"],
        claim=made,
        counted=counted(obj["spec"], decimals=money.decimals),
        max_total=_limit(limits.max_total, money),
        max_per_day=_limit(limits.max_per_day, money),
    )


def _limit(text: str | None, money: Money) -> int | None:
    return None if text is None else parse_amount(text, decimals=money.decimals)


def counted(spec: Mapping[str, Any], *, decimals: int) -> Counted:
    """Return what a claim's spec (as on the wire, or in a bundle) counts as once it is paid."""
    ended = [Ended.parse(text) for text in spec["ended"]]
    terms = spec["terms"]
    return Counted(
        claim_id=bytes.fromhex(spec["claimId"][2:]),
        job_uid=spec["job"]["uid"],
        attempt=spec["attempt"],
        indexes=IndexRanges.of(one.index for one in ended),
        succeeded=IndexRanges.of(one.index for one in ended if one.outcome is Outcome.SUCCEEDED),
        replicas=terms.get("replicas", 1),
        owner=terms.get("ownerId", ""),
        payer=checksummed(terms["account"]["payer"]),
        account=f"{terms['accountNamespace']}/{terms['accountName']}",
        amount=parse_amount(spec["amount"], decimals=decimals),
    )


def _check_terms(spec: PaymentClaimSpec, *, namespace: str, money: Money) -> None:
    terms, domain = spec.terms, money.domain
    for what, said, wanted in (
        ("hub", terms.hub_id, to_hex(domain.hub_id)),
        ("chain", terms.chain_id, domain.chain_id),
        ("escrow", checksummed(terms.escrow), checksummed(domain.escrow)),
        ("token", checksummed(terms.token), checksummed(money.token)),
        ("number of decimals", terms.token_decimals, money.decimals),
    ):
        if said != wanted:
            raise ClaimRefused("WrongDomain", f"the claim is for {what} {said}, this settler's is {wanted}")
    if namespace != provider_namespace(terms.provider) or terms.quote.provider != terms.provider:
        raise ClaimRefused("WrongProvider", f"the terms are of provider {terms.provider}")
    wanted_id = claim_id(domain.hub_id, spec.placement.uid, spec.sequence)
    if spec.claim_id != to_hex(wanted_id):
        raise ClaimRefused("WrongClaimId", "the claim id is not that of placement and sequence")


def _check_attempts(spec: PaymentClaimSpec, ended: list[Ended]) -> None:
    indexes = IndexRanges.of(one.index for one in ended)
    if len(indexes) != len(ended):
        raise ClaimRefused("AttemptTwice", "an index is claimed twice")
    for one in ended:
        if one.attempt != spec.attempt:
            raise ClaimRefused("WrongAttempt", f"{one} is no attempt number {spec.attempt}")
        if one.outcome not in PAYABLE:
            raise ClaimRefused("NotPayable", f"{one} did not end in a way that is paid")


def _check_signatures(spec: PaymentClaimSpec, covered: list[Ended], *, money: Money) -> None:
    terms = spec.terms
    try:
        check_quote(terms.quote, domain=money.domain)
        check_receipt(
            spec.receipt, covered, terms=terms, job_uid=spec.job.uid, placement_uid=spec.placement.uid
        )
    except FallowError as error:
        raise ClaimRefused("ReceiptRefused", str(error)) from error
    if (spec.receipt.sequence == 1) != (spec.receipt.previous == to_hex(bytes(32))):
        raise ClaimRefused("ReceiptRefused", "the receipt's number and its predecessor contradict each other")
    if money.domain.chain_id == 0:
        if terms.account.authorization is not None:
            raise ClaimRefused("AccountUnbound", "a ledger's accounts are the hub admin's word")
        return
    given = terms.account.authorization
    try:
        if given is None:
            raise ClaimRefused("AccountUnbound", "the account has no authorization by its payer")
        # NB: the namespace may be gone by now; whether the UID is its namespace's was checked when
        # the account was bound, and the payer's signature is over that very UID.
        check_authorization(
            terms.account,
            domain=money.domain,
            namespace_uid=given.namespace_uid,
            decimals=money.decimals,
        )
    except FallowError as error:
        raise ClaimRefused("AccountUnbound", str(error)) from error
    if unix_seconds(spec.observations.placed_at) >= unix_seconds(given.expires_at):
        raise ClaimRefused("AuthorizationExpired", "the work was placed after the payer's consent expired")


def _checked_amount(spec: PaymentClaimSpec, ended: list[Ended]) -> int:
    decimals = spec.terms.token_decimals
    amount = parse_amount(spec.amount, decimals=decimals)
    if spec.seconds > sum(one.seconds for one in ended):
        raise ClaimRefused("SecondsInflated", "more seconds are claimed than the attempts have")
    price = parse_amount(spec.terms.price_per_task_hour, decimals=decimals)
    if amount > cumulative_amount(total_seconds=spec.seconds, price_per_task_hour=price):
        raise ClaimRefused("AmountInflated", "the amount is more than seconds times price")
    if amount > parse_amount(spec.receipt.cumulative_amount, decimals=decimals):
        raise ClaimRefused("AmountInflated", "the amount is more than the provider's receipt")
    if amount > MAX_LINE_AMOUNT:
        raise ClaimRefused("AmountInflated", "the amount is beyond what the escrow can hold")
    return amount


def as_claim(spec: PaymentClaimSpec, ended: list[Ended], amount: int) -> Claim:
    """Return what an epoch says about a claim that paid `ended`, `amount` in smallest units."""
    terms = spec.terms
    ids = {"job_uid": spec.job.uid, "placement_uid": spec.placement.uid}
    return Claim(
        claim_id=bytes.fromhex(spec.claim_id[2:]),
        provider=terms.provider,
        quote_hash=quote_hash(
            terms.quote,
            domain=Domain(
                chain_id=terms.chain_id, escrow=terms.escrow, hub_id=bytes.fromhex(terms.hub_id[2:])
            ),
        ),
        receipt_hash=receipt_hash(spec.receipt, terms=terms, **ids),
        attempts_root=attempts_root(ended),
        payer=checksummed(terms.account.payer),
        payee=checksummed(terms.quote.payee),
        total_seconds=spec.seconds,
        price_per_task_hour=parse_amount(terms.price_per_task_hour, decimals=terms.token_decimals),
        amount=amount,
        **ids,
    )


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:512] if str(error) else type(error).__name__
