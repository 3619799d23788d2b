"""A stage for scenarios about money in a ledger: the settler's own books, with credit that can be granted."""

from __future__ import annotations

import uuid
from typing import Any

import money_terms as money
from fallow.receipts.epochs import Epoch
from fallow.receipts.statements import timestamp
from fallow.receipts.typed_data import Domain
from fallow.receipts.words import to_hex
from fallow.resources.account import AccountLimits
from fallow.resources.money import format_amount
from fallow.settler.books import Books, refuse_if_paid
from fallow.settler.bundle import Bundle
from fallow.settler.claim_checks import CheckedClaim, Money, check_claim
from fallow.settler.ledger import LedgerPayments
from fallow.settler.settlement_index import SettlementIndex
from fallow.settler.signing import KeySigner
from fallow.settler.statuses import settlement_object
from money_stage import Paid

CREDIT = 10_000_000_000


class Ledger:
    """Signed, chained epochs and what they sum to; payers "payer" and "payer2" have credit."""

    def __init__(self) -> None:
        self.domain = Domain.of_ledger(money.HUB_ID)
        self._money = Money(domain=self.domain, token="0x" + "70" * 20, decimals=money.DECIMALS)
        self._credit = {"payer": CREDIT, "payer2": CREDIT}
        self._settlements: list[dict[str, Any]] = []
        self._index = SettlementIndex(lambda spec: True)
        self._version = 0
        self._books = Books()
        self._payments = self._with_key("operator")

    def grant(self, payer: str, amount: int) -> None:
        """Set a payer's credit, as the hub admin does."""
        self._credit[payer] = amount
        self._version += 1

    async def left(self, payer: str = "payer") -> int:
        """Return what of its credit a payer has left."""
        position = await self._payments.position()
        return (await self._payments.purse(money.address(payer), position=position, final=True)).balance

    def owed(self, payee: str = "payee") -> int:
        """Return what the books owe a payee."""
        address = money.address(payee)
        return sum(
            round(float(line["amount"]) * 10**money.DECIMALS)
            for one in self._settlements
            for line in one["spec"]["lines"]
            if line["payee"] == address
        )

    async def settle(self, *claims: Paid) -> None:
        """Settle claims as one epoch, by the rules of the settler."""
        checked = [self._checked(one) for one in claims]
        for claim in checked:
            refuse_if_paid(claim.counted, self._books, Books())
        position = await self._payments.position()
        epoch = Epoch.of(
            [one.claim for one in checked], domain=self.domain, number=position.epoch + 1,
            previous_commitment=position.commitment, salt_key=b"s" * 32,
        )  # fmt: skip
        bundle = Bundle.make(epoch, checked, money=self._money)
        await self._payments.simulate(bundle.settlement, bundle.lines)
        self._append(await self._signed(bundle, self._payments))
        for claim in checked:
            self._books.add(claim.counted)

    async def forged_by(self, name: str, *claims: Paid) -> LedgerPayments:
        """Return the ledger as it looks with one more epoch, signed by somebody else's key."""
        checked = [self._checked(one) for one in claims]
        last = bytes.fromhex(self._settlements[-1]["spec"]["commitment"][2:])
        epoch = Epoch.of(
            [one.claim for one in checked], domain=self.domain, number=len(self._settlements) + 1,
            previous_commitment=last, salt_key=b"s" * 32,
        )  # fmt: skip
        forged = await self._signed(Bundle.make(epoch, checked, money=self._money), self._with_key(name))
        self._append(forged)
        return self._payments

    def _append(self, obj: dict[str, Any]) -> None:
        self._settlements.append(obj)
        self._index.changed("ADDED", obj)

    def _with_key(self, name: str) -> LedgerPayments:
        return LedgerPayments(
            self.domain,
            KeySigner(money.key(name)),
            decimals=money.DECIMALS,
            index=self._index,
            accounts=self._accounts,
            accounts_version=lambda: self._version,
            charged=lambda payer: self._books.by_payer.get(payer, 0),
            unix_now=lambda: 1_800_000_000,
        )

    def _accounts(self) -> list[dict[str, Any]]:
        return [
            {
                "spec": {
                    "payer": money.address(name),
                    "limits": {"maxTotal": format_amount(amount, decimals=money.DECIMALS)},
                }
            }
            for name, amount in self._credit.items()
        ]

    async def _signed(self, bundle: Bundle, payments: LedgerPayments) -> dict[str, Any]:
        made = settlement_object(
            bundle,
            name=payments.settlement_name(bundle),
            mode="ledger",
            signature=await payments.signature(bundle),
        )
        made["metadata"]["uid"] = to_hex(bundle.hash)
        return made

    def _checked(self, paid: Paid) -> CheckedClaim:
        account = money.an_account(self.domain, payer=paid.payer, limits=AccountLimits())
        quote = money.a_quote(self.domain, payee=paid.payee)
        terms = money.some_terms(self.domain, account=account, quote=quote)
        job = str(uuid.uuid5(uuid.NAMESPACE_OID, paid.placement))
        spec = money.a_claim(
            [f"0:0:{paid.seconds}:S:"], terms=terms, placement_uid=paid.placement, job_uid=job
        )
        meta = {
            "namespace": "provider-aurora", "name": f"claim-{paid.placement[:8]}", "uid": str(uuid.uuid4()),
            "creationTimestamp": timestamp(1_800_000_000),
        }  # fmt: skip
        return check_claim({"metadata": meta, "spec": spec.wire()}, money=self._money)
