"""Payers that are contracts (EIP-1271): whether they accept an authorization, asked on the chain.

A contract can answer yes today and no tomorrow, burn all gas it is given, or stay silent. So a yes is kept in
Account.status (whoever worked meanwhile is paid), a no counts for a while only, and no answer makes the
payer's own claims wait and nobody else's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import structlog

from fallow.errors import Retryable
from fallow.receipts.contract_signatures import ContractSignature
from fallow.receipts.words import to_hex
from fallow.settler.protocol import Payments, Position

log = structlog.get_logger(__name__)

ASK_AGAIN_SECONDS = 30
"""How long an answer counts; a payer whose wallet is being set up does not wait longer than this."""
MAX_PROVEN = 16
"""Of an account, as its status has room for; an older authorization was replaced that often."""


class ContractPayers:
    """What contracts said. `unix_now` gives Unix seconds."""

    def __init__(
        self,
        payments: Payments,
        *,
        accounts: Callable[[], Iterable[Mapping[str, Any]]],
        unix_now: Callable[[], int],
    ) -> None:
        self._payments = payments
        self._accounts = accounts
        self._unix_now = unix_now
        self._said: dict[ContractSignature, tuple[int, bool | None]] = {}

    async def accepts(self, asked: ContractSignature) -> bool | None:
        """Return whether the payer accepts its authorization now; None while nobody can tell."""
        now = self._unix_now()
        known = self._said.get(asked)
        if known is not None and now - known[0] < ASK_AGAIN_SECONDS:
            return known[1]
        try:
            said: bool | None = await self._payments.contract_accepts(asked)
        except Retryable as error:
            log.warning("a payer's contract cannot be asked", payer=asked.account, error=str(error))
            said = None
        if len(self._said) > 10_000:
            self._said.clear()
        self._said[asked] = now, said
        return said

    async def accepted(self, asked: ContractSignature) -> bool | None:
        """Return whether the payer accepts its authorization, or did when its Account was bound."""
        digest = to_hex(asked.digest)
        for account in self._accounts():
            if any(one["digest"] == digest for one in (account.get("status") or {}).get("proven") or ()):
                return True
        return await self.accepts(asked)


def proven(
    status: Mapping[str, Any], asked: ContractSignature, *, position: Position
) -> list[dict[str, Any]]:
    """Return `status.proven` of an Account with this authorization in it."""
    known = list(status.get("proven") or ())
    digest = to_hex(asked.digest)
    if any(one["digest"] == digest for one in known):
        return known
    return [*known, {"digest": digest, "block": position.block}][-MAX_PROVEN:]
