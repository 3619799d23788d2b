"""Account.status: what a payer has, as of one block, written only when it says something new."""

from __future__ import annotations

from fallow.receipts.contract_signatures import ContractSignature
from fallow.settler import statuses
from fallow.settler.accounts import Why, payer_of, why_contract_refuses, why_not_bound, why_unbound
from fallow.settler.contract_payers import proven
from fallow.settler.parts import JSON, Parts
from fallow.settler.protocol import NO_PURSE, Position, Purse


class AccountTeller:
    """Keeps the status of all Accounts."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._told: tuple[int, int] | None = None
        self._told_block = -1
        self._told_at = 0

    async def tell(self, position: Position, *, payers: set[str] | None = None) -> None:
        """Write Account.status: of all when anything may have changed, of `payers` in any case."""
        if payers is None and not self._may_be_news(position):
            return
        purses: dict[str, Purse] = {}
        wanted = []
        for account in list(self._parts.hub.accounts.values()):
            payer = payer_of(account) or ""
            if payers is not None and payer not in payers:
                continue
            if payer and payer not in purses:
                purses[payer] = await self._parts.payments.purse(payer, position=position, final=True)
            meta, purse = account["metadata"], purses.get(payer, NO_PURSE)
            unbound = why_unbound(
                account,
                purse,
                money=self._parts.money,
                namespace_uid=self._parts.hub.namespace_uid(meta["namespace"]),
                now=self._parts.unix_now(),
            )
            known = (account.get("status") or {}).get("proven")
            if isinstance(unbound, ContractSignature):
                unbound, known = await self._ask(unbound, account, purse, position=position)
            status = statuses.account_status(
                account,
                purse,
                unbound=unbound,
                proven=known,
                settled=self._parts.history.books.by_account.get(f"{meta['namespace']}/{meta['name']}", 0),
                decimals=self._parts.money.decimals,
                block=position.block,
                must_show_block=payers is not None,
                now=self._parts.now(),
            )
            wanted.append((account, status))
        await self._parts.hub.set_statuses(self._parts.hub.accounts, wanted)
        if payers is None:
            self._told = self._parts.hub.accounts.newest, self._parts.history.epochs
            self._told_block, self._told_at = position.block, self._parts.unix_now()

    def _may_be_news(self, position: Position) -> bool:
        """Say whether anything may be different from what was told.

        Namely when the escrow did something in blocks that were not final then, and every now and
        then in any case: time alone ends a notice or an authorization.
        """
        if self._told != (self._parts.hub.accounts.newest, self._parts.history.epochs):
            return True
        if position.block != self._told_block and self._told_block < position.active:
            return True
        return self._parts.unix_now() - self._told_at >= self._parts.epochs.resync_seconds

    async def _ask(
        self, asked: ContractSignature, account: JSON, purse: Purse, *, position: Position
    ) -> tuple[Why | None, list[JSON] | None]:
        """Ask a payer that is a contract; a yes is remembered in the account's status."""
        known = (account.get("status") or {}).get("proven")
        unbound = why_contract_refuses(asked, await self._parts.contract_payers.accepts(asked))
        if unbound is None:
            known = proven(account.get("status") or {}, asked, position=position)
        return unbound or why_not_bound(asked.account, purse), known
