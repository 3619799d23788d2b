"""Builders for everything that is signed: keys, accounts, quotes, terms, receipts, claims."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from fallow.receipts.charging import charged, covered_elapsed
from fallow.receipts.epochs import claim_id
from fallow.receipts.statements import (
    authorization_message,
    domain_of,
    sign_quote,
    sign_receipt,
    timestamp,
)
from fallow.receipts.typed_data import Domain, sign
from fallow.receipts.words import keccak, to_hex
from fallow.resources.account import AccountLimits, AccountSpec, Authorization
from fallow.resources.base import JobRef, PlacementRef
from fallow.resources.elapsed import parse_all
from fallow.resources.ended import Ended
from fallow.resources.money import format_amount, parse_amount
from fallow.resources.paymentclaim import Disallowed, Observations, PaymentClaimSpec
from fallow.resources.quote import AcceleratorPrice, Prices, QuoteSpec
from fallow.resources.ranges import IndexRanges
from fallow.resources.terms import TaskRequests, Terms

HUB_ID = keccak(b"a hub")
NAMESPACE_UID = "5f0c2f0e-7d1c-4b55-9a55-0d8f6a1f2b3c"
JOB_UID = "8f14e45f-ceea-467f-a0e6-7b3b3c2d1e0f"
PLACEMENT_UID = "0b5ad3c1-0000-4e2b-9d3f-2a1b0c9d8e7f"
FAR = 4_000_000_000
DECIMALS = 6
PLACED_AT = 1_800_000_000
ONE_DEVICE = TaskRequests(accelerators={"nvidia.com/gpu": 1})


def key(name: str) -> LocalAccount:
    """The same key for the same name, every time."""
    account: LocalAccount = Account.from_key(keccak(name.encode()))
    return account


def address(name: str) -> str:
    return str(key(name).address)


def an_account(
    domain: Domain, *, payer: str = "payer", namespace_uid: str = NAMESPACE_UID, expiry: int = FAR,
    limits: AccountLimits | None = None,
) -> AccountSpec:  # fmt: skip
    """An Account whose payer signed for the namespace; in ledger mode without a signature."""
    limits = limits or AccountLimits()
    if domain.chain_id == 0:
        return AccountSpec(payer=address(payer), limits=limits)
    given = Authorization(
        chain_id=domain.chain_id, escrow=domain.escrow, hub_id=to_hex(domain.hub_id),
        namespace_uid=namespace_uid, expires_at=timestamp(expiry), nonce=1, signature="0x00",
    )  # fmt: skip
    account = AccountSpec(payer=address(payer), limits=limits, authorization=given)
    signature = sign(domain, authorization_message(account, decimals=DECIMALS), key=key(payer))
    return account.model_copy(update={"authorization": given.model_copy(update={"signature": signature})})


def a_quote(
    domain: Domain, *, provider: str = "aurora", payee: str = "payee", signer: str = "signer",
    gpu_price: str = "1.80",
) -> QuoteSpec:  # fmt: skip
    quote = QuoteSpec(
        provider=provider,
        prices=Prices(
            accelerators=(AcceleratorPrice(price_per_hour=gpu_price),),
            cpu_core_hour="0.01",
            memory_gib_hour="0.001",
        ),
        payee=address(payee),
        signer=address(signer),
        valid_until=timestamp(FAR),
        sequence=1,
        signature="0x00",
    )
    return sign_quote(quote, domain=domain, key=key(signer))


def some_terms(domain: Domain, *, price: str = "1.80", **changes: Any) -> Terms:
    """Terms over the account and quote above for a task of one device; any other field by keyword."""
    fields: dict[str, Any] = {
        "hub_id": to_hex(domain.hub_id), "chain_id": domain.chain_id, "escrow": domain.escrow,
        "token": "0x" + "70" * 20, "token_decimals": DECIMALS, "account_namespace": "default",
        "account_name": "default", "account": an_account(domain), "provider": "aurora", "owner_id": "owner",
        "quote": a_quote(domain, gpu_price=price), "price_per_task_hour": price,
        "requests": ONE_DEVICE, "task_timeout_seconds": 86_400, "paid_failure_seconds": 86_400,
    }  # fmt: skip
    return Terms(**(fields | changes))


def priced(terms: Terms, price: str) -> Terms:
    """The same terms at another price, which their quote says too."""
    quote = a_quote(domain_of(terms), provider=terms.provider, gpu_price=price)
    return terms.model_copy(update={"quote": quote, "price_per_task_hour": price})


def a_claim(
    ended: Sequence[str],
    *,
    terms: Terms,
    disallowed: Sequence[str] = (),
    elapsed: Sequence[str] = (),
    sequence: int = 0,
    partial: bool = False,
    placement_uid: str = PLACEMENT_UID,
    job_uid: str = JOB_UID,
    attempt: int = 0,
    signer: str = "signer",
) -> PaymentClaimSpec:
    """The claim that the hub writes for a placement, with the agent's receipt over all.

    `elapsed` is as the claim has it: from what earlier claims charged to what this one does.
    """
    attempts = [Ended.parse(each) for each in [*ended, *disallowed]]
    spans = parse_all(elapsed)
    receipt = sign_receipt(
        attempts, elapsed=covered_elapsed(spans), attempt=attempt, terms=terms, job_uid=job_uid,
        placement_uid=placement_uid, previous=None, period=(PLACED_AT, PLACED_AT + 3600), key=key(signer),
    )  # fmt: skip
    paid = [Ended.parse(each) for each in ended]
    sums = charged(paid, spans, longest=10**9)
    amount = sums.amount(parse_amount(terms.price_per_task_hour, decimals=terms.token_decimals))
    longest = max([*(one.seconds for one in paid), *(one.stop for one in spans)], default=0)
    tasks = IndexRanges.of(one.index for one in attempts)
    for one in spans:
        tasks |= one.tasks
    return PaymentClaimSpec(
        placement=PlacementRef(name="placement", uid=placement_uid),
        job=JobRef(namespace=terms.account_namespace, name="job", uid=job_uid),
        attempt=attempt,
        sequence=sequence,
        claim_id=to_hex(claim_id(bytes.fromhex(terms.hub_id[2:]), placement_uid, sequence)),
        term=0,
        tasks=str(tasks),
        partial=partial,
        ended=() if partial else tuple(ended),
        elapsed=tuple(elapsed),
        disallowed=(Disallowed(reason="Lost", ended=tuple(disallowed)),) if disallowed else (),
        receipt=receipt,
        observations=Observations(placed_at=timestamp(PLACED_AT), finished_at=timestamp(PLACED_AT + longest)),
        seconds=sums.seconds,
        amount=format_amount(amount, decimals=terms.token_decimals),
        terms=terms,
    )
