"""The settler's cycle: look at chain, archive and Settlements, and do the one next thing.

Nothing durable is kept here. Each cycle derives anew where every epoch stands, so a process that
was killed at any instruction, or another one elsewhere, goes on from there:

- a claim is in the archive's bundle before anything names it;
- a Settlement exists before anything is signed for it;
- a signed transaction is recorded before anyone sees it;
- an epoch counts once it is final, by its commitment, never by its number;
- an account's balance is told before its claims are Settled, and those before the epoch is.

Sending again is harmless: an epoch names the commitment of the one before, so it happens once.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog

from fallow.receipts.epochs import Epoch
from fallow.receipts.words import from_hex, to_hex
from fallow.resources.settlement import SettlementTransaction
from fallow.settings import EpochSettings
from fallow.settler import statuses
from fallow.settler.accounts import payer_of, why_unbound
from fallow.settler.archive import DirectoryArchive
from fallow.settler.bundle import Bundle
from fallow.settler.claim_checks import CheckedClaim, Money, check_claim
from fallow.settler.faults import FaultPoint, Faults
from fallow.settler.gathering import Gathered, Known, Wait, gather, is_due
from fallow.settler.history import History
from fallow.settler.hub_objects import HubObjects
from fallow.settler.metrics import SettlerMetrics
from fallow.settler.protocol import NO_PURSE, Payments, Position, Purse
from fallow.settler.refusals import (
    ClaimRefused,
    EpochTaken,
    EscrowRefused,
    PayeeRefused,
    PayerRefused,
    SettlingStopped,
)

log = structlog.get_logger(__name__)

JSON = dict[str, Any]


class Cycle:
    """One process's work, cycle by cycle. `unix_now` gives Unix seconds."""

    def __init__(
        self,
        *,
        hub: HubObjects,
        payments: Payments,
        archive: DirectoryArchive,
        history: History,
        money: Money,
        salt_key: bytes,
        epochs: EpochSettings,
        faults: Faults,
        metrics: SettlerMetrics,
        unix_now: Callable[[], int],
    ) -> None:
        self._hub = hub
        self._payments = payments
        self._archive = archive
        self._history = history
        self._money = money
        self._salt_key = salt_key
        self._epochs = epochs
        self._faults = faults
        self._metrics = metrics
        self._unix_now = unix_now
        self._checked: dict[str, CheckedClaim | ClaimRefused] = {}
        self._accounts_told: tuple[int, int, int] | None = None

    async def run(self) -> None:
        """Do what can be done now. Raises Retryable, MoneyError or ApiError: look again later."""
        # 1. Look where money stands, and take into the books every epoch that became final.
        position = await self._payments.position()
        self._history.follow(position.commitment)
        self._metrics.looked(position)

        # 2. Tell everyone concerned about epochs that are final.
        await self._finish(position)

        # 3. Tell accounts what there is to spend.
        await self._tell_accounts(position)

        # 4. The next epoch: one that was begun, else one that is due.
        begun = await self._begun(position)
        if begun is None:
            begun = await self._begin(position)
        if begun is not None:
            await self._carry_on(*begun, position=position)

    # ------------------------------------------------------------------ finished epochs

    async def _finish(self, position: Position) -> None:
        """Bring every Settlement up to a final epoch to its end."""
        for obj in self._restored():
            await self._hub.create_settlement(obj)
        for obj in self._hub.own_settlements():
            state = (obj.get("status") or {}).get("state", "Pending")
            epoch = obj["spec"]["epoch"]
            if state in ("Confirmed", "Abandoned") or epoch > position.epoch:
                continue
            if self._history.commitment(epoch) == from_hex(obj["spec"]["commitment"]):
                await self._finish_one(obj, position)
            else:
                await self._abandon(obj, "Superseded", "Another epoch of this number was settled.")

    def _restored(self) -> list[JSON]:
        """Return Settlements that this hub lacks: it was restored from before they were made."""
        known = {obj["spec"]["commitment"] for obj in self._hub.own_settlements()}
        lacking = [each for each in self._history.commitments() if to_hex(each) not in known]
        if lacking:
            log.warning("this hub is behind its settlements: replaying the archive", epochs=len(lacking))
        return [self._settlement(self._archive.find(each)) for each in lacking]

    async def _finish_one(self, obj: JSON, position: Position) -> None:
        bundle = self._archive.load(from_hex(obj["spec"]["bundleHash"]))
        settled = await self._payments.settled(bundle, _transactions(obj), position=position)
        self._faults.reach(FaultPoint.CONFIRMED)
        # NB: strictly before its claims. The hub counts a Settled claim until it sees a balance of
        # that block or later; the other way round it would for a moment count neither.
        await self._tell_accounts(position, payers={line.payer for line in bundle.lines})
        self._faults.reach(FaultPoint.ACCOUNTS_TOLD)
        wanted = []
        for paid in bundle.claims:
            claim = self._hub.claims.get(paid.name, namespace=paid.namespace)
            if claim is None or claim["metadata"]["uid"] != paid.uid:
                continue  # told before, or the hub was restored to before it was written
            wanted.append((claim, statuses.claim_settled(claim, bundle, settled, now=self._now())))
        await self._hub.set_statuses(self._hub.claims, wanted[:1])
        if wanted:
            self._faults.reach(FaultPoint.FIRST_CLAIM_SETTLED)
        await self._hub.set_statuses(self._hub.claims, wanted[1:])
        self._faults.reach(FaultPoint.CLAIMS_SETTLED)
        done = statuses.settlement_confirmed(obj, settled, now=self._now())
        await self._hub.set_status(self._hub.settlements, obj, done)
        self._metrics.settled(bundle, settled)
        log.info(
            "epoch settled",
            epoch=bundle.settlement.epoch,
            claims=len(bundle.claims),
            lines=len(bundle.lines),
            block=settled.block,
            transaction=settled.transaction,
        )
        self._faults.reach(FaultPoint.FINISHED)

    async def _abandon(self, obj: JSON, reason: str, message: str) -> None:
        """Give up on a Settlement; its claims are free for another epoch."""
        done = statuses.settlement_abandoned(obj, reason=reason, message=message, now=self._now())
        await self._hub.set_status(self._hub.settlements, obj, done)
        log.warning("epoch abandoned", name=obj["metadata"]["name"], reason=reason, message=message)

    # ------------------------------------------------------------------ accounts

    async def _tell_accounts(self, position: Position, *, payers: set[str] | None = None) -> None:
        """Write Account.status: of all when anything may have changed, of `payers` in any case."""
        seen = position.block, self._hub.accounts.newest, self._history.epochs
        if payers is None and seen == self._accounts_told:
            return
        purses: dict[str, Purse] = {}
        wanted = []
        for account in list(self._hub.accounts.values()):
            payer = payer_of(account) or ""
            if payers is not None and payer not in payers:
                continue
            if payer and payer not in purses:
                purses[payer] = await self._payments.purse(payer, position=position, final=True)
            meta, purse = account["metadata"], purses.get(payer, NO_PURSE)
            unbound = why_unbound(
                account,
                purse,
                money=self._money,
                namespace_uid=self._hub.namespace_uid(meta["namespace"]),
                now=self._unix_now(),
            )
            status = statuses.account_status(
                account,
                purse,
                unbound=unbound,
                settled=self._history.books.by_account.get(f"{meta['namespace']}/{meta['name']}", 0),
                decimals=self._money.decimals,
                block=position.block,
                must_show_block=payers is not None,
                now=self._now(),
            )
            wanted.append((account, status))
        await self._hub.set_statuses(self._hub.accounts, wanted)
        if payers is None:
            self._accounts_told = position.block, self._hub.accounts.newest, self._history.epochs

    # ------------------------------------------------------------------ the next epoch

    async def _begun(self, position: Position) -> tuple[JSON, Bundle] | None:
        """Return the next epoch as a predecessor of this process began it, or None."""
        abandoned = set()
        for obj in self._hub.own_settlements():
            if obj["spec"]["previousCommitment"] != to_hex(position.commitment):
                continue
            if (obj.get("status") or {}).get("state") == "Abandoned":
                abandoned.add(obj["spec"]["bundleHash"])
            else:
                return obj, self._archive.load(from_hex(obj["spec"]["bundleHash"]))
        for bundle in self._archive.followers(position.commitment):
            if to_hex(bundle.hash) not in abandoned:
                return await self._create(bundle), bundle
        return None

    async def _begin(self, position: Position) -> tuple[JSON, Bundle] | None:
        """Gather claims into a new epoch, archive it, and create its Settlement; None when not due."""
        candidates = await self._candidates()
        excluded: dict[tuple[str, str], Wait] = {}
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
        self._faults.reach(FaultPoint.GATHERED)
        self._archive.write(bundle)
        self._faults.reach(FaultPoint.ARCHIVED)
        return await self._create(bundle), bundle

    async def _candidates(self) -> list[CheckedClaim]:
        """Return the claims that hold by themselves; say on the others why they do not."""
        held, refused = [], []
        present = {}
        for obj in self._hub.claims.values():
            if (obj.get("status") or {}).get("state") in ("Settled", "Refused"):
                continue  # told, and about to leave the watch
            uid = obj["metadata"]["uid"]
            known = self._checked.get(uid)
            if known is None:  # a spec never changes, so one look is enough
                try:
                    known = check_claim(obj, money=self._money)
                except ClaimRefused as refusal:
                    known = refusal
            present[uid] = known
            if isinstance(known, ClaimRefused):
                refused.append((obj, known))
            else:
                held.append(known)
        self._checked = present
        await self._refuse(refused)
        return held

    async def _gather(self, candidates: list[CheckedClaim], position: Position) -> Gathered:
        payers = {claim.claim.payer for claim in candidates}
        payees = {claim.claim.payee for claim in candidates}
        known = Known(
            past=self._history.books,
            purses={
                payer: await self._payments.purse(payer, position=position, final=False) for payer in payers
            },
            inactive_payees={payee for payee in payees if not await self._payments.payee_is_active(payee)},
            now=position.time,
            decimals=self._money.decimals,
            max_claims=self._epochs.max_claims,
        )
        return gather(candidates, known)

    def _bundle(self, gathered: Gathered, position: Position) -> Bundle | None:
        due = is_due(
            gathered.chosen,
            now=self._unix_now(),
            max_age_seconds=self._epochs.max_age_seconds,
            max_claims=self._epochs.max_claims,
        )
        # While an epoch is settled but not final its claims are not in the books yet.
        if not due or position.settled != position.epoch:
            return None
        epoch = Epoch.of(
            [claim.claim for claim in gathered.chosen],
            domain=self._money.domain,
            number=position.epoch + 1,
            previous_commitment=position.commitment,
            salt_key=self._salt_key,
        )
        return Bundle.make(epoch, gathered.chosen, money=self._money)

    async def _refusal(self, bundle: Bundle) -> PayerRefused | PayeeRefused | None:
        """Return who would make this epoch fail, found out before it exists anywhere."""
        try:
            await self._payments.simulate(bundle)
        except (PayerRefused, PayeeRefused) as refusal:
            log.warning("would be refused", refusal=str(refusal))
            return refusal
        return None

    async def _tell_waiting(self, gathered: Gathered) -> None:
        claims = self._hub.claims
        wanted = []
        for (namespace, name), wait in gathered.waiting.items():
            obj = claims.get(name, namespace=namespace)
            if obj is not None:
                wanted.append((obj, statuses.claim_waiting(obj, wait, now=self._now())))
        for claim in gathered.nothing_owed:
            obj = claims.get(claim.name, namespace=claim.namespace)
            if obj is not None:
                wanted.append((obj, statuses.claim_nothing_owed(obj, now=self._now())))
        await self._hub.set_statuses(claims, wanted)
        refused = []
        for (namespace, name), refusal in gathered.refused.items():
            obj = claims.get(name, namespace=namespace)
            if obj is not None:
                refused.append((obj, refusal))
        await self._refuse(refused)
        self._metrics.waiting(gathered)

    async def _refuse(self, refused: list[tuple[JSON, ClaimRefused]]) -> None:
        for obj, refusal in refused:
            log.warning(
                "claim refused", name=obj["metadata"]["name"], reason=refusal.reason, message=str(refusal)
            )
            self._metrics.refused(refusal)
        await self._hub.set_statuses(
            self._hub.claims,
            [(obj, statuses.claim_refused(obj, refusal, now=self._now())) for obj, refusal in refused],
        )

    async def _create(self, bundle: Bundle) -> JSON:
        made = await self._hub.create_settlement(self._settlement(bundle))
        self._faults.reach(FaultPoint.SETTLEMENT_CREATED)
        return made

    def _settlement(self, bundle: Bundle) -> JSON:
        return statuses.settlement_object(
            bundle,
            name=self._payments.settlement_name(bundle),
            mode=self._payments.mode,
            signature=self._payments.signature(bundle),
        )

    # ------------------------------------------------------------------ sending it

    async def _carry_on(self, obj: JSON, bundle: Bundle, *, position: Position) -> None:
        """Bring a begun epoch onto the chain: sign, record, send; or send again; or give up."""
        if self._payments.mode == "ledger":
            return  # settled by its creation: the next cycle finishes it
        if position.settled >= bundle.settlement.epoch:
            self._faults.reach(FaultPoint.INCLUDED)
            return  # settled, not final yet: its cycle comes
        transactions = _transactions(obj)
        if not transactions or await self._payments.is_stuck(transactions):
            try:
                await self._payments.simulate(bundle)
                self._faults.reach(FaultPoint.SIMULATED)
                signed = await self._payments.sign(bundle, earlier=self._signed_before(bundle))
            except EpochTaken:
                return
            except SettlingStopped:
                raise
            except EscrowRefused as refusal:
                await self._abandon(obj, refusal.name or "Reverted", str(refusal))
                return
            self._faults.reach(FaultPoint.SIGNED)
            if signed is not None:
                # NB: strictly before anyone sees it; a transaction of which there is no record
                # could not be told from a thief's.
                obj = await self._hub.set_status(
                    self._hub.settlements, obj, statuses.settlement_recorded(obj, signed)
                )
                self._faults.reach(FaultPoint.RECORDED)
                log.info("epoch signed", epoch=bundle.settlement.epoch, transaction=signed.hash)
                transactions = [*transactions, signed]
        if transactions:
            await self._payments.broadcast(transactions[-1])
            self._faults.reach(FaultPoint.BROADCAST)
        submitted = statuses.settlement_submitted(obj, now=self._now())
        if (obj.get("status") or {}).get("state") != "Submitted":
            await self._hub.set_status(self._hub.settlements, obj, submitted)
        await self._tell_submitted(bundle)
        self._faults.reach(FaultPoint.CLAIMS_SUBMITTED)

    def _signed_before(self, bundle: Bundle) -> list[SettlementTransaction]:
        """Return every transaction signed for this epoch's number, abandoned Settlements included."""
        return [
            transaction
            for obj in self._hub.own_settlements()
            if obj["spec"]["epoch"] == bundle.settlement.epoch
            for transaction in _transactions(obj)
        ]

    async def _tell_submitted(self, bundle: Bundle) -> None:
        wanted = []
        for sent in bundle.claims:
            claim = self._hub.claims.get(sent.name, namespace=sent.namespace)
            if claim is not None and claim["metadata"]["uid"] == sent.uid:
                wanted.append((claim, statuses.claim_submitted(claim, bundle, now=self._now())))
        await self._hub.set_statuses(self._hub.claims, wanted)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._unix_now(), UTC)


def _transactions(obj: JSON) -> list[SettlementTransaction]:
    recorded = (obj.get("status") or {}).get("transactions") or []
    return [SettlementTransaction.model_validate(each) for each in recorded]


def _excluded(
    chosen: list[CheckedClaim], refusal: PayerRefused | PayeeRefused
) -> dict[tuple[str, str], Wait]:
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
