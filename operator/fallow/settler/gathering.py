"""Which claims make the next epoch, which wait and why: pure, given what is known.

One payer that cannot pay, or one payee that is not registered, never holds up the others: their
claims wait, visibly. A payer that has announced a withdrawal gets an epoch of its own, first, so
that its leaving can revert nobody else's pay.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from fallow.resources.money import format_amount
from fallow.settler.books import Books, refuse_if_paid
from fallow.settler.claim_checks import CheckedClaim
from fallow.settler.protocol import Purse
from fallow.settler.refusals import ClaimRefused

Key = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Why a claim is not in the epoch yet."""

    reason: str
    """PayeeUnregistered, PayerUnbound, PayerUnfunded, AboveCap, TooSoon, LimitReached or DayLimitReached."""
    message: str


@dataclass(slots=True, kw_only=True)
class Gathered:
    """What becomes of each candidate."""

    chosen: list[CheckedClaim] = field(default_factory=list)
    waiting: dict[Key, Wait] = field(default_factory=dict)
    refused: dict[Key, ClaimRefused] = field(default_factory=dict)
    nothing_owed: list[CheckedClaim] = field(default_factory=list)
    """Claims of amount 0: settled without money or epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What gathering goes by."""

    past: Books
    purses: Mapping[str, Purse]
    """By payer (checksummed)."""
    inactive_payees: Collection[str]
    now: int
    """Unix seconds of the chain."""
    decimals: int
    max_claims: int
    charged_today: Mapping[str, int] = field(default_factory=dict)
    """By account (namespace/name): smallest units settled in the last 24 hours."""


def gather(candidates: Sequence[CheckedClaim], known: Known) -> Gathered:
    """Choose among `candidates`, oldest first."""
    result = Gathered()
    ordered = sorted(candidates, key=lambda claim: (claim.created_at, claim.key))
    leaving = {payer for payer, purse in known.purses.items() if purse.under_notice > 0}
    for payer in sorted(leaving & {claim.claim.payer for claim in ordered}):
        alone = _fill([claim for claim in ordered if claim.claim.payer == payer], known, result)
        if alone:
            result.chosen = alone
            return result
    result.chosen = _fill([claim for claim in ordered if claim.claim.payer not in leaving], known, result)
    return result


def is_due(chosen: Sequence[CheckedClaim], *, now: int, max_age_seconds: float, max_claims: int) -> bool:
    """Say whether an epoch is worth making now: full, or its oldest claim has waited long enough."""
    if not chosen:
        return False
    oldest = min(claim.created_at for claim in chosen)
    return len(chosen) >= max_claims or now - oldest >= max_age_seconds


def _fill(claims: Sequence[CheckedClaim], known: Known, result: Gathered) -> list[CheckedClaim]:
    chosen: list[CheckedClaim] = []
    present = Books()
    for claim in claims:
        if len(chosen) >= known.max_claims:
            break
        try:
            refuse_if_paid(claim.counted, known.past, present)
        except ClaimRefused as refusal:
            result.refused[claim.key] = refusal
            continue
        if claim.claim.amount == 0:
            result.nothing_owed.append(claim)
            continue
        wait = _wait(claim, present, known)
        if wait is not None:
            result.waiting[claim.key] = wait
            continue
        present.add(claim.counted)
        chosen.append(claim)
    return chosen


def _wait(claim: CheckedClaim, present: Books, known: Known) -> Wait | None:
    payer, payee, amount = claim.claim.payer, claim.claim.payee, claim.claim.amount
    if payee in known.inactive_payees:
        return Wait(
            reason="PayeeUnregistered",
            message=f"The payee {payee} has to register with the escrow by its own signature.",
        )
    purse = known.purses[payer]
    already = present.by_payer.get(payer, 0)
    if not purse.bound:
        return Wait(reason="PayerUnbound", message=f"The payer {payer} has to bind itself to this hub.")
    if already + amount > purse.balance:
        missing = format_amount(already + amount - purse.balance, decimals=known.decimals)
        return Wait(reason="PayerUnfunded", message=f"The payer {payer} lacks {missing}.")
    if amount > purse.cap:
        missing = format_amount(amount - purse.cap, decimals=known.decimals)
        return Wait(reason="AboveCap", message=f"The payer {payer} has to raise its cap by {missing}.")
    if known.now < purse.debitable_from:
        return Wait(reason="TooSoon", message=f"The payer {payer} was debited within its interval.")
    if already + amount > purse.cap:
        return Wait(reason="TooSoon", message=f"The payer {payer}'s cap is used up in this epoch.")
    account = claim.counted.account
    charged = known.past.by_account.get(account, 0) + present.by_account.get(account, 0)
    if claim.max_total is not None and charged + amount > claim.max_total:
        missing = format_amount(charged + amount - claim.max_total, decimals=known.decimals)
        return Wait(
            reason="LimitReached", message=f"The limit maxTotal of account {account} is {missing} too low."
        )
    today = known.charged_today.get(account, 0) + present.by_account.get(account, 0)
    if claim.max_per_day is not None and today + amount > claim.max_per_day:
        missing = format_amount(today + amount - claim.max_per_day, decimals=known.decimals)
        return Wait(
            reason="DayLimitReached",
            message=f"The limit maxPerDay of account {account} is {missing} too low for today.",
        )
    return None
