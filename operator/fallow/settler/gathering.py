"""Which claims make the next epoch, which wait and why: pure, given what is known.

One payer that cannot pay, or one payee that is not registered, never holds up the others: their
claims wait, visibly. A payer that has announced a withdrawal gets an epoch of its own, first, so
that its leaving can revert nobody else's pay.

An epoch costs by payers, payees and lines, not by claims. So it takes payer by payer, whoever was
debited longest ago first, and of each as many claims as it can: then a line holds many claims, and
who may be debited only once a day is debited for everything at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from fallow.kube.view import Key
from fallow.resources.money import format_amount
from fallow.settler.books import Books, refuse_if_paid
from fallow.settler.protocol import Purse
from fallow.settler.refusals import ClaimRefused
from fallow.settler.shelf import HeldClaim


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Why a claim is not in the epoch yet."""

    reason: str
    """PayeeUnregistered, PayerUnbound, PayerUnfunded, AboveCap, TooSoon, LimitReached or DayLimitReached."""
    message: str


@dataclass(slots=True, kw_only=True)
class Gathered:
    """What becomes of each candidate."""

    chosen: list[HeldClaim] = field(default_factory=list)
    waiting: dict[Key, Wait] = field(default_factory=dict)
    refused: dict[Key, ClaimRefused] = field(default_factory=dict)
    nothing_owed: list[HeldClaim] = field(default_factory=list)
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
    max_lines: int = 2000
    last_debited: Mapping[str, int] = field(default_factory=dict)
    """By payer: the last epoch that debited it."""
    charged_today: Mapping[str, int] = field(default_factory=dict)
    """By account (namespace/name): smallest units settled in the last 24 hours."""


def gather(candidates: Sequence[HeldClaim], known: Known) -> Gathered:
    """Choose among `candidates`."""
    result = Gathered()
    by_payer: dict[str, list[HeldClaim]] = {}
    for claim in sorted(candidates, key=lambda claim: (claim.created_at, claim.key)):
        by_payer.setdefault(claim.paid_as.payer, []).append(claim)
    for payer in sorted(payer for payer in by_payer if known.purses[payer].under_notice > 0):
        alone = _Filling(known, result)
        alone.take(by_payer.pop(payer))
        if alone.chosen:
            result.chosen = alone.chosen
            return result
    filling = _Filling(known, result)
    # NB: claims were sorted, so payers come in the order of their oldest claim: the sort keeps that.
    for payer in sorted(by_payer, key=lambda payer: known.last_debited.get(payer, 0)):
        claims = by_payer[payer]
        if filling.is_full:
            break
        if filling.chosen and filling.room < len(claims) <= known.max_claims:
            continue  # it fits into an epoch as a whole, and may be debited only once in an interval
        filling.take(claims)
    result.chosen = filling.chosen
    return result


def is_due(
    chosen: Sequence[HeldClaim],
    *,
    now: int,
    max_age_seconds: float,
    max_claims: int,
    max_value: int | None = None,
) -> bool:
    """Say whether an epoch is worth making now: full, of enough value, or its oldest claim has waited
    long enough.
    """
    if not chosen:
        return False
    oldest = min(claim.created_at for claim in chosen)
    value = sum(claim.paid_as.amount for claim in chosen)
    return (
        len(chosen) >= max_claims
        or now - oldest >= max_age_seconds
        or (max_value is not None and value >= max_value)
    )


class _Filling:
    """An epoch being filled."""

    def __init__(self, known: Known, result: Gathered) -> None:
        self.chosen: list[HeldClaim] = []
        self._known = known
        self._result = result
        self._present = Books()
        self._lines: set[tuple[str, str]] = set()

    @property
    def room(self) -> int:
        return self._known.max_claims - len(self.chosen)

    @property
    def is_full(self) -> bool:
        return self.room <= 0 or len(self._lines) >= self._known.max_lines

    def take(self, claims: Sequence[HeldClaim]) -> None:
        """Take of one payer's claims, oldest first, what can be paid."""
        known, result, present = self._known, self._result, self._present
        for claim in claims:
            if self.room <= 0:
                break
            counted = claim.paid_as
            line = counted.payer, claim.payee
            if line not in self._lines and len(self._lines) >= known.max_lines:
                continue  # of a payee for whom there is no line left: the next epoch's
            try:
                refuse_if_paid(counted, known.past, present)
            except ClaimRefused as refusal:
                result.refused[claim.key] = refusal
                continue
            if counted.amount == 0:
                result.nothing_owed.append(claim)
                continue
            wait = _wait(claim, present, known)
            if wait is not None:
                result.waiting[claim.key] = wait
                continue
            present.add(counted)
            self._lines.add(line)
            self.chosen.append(claim)


def _wait(claim: HeldClaim, present: Books, known: Known) -> Wait | None:
    payer, payee, amount = claim.paid_as.payer, claim.payee, claim.paid_as.amount
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
    account = claim.paid_as.account
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
