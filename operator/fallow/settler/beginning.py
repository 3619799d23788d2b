"""The next epoch's beginning: check claims, gather those that can be paid, archive, create.

Whoever would make the epoch fail is found by a simulation before the epoch exists anywhere.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from fallow.receipts.epochs import Epoch
from fallow.receipts.statements import unix_seconds
from fallow.receipts.words import from_hex
from fallow.settler import accounts, statuses
from fallow.settler.bundle import Bundle
from fallow.settler.claim_checks import CheckedClaim, check_claim
from fallow.settler.counting import receipt_mark
from fallow.settler.faults import FaultPoint
from fallow.settler.gathering import Gathered, Key, Known, Wait, gather, is_due
from fallow.settler.parts import Parts, state_of
from fallow.settler.protocol import Position
from fallow.settler.refusals import ClaimRefused, PayeeRefused, PayerRefused

log = structlog.get_logger(__name__)

JSON = dict[str, Any]
_DAY_SECONDS = 86_400


class Beginner:
    """Begins epochs."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._checked: dict[str, CheckedClaim | ClaimRefused] = {}

    async def begin(self, position: Position) -> tuple[JSON, Bundle] | None:
        """Gather claims into a new epoch, archive it, and create its Settlement; None when not due."""
        candidates, excluded = await self._agreed(await self._candidates())
        candidates = await self._rightly_signed(candidates, position)
        while True:
            gathered = await self._gather([c for c in candidates if c.key not in excluded], position)
            bundle = self._bundle(gathered, position)
            refusal = await self._refusal(bundle) if bundle is not None else None
            if bundle is None or refusal is None:
                break
            excluded |= _excluded(gathered.chosen, refusal)
        gathered.waiting |= excluded
        await self._tell_waiting(gathered)
        if bundle is None:
            return None
        self._parts.faults.reach(FaultPoint.GATHERED)
        self._parts.archive.write(bundle)
        self._parts.faults.reach(FaultPoint.ARCHIVED)
        return await self._parts.create(bundle), bundle

    async def _candidates(self) -> list[CheckedClaim]:
        """Return the claims that hold by themselves; say on the others why they do not."""
        held, refused = [], []
        present = {}
        for obj in self._parts.hub.claims.values():
            if state_of(obj) in ("Settled", "Refused"):
                continue  # told, and about to leave the watch
            uid = obj["metadata"]["uid"]
            known = self._checked.get(uid)
            if known is None:  # a spec never changes, so one look is enough
                try:
                    known = check_claim(obj, money=self._parts.money)
                except ClaimRefused as refusal:
                    known = refusal
            present[uid] = known
            if isinstance(known, ClaimRefused):
                refused.append((obj, self._named(known, obj)))
            else:
                held.append(known)
        self._checked = present
        for claim in held:
            try:
                self._refuse_stranger(claim)
            except ClaimRefused as refusal:
                refused.append((self._object(claim), refusal))
        await self._refuse(refused)
        gone = {obj["metadata"]["uid"] for obj, _ in refused}
        return [claim for claim in held if claim.uid not in gone]

    def _named(self, refusal: ClaimRefused, obj: JSON) -> ClaimRefused:
        """Return a refusal, with its real name where a receipt was signed, but for other work."""
        if refusal.reason != "ReceiptForged":
            return refusal
        spec = obj["spec"]
        others = (one["spec"] for one in self._parts.hub.claims.values())
        elsewhere = any(
            one["receipt"]["signature"] == spec["receipt"]["signature"]
            and one["placement"]["uid"] != spec["placement"]["uid"]
            for one in others
        )
        if elsewhere or self._parts.history.books.has_receipt(receipt_mark(spec)):
            return ClaimRefused("ReceiptReplayed", "the receipt was signed for another placement")
        return refusal

    def _refuse_stranger(self, claim: CheckedClaim) -> None:
        name = claim.spec["terms"]["accountNamespace"]
        accounts.refuse_stranger(claim.spec, self._parts.hub.namespaces.get(name))

    def _object(self, claim: CheckedClaim) -> JSON:
        found = self._parts.hub.claims.get(claim.name, namespace=claim.namespace)
        assert found is not None, "candidates are of this very view"
        return found

    async def _agreed(self, candidates: list[CheckedClaim]) -> tuple[list[CheckedClaim], dict[Key, Wait]]:
        """Leave out the claims whose payer has yet to agree, and say why; refuse where it does not."""
        agreed, waiting, refused = [], {}, []
        ledger = self._parts.payments.mode == "ledger"
        payers = accounts.payers_by_namespace(self._parts.hub.accounts.values() if ledger else ())
        for claim in candidates:
            why: accounts.Why | None = None
            if ledger:
                why = accounts.why_no_account(claim.spec, payers)
            elif claim.to_ask is not None:
                said = await self._parts.contract_payers.accepted(claim.to_ask)
                why = accounts.why_contract_refuses(claim.to_ask, said)
                if said is False:
                    assert why is not None
                    refused.append((self._object(claim), ClaimRefused("AccountUnbound", why[1])))
                    continue
            if why is None:
                agreed.append(claim)
            else:
                waiting[claim.key] = Wait(reason=why[0], message=why[1])
        await self._refuse(refused)
        return agreed, waiting

    async def _rightly_signed(self, candidates: list[CheckedClaim], position: Position) -> list[CheckedClaim]:
        """Return the claims but those whose receipts were signed by a key that its payee has ended."""
        payments, epoch = self._parts.payments, position.epoch + 1
        pairs = sorted({_signed_by(claim) for claim in candidates})
        ended = await asyncio.gather(*(payments.signer_ended(*pair, epoch=epoch) for pair in pairs))
        stale = {pair for pair, is_over in zip(pairs, ended, strict=True) if is_over}
        if not stale:
            return candidates
        refused = []
        for claim in candidates:
            obj = self._parts.hub.claims.get(claim.name, namespace=claim.namespace)
            if obj is not None and _signed_by(claim) in stale:
                payee, signer = _signed_by(claim)
                said = f"the payee {payee} ended the signer {signer} before epoch {epoch}"
                refused.append((obj, ClaimRefused("SignerEnded", said)))
        await self._refuse(refused)
        return [claim for claim in candidates if _signed_by(claim) not in stale]

    async def _gather(self, candidates: list[CheckedClaim], position: Position) -> Gathered:
        payments = self._parts.payments
        payers = sorted({claim.claim.payer for claim in candidates})
        payees = sorted({claim.claim.payee for claim in candidates})
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

    def _bundle(self, gathered: Gathered, position: Position) -> Bundle | None:
        due = is_due(
            gathered.chosen,
            now=self._parts.unix_now(),
            max_age_seconds=self._parts.epochs.max_age_seconds,
            max_claims=self._parts.epochs.max_claims,
        )
        # While an epoch is settled but not final its claims are not in the books yet.
        if not due or position.settled != position.epoch:
            return None
        epoch = Epoch.of(
            [claim.claim for claim in gathered.chosen],
            domain=self._parts.money.domain,
            number=position.epoch + 1,
            previous_commitment=position.commitment,
            salt_key=self._parts.salt_key,
        )
        return Bundle.make(epoch, gathered.chosen, money=self._parts.money)

    async def _refusal(self, bundle: Bundle) -> PayerRefused | PayeeRefused | None:
        """Return who would make this epoch fail, found out before it exists anywhere."""
        try:
            await self._parts.payments.simulate(bundle)
        except (PayerRefused, PayeeRefused) as refusal:
            log.warning("would be refused", refusal=str(refusal))
            return refusal
        return None

    async def _tell_waiting(self, gathered: Gathered) -> None:
        claims = self._parts.hub.claims
        wanted = []
        for (namespace, name), wait in gathered.waiting.items():
            obj = claims.get(name, namespace=namespace)
            if obj is not None:
                wanted.append((obj, statuses.claim_waiting(obj, wait, now=self._parts.now())))
        for claim in gathered.nothing_owed:
            obj = claims.get(claim.name, namespace=claim.namespace)
            if obj is not None:
                wanted.append((obj, statuses.claim_nothing_owed(obj, now=self._parts.now())))
        await self._parts.hub.set_statuses(claims, wanted)
        refused = []
        for (namespace, name), refusal in gathered.refused.items():
            obj = claims.get(name, namespace=namespace)
            if obj is not None:
                refused.append((obj, refusal))
        await self._refuse(refused)
        self._parts.metrics.waiting(gathered)

    async def _refuse(self, refused: list[tuple[JSON, ClaimRefused]]) -> None:
        for obj, refusal in refused:
            log.warning(
                "claim refused", name=obj["metadata"]["name"], reason=refusal.reason, message=str(refusal)
            )
            self._parts.metrics.refused(refusal)
        await self._parts.hub.set_statuses(
            self._parts.hub.claims,
            [(obj, statuses.claim_refused(obj, refusal, now=self._parts.now())) for obj, refusal in refused],
        )


def _signed_by(claim: CheckedClaim) -> tuple[str, str]:
    """Return who is paid, and whose key signed the receipt for it."""
    return claim.claim.payee, claim.spec["terms"]["quote"]["signer"]


def _excluded(chosen: list[CheckedClaim], refusal: PayerRefused | PayeeRefused) -> dict[Key, Wait]:
    """Return the claims that a refusal is about: they wait, the others go on without them."""
    if isinstance(refusal, PayerRefused):
        return {
            claim.key: Wait(reason="PayerUnfunded", message=f"{refusal}.")
            for claim in chosen
            if claim.claim.payer == refusal.payer
        }
    return {
        claim.key: Wait(reason="PayeeUnregistered", message=f"{refusal}.")
        for claim in chosen
        if claim.claim.payee == refusal.payee
    }
