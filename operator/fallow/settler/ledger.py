"""Ledger mode: the hub's own Settlements are the books; credit limits stand in for balances.

Creating the Settlement settles it. Its name is the epoch's number alone, so the API server lets
only one epoch n exist, whoever races; each carries the settler's EIP-712 signature over its
commitment (chain id 0), and each commitment names the one before: nobody can change the past
unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from pydantic import ValidationError

from fallow.receipts.contract_signatures import ContractSignature
from fallow.receipts.epochs import MAX_LINE_AMOUNT, Line, commitment, genesis_commitment, pack_lines
from fallow.receipts.messages import Settlement
from fallow.receipts.typed_data import Domain, check_signed_by
from fallow.receipts.words import from_hex, keccak, to_hex
from fallow.resources.money import parse_amount
from fallow.resources.settlement import SettlementSpec, SettlementTransaction
from fallow.settler.accounts import limit_of, payer_of
from fallow.settler.bundle import Bundle
from fallow.settler.protocol import JSON, Position, Purse, Settled
from fallow.settler.refusals import ArchiveDamaged, PayerRefused
from fallow.settler.settlement_index import SettlementIndex
from fallow.settler.signing import Signer


class LedgerPayments:
    """Payments in the hub's own books.

    `index` has the Settlements, `accounts` gives the present Accounts and `accounts_version` a number
    that rises when they change, `charged` what a payer was debited so far (smallest units), `unix_now`
    the time.
    """

    mode: Literal["chain", "ledger"] = "ledger"

    def __init__(
        self,
        domain: Domain,
        signer: Signer,
        *,
        decimals: int,
        index: SettlementIndex,
        accounts: Callable[[], Iterable[JSON]],
        accounts_version: Callable[[], int],
        charged: Callable[[str], int],
        unix_now: Callable[[], int],
    ) -> None:
        self.domain = domain
        self._signer = signer
        self._decimals = decimals
        self._index = index
        self._accounts = accounts
        self._accounts_version = accounts_version
        self._limits: tuple[int, dict[str, int]] = (-1, {})
        self._charged = charged
        self._unix_now = unix_now
        self._deletions = -1
        self._epoch, self._last = 0, genesis_commitment(domain)

    async def position(self) -> Position:
        """Return the end of the chain of Settlements. Raises ArchiveDamaged when one does not verify."""
        if self._deletions != self._index.deletions:  # what was verified may be gone: begin anew
            self._deletions = self._index.deletions
            self._epoch, self._last = 0, genesis_commitment(self.domain)
        while found := self._index.of_epoch(self._epoch + 1):
            self._last = self._verify(found[-1], previous=self._last)
            self._epoch += 1
        if self._index.last_epoch > self._epoch:
            raise ArchiveDamaged(
                f"the ledger has epochs beyond {self._epoch}, but not epoch {self._epoch + 1}"
            )
        return Position(
            block=self._epoch,
            time=self._unix_now(),
            epoch=self._epoch,
            commitment=self._last,
            settled=self._epoch,
        )

    async def account_for_sender(self) -> None:
        """Do nothing: a ledger has no transactions."""

    async def purse(self, payer: str, *, position: Position, final: bool) -> Purse:
        """Return the credit that is left: the payer's highest limit, less what it was charged.

        Accounts with an authorization are a chain's: nobody has set a credit limit there.
        """
        limit = self._limit_of(payer)
        return Purse(
            bound=limit is not None,
            balance=max(0, (limit or 0) - self._charged(payer)),
            cap=MAX_LINE_AMOUNT,
            debitable_from=0,
            under_notice=0,
        )

    def _limit_of(self, payer: str) -> int | None:
        version = self._accounts_version()
        if self._limits[0] != version:  # all of them at once: they are asked for payer by payer
            limits: dict[str, int] = {}
            for account in self._accounts():
                name, limit = payer_of(account), limit_of(account, decimals=self._decimals)
                if name is not None and limit is not None and not account["spec"].get("authorization"):
                    limits[name] = max(limit, limits.get(name, 0))
            self._limits = version, limits
        return self._limits[1].get(payer)

    async def payee_is_active(self, payee: str, *, position: Position) -> bool:
        """Say yes: a ledger's payees are the hub admin's to accept."""
        return True

    async def signer_ended(self, payee: str, signer: str, *, epoch: int) -> bool:
        """Say no: a ledger's signers are the hub admin's to accept."""
        return False

    async def contract_accepts(self, asked: ContractSignature) -> bool:
        """Never asked: in a ledger nobody signs for a payer."""
        return False

    async def simulate(self, settlement: Settlement, lines: Sequence[Line]) -> None:
        """Raise PayerRefused when an epoch is more than a payer's credit."""
        position = await self.position()
        debits: dict[str, int] = {}
        for line in lines:
            debits[line.payer] = debits.get(line.payer, 0) + line.amount
        for payer, debit in debits.items():
            purse = await self.purse(payer, position=position, final=True)
            if debit > purse.balance:
                raise PayerRefused("InsufficientBalance", (payer, debit, purse.balance))

    async def preview(self, settlement: Settlement, lines: Sequence[Line]) -> dict[str, Any]:
        """Return who would sign the Settlement."""
        return {"from": self._signer.address}

    async def sign(
        self, bundle: Bundle, *, earlier: Sequence[SettlementTransaction]
    ) -> SettlementTransaction | None:
        """Return None: the Settlement itself is signed."""
        return None

    async def broadcast(self, transaction: SettlementTransaction) -> None:
        """Never called: there are no transactions."""
        raise AssertionError("a ledger has no transactions")

    async def settled(
        self, bundle: Bundle, transactions: Sequence[SettlementTransaction], *, position: Position
    ) -> Settled:
        """Return the epoch's own number as its block."""
        return Settled(block=bundle.settlement.epoch, transaction=None, gas_used=None)

    async def is_stuck(self, transactions: Sequence[SettlementTransaction]) -> bool:
        """Say no."""
        return False

    async def disputes(self, *, position: Position) -> None:
        """Return None: a ledger is one party's books, and nobody rules on them but people."""

    def settlement_name(self, bundle: Bundle) -> str:
        """Return the epoch's number as a name: there can be only one."""
        return f"epoch-{bundle.settlement.epoch:06d}"

    async def signature(self, bundle: Bundle) -> str | None:
        """Return the settler's signature over the commitment."""
        return await self._signer.sign_message(self.domain, bundle.settlement)

    def _verify(self, obj: JSON, *, previous: bytes) -> bytes:
        """Return a Settlement's commitment, checked against its content, signature and predecessor."""
        try:
            spec = SettlementSpec.model_validate(obj["spec"])
        except ValidationError as error:
            raise ArchiveDamaged(f"the Settlement {obj['metadata']['name']} is malformed") from error
        lines = [
            Line(line.payer, line.payee, parse_amount(line.amount, decimals=spec.token_decimals))
            for line in spec.lines
        ]
        message = Settlement(
            epoch=spec.epoch,
            previous_commitment=previous,
            lines_hash=keccak(pack_lines(lines)),
            claims_root=from_hex(spec.claims_root),
            allocations_root=from_hex(spec.allocations_root),
            bundle_hash=from_hex(spec.bundle_hash),
        )
        if spec.commitment != to_hex(commitment(message)):
            raise ArchiveDamaged(f"the Settlement of epoch {spec.epoch} is not what its commitment says")
        check_signed_by(self._signer.address, self.domain, message, signature=spec.signature or "")
        return from_hex(spec.commitment)
