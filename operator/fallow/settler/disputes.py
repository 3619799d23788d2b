"""The disputes contract, as typed calls: what is disputed, how it stands, and what its events say.

Which lines are disputed is found by events; how a dispute stands is only ever read from the
contract's state. Amounts are smallest units, times Unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cache
from typing import Any

from fallow.receipts.epochs import Line, unpack_lines
from fallow.receipts.messages import Settlement
from fallow.receipts.words import ZERO_ADDRESS, checksummed, keccak
from fallow.settler.abi import Artifact, artifact
from fallow.settler.escrow import Contract, Escrow
from fallow.settler.refusals import ChainUnavailable, NotSettled
from fallow.settler.rpc import Block, Rpc

BLOCKS_PER_QUESTION = 2_000
"""Endpoints refuse to search more at once, each from another number on; this one most accept."""


class Status(IntEnum):
    """Of a dispute, as the contract numbers them. Frozen and Revealed are open."""

    NONE = 0
    FROZEN = 1
    REVEALED = 2
    NOT_REVEALED = 3
    RULED = 4
    RELEASED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispute:
    """One disputed line as of one block."""

    epoch: int
    line: int
    payer: str
    payee: str
    amount: int
    """Of the line."""
    frozen: int
    """What was ever frozen of it."""
    bond: int
    revealed: int
    """Sum of the claims that were revealed."""
    deadline: int
    """Of the present status."""
    status: Status
    last_claim_id: bytes
    """The last that was revealed: they come ascending."""
    refunded_twice: int
    """What claims that were shown to be paid twice gave back."""

    @property
    def open(self) -> bool:
        """Whether it can still end one way or the other."""
        return self.status in (Status.FROZEN, Status.REVEALED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How much of a line went where when its dispute ended."""

    refunded: int
    released: int


class Disputes(Contract):
    """A deployed FallowDisputes."""

    def __init__(self, rpc: Rpc, address: str) -> None:
        super().__init__(rpc, address, module())

    @classmethod
    async def of(cls, escrow: Escrow, *, block: Block = "latest") -> Disputes | None:
        """Return the module that is attached to an escrow, or None."""
        (address,) = await escrow.read("disputes", block=block)
        return None if checksummed(address) == ZERO_ADDRESS else cls(escrow.rpc, address)

    async def escrow_window(self) -> int:
        """Return the escrow's dispute window in seconds: credits rest for at most twice that."""
        (escrow,) = await self.read("escrow")
        return int((await Escrow(self.rpc, escrow).read("disputeWindow"))[0])

    async def dispute(self, epoch: int, line: int, *, block: Block = "latest") -> Dispute:
        """Return how a line's dispute stands; status NONE when there never was one."""
        ((payer, amount, payee, frozen, bond, revealed, deadline, status, last, twice),) = await self.read(
            "disputeOf", epoch, line, block=block
        )
        return Dispute(
            epoch=epoch,
            line=line,
            payer=checksummed(payer),
            payee=checksummed(payee),
            amount=amount,
            frozen=frozen,
            bond=bond,
            revealed=revealed,
            deadline=deadline,
            status=Status(status),
            last_claim_id=bytes(last),
            refunded_twice=twice,
        )

    async def disputed(self, *, first: int, last: int) -> set[tuple[int, int]]:
        """Return (epoch, line) of everything that an event of these blocks is about."""
        found = set()
        names = ("LineFrozen", "LineRevealed", "Resolved")
        for log in await self._logs([topic(self.artifact, name) for name in names], first=first, last=last):
            found.add((int.from_bytes(log.topics[1], "big"), int.from_bytes(log.topics[2], "big")))
        return found

    async def outcome(self, epoch: int, line: int, *, first: int, last: int) -> Outcome | None:
        """Return how a dispute ended in these blocks, or None when it did not."""
        topics = [topic(self.artifact, "Resolved"), _word(epoch), _word(line)]
        for log in await self._logs(topics[:1], *topics[1:], first=first, last=last):
            _, refunded, released = self.artifact.event_data("Resolved", log.data)
            return Outcome(refunded=refunded, released=released)
        return None

    async def rejected(self, epoch: int, line: int, *, first: int, last: int) -> set[bytes]:
        """Return the ids of the claims that the arbiter rejected."""
        topics = [topic(self.artifact, "ClaimRejected"), _word(epoch), _word(line)]
        return {log.topics[3] for log in await self._logs(topics[:1], *topics[1:], first=first, last=last)}

    async def _logs(self, names: list[bytes], *more: bytes, first: int, last: int) -> list[Any]:
        return await search(self.rpc, self.address, [names, *more], first=first, last=last)


@cache
def module() -> Artifact:
    """Return FallowDisputes, with the errors of the escrow and the token that it passes on."""
    own = artifact("FallowDisputes")
    errors = artifact("TestToken").errors | artifact("FallowEscrow").errors | own.errors
    return replace(own, errors=errors)


def topic(contract: Artifact, event: str) -> bytes:
    """Return the first topic of an event's logs."""
    return keccak(contract.event_signature(event).encode())


def _word(number: int) -> bytes:
    return number.to_bytes(32, "big")


async def search(rpc: Rpc, address: str, topics: list[Any], *, first: int, last: int) -> list[Any]:
    """Return the logs of blocks `first` to `last`, in pieces that endpoints accept."""
    found: list[Any] = []
    for start in range(first, last + 1, BLOCKS_PER_QUESTION):
        end = min(start + BLOCKS_PER_QUESTION - 1, last)
        found += await rpc.logs(address, topics, first=start, last=end)
    return found


async def settled_epoch(
    escrow: Escrow, epoch: int, *, transaction: str | None = None
) -> tuple[Settlement, tuple[Line, ...]]:
    """Return what an epoch was settled with, from its transaction: public, no archive needed.

    `transaction` is the one that settled it; without it, it is searched. Raises NotSettled when
    there is none, ChainUnavailable when the transaction is no plain call of `settle`.
    """
    if transaction is None:
        topics = [topic(escrow.artifact, "Settled"), _word(epoch)]
        # Newest blocks first: disputes are about young epochs.
        end = await escrow.rpc.block_number()
        while transaction is None and end >= 0:
            start = max(0, end - BLOCKS_PER_QUESTION + 1)
            for log in await escrow.rpc.logs(escrow.address, topics, first=start, last=end):
                transaction = log.transaction
            end = start - 1
    if transaction is None:
        raise NotSettled(f"epoch {epoch} is not settled at {escrow.address}")
    data = await escrow.rpc.call_data(transaction)
    number, previous, lines, claims_root, allocations_root, bundle_hash = escrow.artifact.arguments(
        "settle", data
    )
    settlement = Settlement(
        epoch=number,
        previous_commitment=bytes(previous),
        lines_hash=keccak(bytes(lines)),
        claims_root=bytes(claims_root),
        allocations_root=bytes(allocations_root),
        bundle_hash=bytes(bundle_hash),
    )
    if number != epoch:
        raise ChainUnavailable(f"transaction {transaction} settled epoch {number}, not {epoch}")
    return settlement, unpack_lines(bytes(lines))
