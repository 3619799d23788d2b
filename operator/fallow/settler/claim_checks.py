"""Checks of one PaymentClaim that need nothing but the claim: whether it is what its parts signed.

The hub decides what to claim; the settler believes none of it. It recomputes roots, seconds, price and
amount, and each thing that is not so has a reason of its own. What was paid before is the business of
`fallow.settler.books`, who may charge whom that of `fallow.settler.accounts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from fallow.errors import FallowError
from fallow.receipts.attempts import PAYABLE, attempts_root
from fallow.receipts.charging import Charged, charged, covered_elapsed, longest_attempt
from fallow.receipts.contract_signatures import ContractSignature
from fallow.receipts.epochs import MAX_LINE_AMOUNT, Claim, claim_id
from fallow.receipts.pricing import UnpricedError
from fallow.receipts.statements import quote_hash, quoted_price, receipt_hash, unix_seconds
from fallow.receipts.typed_data import Domain
from fallow.receipts.words import checksummed, to_hex
from fallow.resources.elapsed import Elapsed, parse_all
from fallow.resources.ended import Ended
from fallow.resources.money import format_amount, parse_amount
from fallow.resources.naming import provider_namespace
from fallow.resources.paymentclaim import PaymentClaimSpec
from fallow.resources.ranges import IndexRanges, parse_optional
from fallow.settler.counting import Counted, counted
from fallow.settler.refusals import ClaimRefused
from fallow.settler.signature_checks import check_signatures


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """Where money is kept: what every claim's terms have to name."""

    domain: Domain
    token: str
    decimals: int


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
    to_ask: ContractSignature | None = None
    """What the payer, if it is a contract, still has to say yes to."""

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
        said = _Said(PaymentClaimSpec.model_validate(obj["spec"]))
        _check_place(said.spec, namespace=meta["namespace"], money=money)
        _check_attempts(said)
        _check_price(said.spec)
        to_ask = check_signatures(
            said.spec, said.covered, said.covered_elapsed, domain=money.domain, decimals=money.decimals
        )
        _check_seconds(said)
        amount = _checked_amount(said)
        made = as_claim(said.spec, amount)
    except ClaimRefused:
        raise
    except (ValidationError, FallowError, ValueError) as error:
        raise ClaimRefused("Malformed", _first_line(error)) from error
    limits = said.spec.terms.account.limits
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
        to_ask=to_ask,
    )


@dataclass(frozen=True)
class _Said:
    """A claim's spec, with its strings read."""

    spec: PaymentClaimSpec

    @cached_property
    def ended(self) -> list[Ended]:
        return [Ended.parse(text) for text in self.spec.ended]

    @cached_property
    def elapsed(self) -> tuple[Elapsed, ...]:
        return parse_all(self.spec.elapsed)

    @cached_property
    def covered(self) -> list[Ended]:
        unpaid = [text for part in self.spec.disallowed for text in part.ended]
        return self.ended + [Ended.parse(text) for text in [*unpaid, *self.spec.unjudged]]

    @cached_property
    def covered_elapsed(self) -> tuple[Elapsed, ...]:
        unpaid = [Elapsed.parse(text) for part in self.spec.disallowed for text in part.elapsed]
        return covered_elapsed(self.elapsed, unpaid)

    @cached_property
    def charged(self) -> Charged:
        seen = self.spec.observations
        longest = longest_attempt(
            placed_at=unix_seconds(seen.placed_at),
            seen_until=unix_seconds(seen.finished_at or seen.placed_at),
            timeout_seconds=self.spec.terms.task_timeout_seconds,
        )
        return charged(self.ended, self.elapsed, longest=longest)


def claim_of(obj: Mapping[str, Any]) -> Claim:
    """Return what an epoch says about a PaymentClaim that was checked before."""
    spec = PaymentClaimSpec.model_validate(obj["spec"])
    return as_claim(spec, parse_amount(spec.amount, decimals=spec.terms.token_decimals))


def _limit(text: str | None, money: Money) -> int | None:
    return None if text is None else parse_amount(text, decimals=money.decimals)


