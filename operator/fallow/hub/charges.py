"""What is reserved or claimed and not yet in a balance, kept as it comes and goes.

Reserved = what live placements can still come to; owed = claims that no balance shows yet. Both are sums
over all there is, asked for in every cycle; so they are kept as sums, and an object that changes is taken out
as it was and put in as it is. What an object counts for is remembered with it: nothing drifts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TypeVar

DAY_SECONDS = 86_400
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Charge:
    """What one placement or claim counts for."""

    payer: str
    account: str
    """"namespace/name"."""
    amount: int
    """In the smallest unit."""
    created: int = 0
    """Unix time; of claims only."""
    settled_in: int | None = None
    """Block from which on balances show it; None while no balance does."""
    refused: bool = False
    """Whether it will never be settled, and so is not owed."""


class Charges:
    """Sums over charges. `set_reserved` and `set_claim` replace what was known under a key."""

    def __init__(self) -> None:
        self._reserved: dict[Hashable, Charge] = {}
        self._claims: dict[Hashable, Charge] = {}
        self._open_by_payer: Counter[str] = Counter()
        self._open_by_account: Counter[str] = Counter()
        self._reserved_by_account: Counter[str] = Counter()
        self._settled: dict[str, Counter[tuple[int, str]]] = {}
        """By payer: amounts by block and account."""
        self._claimed: dict[str, Counter[int]] = {}
        """By account: amounts by the moment of the claim, at least those of the last day."""

    def set_reserved(self, key: Hashable, charge: Charge | None) -> None:
        """Take in what a live placement can still come to; None when it is gone or claimed."""
        before = self._reserved.pop(key, None)
        if before is not None:
            self._reserve(before, -1)
        if charge is not None:
            self._reserved[key] = charge
            self._reserve(charge, 1)

    def set_claim(self, key: Hashable, charge: Charge | None) -> None:
        """Take in a claim; None when it is deleted."""
        before = self._claims.pop(key, None)
        if before is not None:
            self._claim(before, -1)
        if charge is not None:
            self._claims[key] = charge
            self._claim(charge, 1)

    def of_payer(self, payer: str, *, observed_block: int) -> int:
        """Return what is open against a payer whose balance was read at `observed_block`."""
        return self._open_by_payer[payer] + sum(
            amount for (block, _), amount in self._unseen(payer, observed_block)
        )

    def of_account(self, account: str, payer: str, *, observed_block: int) -> int:
        """Return what of that its account ("namespace/name") has caused."""
        return self._open_by_account[account] + sum(
            amount for (_, caused_by), amount in self._unseen(payer, observed_block) if caused_by == account
        )

    def in_a_day(self, account: str, *, now: int) -> int:
        """Return an account's claims of the last 24 hours and what is reserved. `now` is Unix time."""
        claimed = self._claimed.get(account)
        if claimed:
            for created in [one for one in claimed if now - one >= DAY_SECONDS]:
                del claimed[created]
        return self._reserved_by_account[account] + (claimed.total() if claimed else 0)

    def namespace_in_a_day(self, namespace: str, *, now: int) -> int:
        """Return the same for all accounts that a namespace has, or had."""
        accounts = {*self._reserved_by_account, *self._claimed}
        return sum(
            self.in_a_day(account, now=now)
            for account in sorted(accounts)
            if account.partition("/")[0] == namespace
        )

    def _unseen(self, payer: str, observed_block: int) -> list[tuple[tuple[int, str], int]]:
        """Return what was settled after the block that the balance was read at."""
        return [one for one in self._settled.get(payer, Counter()).items() if one[0][0] > observed_block]

    def _reserve(self, charge: Charge, sign: int) -> None:
        amount = sign * charge.amount
        _add(self._open_by_payer, charge.payer, amount)
        _add(self._open_by_account, charge.account, amount)
        _add(self._reserved_by_account, charge.account, amount)

    def _claim(self, charge: Charge, sign: int) -> None:
        amount = sign * charge.amount
        claimed = self._claimed.setdefault(charge.account, Counter())
        if sign > 0 or charge.created in claimed:  # what is over a day old may have been dropped already
            _add(claimed, charge.created, amount)
        if not claimed:
            del self._claimed[charge.account]
        if charge.refused:
            return
        if charge.settled_in is None:
            _add(self._open_by_payer, charge.payer, amount)
            _add(self._open_by_account, charge.account, amount)
            return
        settled = self._settled.setdefault(charge.payer, Counter())
        _add(settled, (charge.settled_in, charge.account), amount)
        if not settled:
            del self._settled[charge.payer]


def _add(sums: Counter[Key], key: Key, amount: int) -> None:
    sums[key] += amount
    if not sums[key]:
        del sums[key]
