"""The next epoch's beginning: gather those claims that can be paid, bundle, archive, create.

Whoever would make the epoch fail is found by a simulation before the epoch exists anywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any

import structlog

from fallow.kube.view import Key
from fallow.receipts.statements import unix_seconds
from fallow.receipts.words import from_hex
from fallow.resources.money import parse_amount
from fallow.settler import accounts, statuses
from fallow.settler.bundle import Bundle
from fallow.settler.bundling import bundle_up, draft
from fallow.settler.faults import FaultPoint
from fallow.settler.gathering import Gathered, Known, Wait, gather, is_due
from fallow.settler.parts import Parts
from fallow.settler.protocol import Position
from fallow.settler.refusals import ClaimRefused, PayeeRefused, PayerRefused
from fallow.settler.shelf import HeldClaim

log = structlog.get_logger(__name__)

JSON = dict[str, Any]
_DAY_SECONDS = 86_400
_TELLING_SECONDS = 5.0


class Beginner:
    """Begins epochs."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        epochs, decimals = parts.epochs, parts.money.decimals
        self._max_value = (
            None if epochs.max_value is None else parse_amount(epochs.max_value, decimals=decimals)
        )
        self._untold: Iterator[tuple[HeldClaim, JSON]] = iter(())
        self._refusals: dict[Key, ClaimRefused] = {}
        self._looked: tuple[int, int, int] | None = None
        self._looked_at = 0
        self._stuck: frozenset[Key] = frozenset()

    async def begin(self, position: Position) -> tuple[JSON, Bundle] | None:
        """Gather claims into a new epoch, archive it, and create its Settlement; None when not due."""
        candidates = self._candidates()
        if not self._is_worth_a_look(candidates, position):
            return None
        gathered = await self._choose(candidates, position)
        self._stuck = frozenset(gathered.waiting)
        self._refusals |= gathered.refused
        self._untold = self._waiting(gathered)
        self._parts.metrics.waiting(gathered)
        if not gathered.chosen:
            return None
        self._parts.faults.reach(FaultPoint.GATHERED)
        bundle = await bundle_up(gathered.chosen, position=position, parts=self._parts)
        self._parts.faults.reach(FaultPoint.ARCHIVED)
        return await self._parts.create(bundle), bundle

    async def look(self, position: Position) -> Gathered:
        """Return what would become of every claim now; does nothing about it."""
        return await self._choose(self._candidates(), position)

    def _candidates(self) -> list[HeldClaim]:
        return [claim for claim in self._parts.hub.claims.values() if claim.counted is not None]

    async def _choose(self, candidates: list[HeldClaim], position: Position) -> Gathered:
        """Gather an epoch that would not be refused; with nothing chosen when none is due."""
        refused = self._strangers(candidates)
        excluded = await self._disagreeing(candidates, refused)
        refused |= await self._of_ended_signers(candidates, position)
        candidates = [claim for claim in candidates if claim.key not in refused]
        while True:
            gathered = await self._gather([c for c in candidates if c.key not in excluded], position)
            gathered.refused |= refused
            if not self._would_be_due(gathered.chosen, position):
                gathered.chosen = []
                break
            refusal = await self._refusal(gathered, position)
            if refusal is None:
                break
            excluded |= _excluded(gathered.chosen, refusal)
        gathered.waiting |= excluded
        return gathered

    def _strangers(self, candidates: list[HeldClaim]) -> dict[Key, ClaimRefused]:
        """Return the claims that charge a payer who signed for another namespace."""
        refused: dict[Key, ClaimRefused] = {}
        for claim in candidates:
            try:
                accounts.refuse_stranger(claim.terms, self._parts.hub.namespaces.get(claim.account_namespace))
            except ClaimRefused as refusal:
                refused[claim.key] = refusal
        return refused

    async def _disagreeing(
        self, candidates: list[HeldClaim], refused: dict[Key, ClaimRefused]
    ) -> dict[Key, Wait]:
        """Return the claims whose payer has yet to agree, and why; where it does not they are `refused`."""
        waiting: dict[Key, Wait] = {}
        ledger = self._parts.payments.mode == "ledger"
        payers = accounts.payers_by_namespace(self._parts.hub.accounts.values() if ledger else ())
        for claim in candidates:
            why: accounts.Why | None = None
            if ledger:
                why = accounts.why_no_account(claim.terms, payers)
            elif claim.to_ask is not None:
                said = await self._parts.contract_payers.accepted(claim.to_ask)
                why = accounts.why_contract_refuses(claim.to_ask, said)
                if said is False and why is not None:
                    refused[claim.key] = ClaimRefused("AccountUnbound", why[1])
                    continue
            if why is not None:
                waiting[claim.key] = Wait(reason=why[0], message=why[1])
        return waiting

    async def _of_ended_signers(
        self, candidates: list[HeldClaim], position: Position
    ) -> dict[Key, ClaimRefused]:
        """Return the claims whose receipts were signed by a key that its payee has ended."""
        payments, epoch = self._parts.payments, position.epoch + 1
        pairs = sorted({(claim.payee, claim.signer) for claim in candidates})
        ended = await asyncio.gather(*(payments.signer_ended(*pair, epoch=epoch) for pair in pairs))
        stale = {pair for pair, is_over in zip(pairs, ended, strict=True) if is_over}
        return {
            claim.key: ClaimRefused(
                "SignerEnded",
                f"the payee {claim.payee} ended the signer {claim.signer} before epoch {epoch}",
            )
            for claim in candidates
            if (claim.payee, claim.signer) in stale
        }

    def _is_worth_a_look(self, candidates: list[HeldClaim], position: Position) -> bool:
        """Say whether gathering may come to another end than it did last.

        What was found to wait goes on waiting until payers, payees or Accounts change, or time has
        passed; the rest until there is enough of it, or it is old enough.
        """
        hub, epochs, now = self._parts.hub, self._parts.epochs, self._parts.unix_now()
        seen = position.active, hub.accounts.newest, self._parts.history.epochs
        due = self._looked != seen or now - self._looked_at >= epochs.resync_seconds
        if not due:
            free = [claim for claim in candidates if claim.key not in self._stuck]
            due = self._would_be_due(free, position)
        if due:
            self._looked, self._looked_at = seen, now
        return due and bool(candidates)

    async def tell(self) -> None:
        """Say on claims why they wait, or why they are never paid.

        NB: after the epoch is on its way, and for a while only; the rest is told in the next cycles.
        However many wait, nobody else waits for that to be written.
        """
        await self._parts.hub.tell_claims(self._refused())
        deadline = self._parts.monotonic() + _TELLING_SECONDS
        await self._parts.hub.tell_claims(
            takewhile(lambda _: self._parts.monotonic() < deadline, self._untold)
        )

    async def _gather(self, candidates: list[HeldClaim], position: Position) -> Gathered:
        payments = self._parts.payments
        payers = sorted({claim.paid_as.payer for claim in candidates})
        payees = sorted({claim.payee for claim in candidates})
        purses = await asyncio.gather(
            *(payments.purse(payer, position=position, final=False) for payer in payers)
        )
        active = await asyncio.gather(
            *(payments.payee_is_active(payee, position=position) for payee in payees)
        )
        known = Known(
            past=self._parts.history.books,
            purses=dict(zip(payers, purses, strict=True)),
            inactive_payees={payee for payee, is_active in zip(payees, active, strict=True) if not is_active},
            now=position.time,
            decimals=self._parts.money.decimals,
            max_claims=self._parts.epochs.max_claims,
            max_lines=self._parts.epochs.max_lines,
            last_debited=self._parts.history.last_debited,
            charged_today=self._charged_today(),
        )
        return gather(candidates, known)

    def _charged_today(self) -> dict[str, int]:
        """Return what accounts were charged by the epochs whose Settlements are younger than a day.

        One that was restored from the archive counts from its restoration: rather too much than too little.
        """
        history, since = self._parts.history, self._parts.unix_now() - _DAY_SECONDS
        total: dict[str, int] = {}
        for epoch in range(history.epochs, 0, -1):
            made = [
                unix_seconds(obj["metadata"]["creationTimestamp"])
                for obj in self._parts.hub.index.of_epoch(epoch)
                if from_hex(obj["spec"]["commitment"]) == history.commitment(epoch)
            ]
            if made and max(made) <= since:
                break
            for account, amount in history.charges(epoch).items():
                total[account] = total.get(account, 0) + amount
        return total

    def _would_be_due(self, claims: Sequence[HeldClaim], position: Position) -> bool:
        epochs = self._parts.epochs
        due = is_due(
            claims,
            now=self._parts.unix_now(),
            max_age_seconds=epochs.max_age_seconds,
            max_claims=epochs.max_claims,
            max_value=self._max_value,
        )
        # While an epoch is settled but not final its claims are not in the books yet.
        return due and position.settled == position.epoch

    async def _refusal(self, gathered: Gathered, position: Position) -> PayerRefused | PayeeRefused | None:
        """Return who would make this epoch fail, found out before it exists anywhere."""
        try:
            await self._parts.payments.simulate(*draft(gathered.chosen, position=position))
        except (PayerRefused, PayeeRefused) as refusal:
            log.warning("would be refused", refusal=str(refusal))
            return refusal
        return None

    def _replayed(self, refusals: dict[Key, ClaimRefused]) -> dict[Key, ClaimRefused]:
        """Return refusals by their real name where a receipt was signed, but for other work."""
        claims = self._parts.hub.claims
        forged = [
            claim
            for key, refusal in refusals.items()
            if refusal.reason == "ReceiptForged" and (claim := claims.get(key)) is not None
        ]
        if not forged:
            return {}
        placements: dict[bytes, set[str]] = {}
        for claim in claims:
            placements.setdefault(claim.receipt, set()).add(_placement_of(claim))
        return {
            claim.key: ClaimRefused("ReceiptReplayed", "the receipt was signed for another placement")
            for claim in forged
            if placements[claim.receipt] != {_placement_of(claim)}
            or self._parts.history.books.has_receipt(claim.receipt)
        }

    def _waiting(self, gathered: Gathered) -> Iterator[tuple[HeldClaim, JSON]]:
        claims, now = self._parts.hub.claims, self._parts.now
        for key, wait in gathered.waiting.items():
            claim = claims.get(key)
            if claim is not None:
                yield claim, statuses.claim_waiting(claim.as_read(), wait, now=now())
        for free in gathered.nothing_owed:
            claim = claims.get(free.key)
            if claim is not None:
                yield claim, statuses.claim_nothing_owed(claim.as_read(), now=now())

    def _refused(self) -> Iterator[tuple[HeldClaim, JSON]]:
        """Return claims that do not hold by themselves, and those of which something was paid before."""
        claims, refusals = self._parts.hub.claims, self._refusals
        refusals |= {claim.key: claim.refusal for claim in claims.values() if claim.refusal is not None}
        replayed = self._replayed(refusals)
        for key in list(refusals):
            claim, refusal = claims.get(key), refusals.pop(key)
            if claim is None:
                continue
            refusal = replayed.get(key, refusal)
            log.warning("claim refused", name=claim.name, reason=refusal.reason, message=str(refusal))
            self._parts.metrics.refused(refusal)
            yield claim, statuses.claim_refused(claim.as_read(), refusal, now=self._parts.now())


def _placement_of(claim: HeldClaim) -> str:
    """Return what tells a claim's placement from others: its name begins with it."""
    return claim.name.rpartition("-")[0]


def _excluded(chosen: list[HeldClaim], refusal: PayerRefused | PayeeRefused) -> dict[Key, Wait]:
    """Return the claims that a refusal is about: they wait, the others go on without them."""
    if isinstance(refusal, PayerRefused):
        return {
            claim.key: Wait(reason="PayerUnfunded", message=f"{refusal}.")
            for claim in chosen
            if claim.paid_as.payer == refusal.payer
        }
    return {
        claim.key: Wait(reason="PayeeUnregistered", message=f"{refusal}.")
        for claim in chosen
        if claim.payee == refusal.payee
    }