def _check_place(spec: PaymentClaimSpec, *, namespace: str, money: Money) -> None:
    terms, domain = spec.terms, money.domain
    for reason, what, said, wanted in (
        ("ForeignHub", "hub", terms.hub_id, to_hex(domain.hub_id)),
        ("ForeignChain", "chain", terms.chain_id, domain.chain_id),
        ("ForeignEscrow", "escrow", checksummed(terms.escrow), checksummed(domain.escrow)),
        ("ForeignToken", "token", checksummed(terms.token), checksummed(money.token)),
        ("ForeignToken", "number of decimals", terms.token_decimals, money.decimals),
    ):
        if said != wanted:
            raise ClaimRefused(reason, f"the claim is for {what} {said}, this settler's is {wanted}")
    if namespace != provider_namespace(terms.provider) or terms.quote.provider != terms.provider:
        raise ClaimRefused("WrongProvider", f"the terms are of provider {terms.provider}")
    if spec.job.namespace != terms.account_namespace:
        raise ClaimRefused(
            "StrangersPayer",
            f"a job of namespace {spec.job.namespace} charges the account of {terms.account_namespace}",
        )
    wanted_id = claim_id(domain.hub_id, spec.placement.uid, spec.sequence)
    if spec.claim_id != to_hex(wanted_id):
        raise ClaimRefused("WrongClaimId", "the claim id is not that of placement and sequence")


def _check_attempts(said: _Said) -> None:
    spec, ended = said.spec, said.ended
    indexes = IndexRanges.of(one.index for one in ended)
    if len(indexes) != len(ended):
        raise ClaimRefused("AttemptTwice", "an index is claimed twice")
    everywhere = IndexRanges.of(one.index for one in said.covered)
    for part in said.covered_elapsed:
        everywhere |= part.tasks
    strangers = everywhere - parse_optional(spec.tasks)
    if strangers:
        raise ClaimRefused("IndexOutsidePlacement", f"index {strangers} is not among those placed there")
    for one in said.covered:
        if one.attempt != spec.attempt:
            raise ClaimRefused("WrongAttempt", f"{one} is no attempt number {spec.attempt}")
    for one in ended:
        if one.outcome not in PAYABLE:
            raise ClaimRefused("NotPayable", f"{one} did not end in a way that is paid")
    if said.covered_elapsed and spec.terms.billing != "PerInterval":
        raise ClaimRefused("NotPayable", "elapsed time is paid with billing PerInterval only")
    if spec.partial and ended:
        raise ClaimRefused("NotPayable", "a partial claim claims elapsed time only")


def _check_price(spec: PaymentClaimSpec) -> None:
    """Work out the price again from the signed Quote and the pod's requests."""
    terms = spec.terms
    price = parse_amount(terms.price_per_task_hour, decimals=terms.token_decimals)
    try:
        quoted = quoted_price(terms)
    except UnpricedError as error:
        raise ClaimRefused("PriceBelowQuote", str(error)) from error
    if price != quoted:
        raise ClaimRefused(
            "PriceBelowQuote" if price < quoted else "PriceAboveQuote",
            f"the Quote makes {format_amount(quoted, decimals=terms.token_decimals)} a task-hour of these "
            f"requests, the terms say {terms.price_per_task_hour}",
        )


def _check_seconds(said: _Said) -> None:
    if said.spec.seconds > said.charged.seconds:
        raise ClaimRefused(
            "DurationInflated",
            f"{said.spec.seconds} s are claimed; by what the hub observed they are at most "
            f"{said.charged.seconds} s",
        )


def _checked_amount(said: _Said) -> int:
    spec, decimals = said.spec, said.spec.terms.token_decimals
    amount = parse_amount(spec.amount, decimals=decimals)
    price = parse_amount(spec.terms.price_per_task_hour, decimals=decimals)
    if amount > Charged(spec.seconds, 0, said.charged.before).amount(price):
        raise ClaimRefused("AmountInflated", "the amount is more than seconds times price")
    before = Charged(said.charged.before, 0, 0).amount(price)
    if before + amount > parse_amount(spec.receipt.cumulative_amount, decimals=decimals):
        raise ClaimRefused("AmountInflated", "the amount is more than the provider's receipt")
    if amount > MAX_LINE_AMOUNT:
        raise ClaimRefused("AmountInflated", "the amount is beyond what the escrow can hold")
    return amount


def as_claim(spec: PaymentClaimSpec, amount: int) -> Claim:
    """Return what an epoch says about a claim; `amount` in smallest units.

    Raises Malformed for attempts or elapsed time that are none.
    """
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
        attempts_root=attempts_root(
            [Ended.parse(text) for text in spec.ended], parse_all(spec.elapsed), attempt=spec.attempt
        ),
        payer=checksummed(terms.account.payer),
        payee=checksummed(terms.quote.payee),
        total_seconds=spec.seconds,
        price_per_task_hour=parse_amount(terms.price_per_task_hour, decimals=terms.token_decimals),
        amount=amount,
        **ids,
    )


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:512] if str(error) else type(error).__name__
