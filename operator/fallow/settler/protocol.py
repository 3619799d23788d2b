"""Payments as the settler's cycle sees them: one interface, a chain or a ledger behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from fallow.receipts.contract_signatures import ContractSignature
from fallow.receipts.epochs import Line
from fallow.receipts.messages import Settlement
from fallow.receipts.typed_data import Domain
from fallow.resources.settlement import SettlementTransaction
from fallow.settler.bundle import Bundle
from fallow.settler.disputes import Disputes

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where money stands at one moment. Only what is final counts."""

    block: int
    """The newest block that counts; in ledger mode the last epoch."""
    time: int
    """Unix seconds, by the newest block's clock; what the escrow's intervals are measured with."""
    epoch: int
    """The last epoch that is final."""
    commitment: bytes
    """Its commitment."""
    settled: int
    """The last epoch that is settled at all; the one after `epoch` may still be undone."""
    active: int = 0
    """The newest block as of which payers or payees may have changed; what was read of them as of it,
    or later, still holds, but for what time alone changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purse:
    """What a payer can be debited, in smallest units."""

    bound: bool
    balance: int
    """Money under notice included."""
    cap: int
    """Most per epoch."""
    debitable_from: int
    """Unix seconds before which it cannot be debited again."""
    under_notice: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Where an epoch was settled."""

    block: int
    transaction: str | None
    gas_used: int | None


NO_PURSE = Purse(bound=False, balance=0, cap=0, debitable_from=0, under_notice=0)
"""Of somebody unknown."""


class Payments(Protocol):
    """What the cycle needs; every read is of one moment, every failure one of `refusals`."""

    mode: Literal["chain", "ledger"]
    domain: Domain

    async def position(self) -> Position:
        """Look where money stands."""
        ...

    async def account_for_sender(self) -> None:
        """Raise ForeignTransaction when somebody else sends with the operator's key."""
        ...

    async def purse(self, payer: str, *, position: Position, final: bool) -> Purse:
        """Return a payer's purse: as of `position` (`final`), or the newest known."""
        ...

    async def payee_is_active(self, payee: str, *, position: Position) -> bool:
        """Say whether a payee can be credited now."""
        ...

    async def signer_ended(self, payee: str, signer: str, *, epoch: int) -> bool:
        """Say whether the payee has ended this signer of its receipts before `epoch`.

        One that the payee never named has not ended: there the hub admin's acceptance stands for it.
        """
        ...

    async def contract_accepts(self, asked: ContractSignature) -> bool:
        """Say whether a payer that is a contract accepts a signature, at the newest block.

        Raises ChainUnavailable when it cannot be told; that says nothing about anybody else.
        """
        ...

    async def simulate(self, settlement: Settlement, lines: Sequence[Line]) -> None:
        """Raise the EscrowRefused with which settling would fail now."""
        ...

    async def preview(self, settlement: Settlement, lines: Sequence[Line]) -> dict[str, Any]:
        """Return what would be sent, or signed, to settle this; for people."""
        ...

    async def sign(
        self, bundle: Bundle, *, earlier: Sequence[SettlementTransaction]
    ) -> SettlementTransaction | None:
        """Return a signed transaction that settles `bundle`; None where none is needed.

        `earlier` are those already signed and perhaps known to the network for this epoch number:
        the new one replaces them.
        """
        ...

    async def broadcast(self, transaction: SettlementTransaction) -> None:
        """Hand a recorded transaction to the network; again is no harm."""
        ...

    async def settled(
        self, bundle: Bundle, transactions: Sequence[SettlementTransaction], *, position: Position
    ) -> Settled:
        """Return where an epoch that is final was settled."""
        ...

    async def is_stuck(self, transactions: Sequence[SettlementTransaction]) -> bool:
        """Say whether none of these can be included as things are, so that another has to be signed.

        Raises ForeignTransaction when their nonce was used by something that was never signed here.
        """
        ...

    async def disputes(self, *, position: Position) -> Disputes | None:
        """Return the escrow's disputes contract; None where there is none, as in ledger mode."""
        ...

    def settlement_name(self, bundle: Bundle) -> str:
        """Return the name of the epoch's Settlement object."""
        ...

    async def signature(self, bundle: Bundle) -> str | None:
        """Return the signature that the Settlement itself carries, in ledger mode."""
        ...
