"""What one epoch commits to: its claims, how they sum up to lines, and its place in the chain.

An epoch is a pure function of its claims, its number, the previous commitment and the salt key: a
settler that was killed builds the same one again. Claims are ordered by claim id, lines by
(payer, payee); a line is the sum of its claims and there is one per pair. Amounts of a line are
at most 96 bits, as the escrow keeps balances.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise

from fallow.receipts import merkle
from fallow.receipts.messages import Settlement
from fallow.receipts.typed_data import Domain, struct_hash
from fallow.receipts.words import (
    address_bytes,
    address_word,
    bytes_word,
    checksummed,
    keccak,
    text_word,
    uid_word,
    uint_word,
)

CLAIM_TYPE = (
    "ClaimLeaf(bytes32 salt,uint256 chainId,address escrow,uint64 epoch,uint32 index,bytes32 claimId,"
    "string provider,bytes16 jobUid,bytes16 placementUid,bytes32 quoteHash,bytes32 receiptHash,"
    "bytes32 attemptsRoot,address payer,address payee,uint64 totalSeconds,"
    "uint256 pricePerTaskHour,uint256 amount)"
)
ALLOCATION_TYPE = (
    "AllocationLeaf(bytes32 salt,uint256 chainId,address escrow,uint64 epoch,uint32 index,uint32 lineIndex,"
    "bytes32 claimId,uint256 amount)"
)
_CLAIM_TYPEHASH = keccak(CLAIM_TYPE.encode())
_ALLOCATION_TYPEHASH = keccak(ALLOCATION_TYPE.encode())

COUNT_BYTES = 2
PAYEE_BYTES = 20
GROUP_BYTES = 22
LINE_BYTES = 14
MAX_PAYEES = 2**16 - 1
MAX_LINE_AMOUNT = 2**96 - 1
MIN_SALT_KEY_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What an epoch says about one PaymentClaim."""

    claim_id: bytes
    provider: str
    job_uid: str
    placement_uid: str
    quote_hash: bytes
    receipt_hash: bytes
    attempts_root: bytes
    """Over the attempts that are claimed, which the receipt's root covers."""
    payer: str
    payee: str
    total_seconds: int
    price_per_task_hour: int
    amount: int
    """Smallest units, at least 1: a claim of nothing needs no epoch."""


@dataclass(frozen=True, slots=True)
class Line:
    """What one payer owes one payee in an epoch."""

    payer: str
    payee: str
    amount: int


def claim_id(hub_id: bytes, placement_uid: str, sequence: int) -> bytes:
    """Return keccak(abi.encode(bytes32 hub id, bytes16 placement UID, uint64 sequence)): never used twice."""
    return keccak(bytes_word(hub_id) + uid_word(placement_uid) + uint_word(sequence, bits=64))


def salt(salt_key: bytes, claim_id: bytes, *, epoch: int) -> bytes:
    """HMAC-SHA-256(salt key, claim id ‖ epoch as 8 bytes): hides leaves, yet a retry repeats them."""
    if len(salt_key) < MIN_SALT_KEY_BYTES:
        raise ValueError("a salt key has at least 32 bytes")
    return hmac.new(salt_key, bytes_word(claim_id) + epoch.to_bytes(8, "big"), hashlib.sha256).digest()


def lines_of(claims: Iterable[Claim]) -> tuple[Line, ...]:
    """Return the claims' sums per (payer, payee), strictly ascending by their bytes."""
    sums: dict[tuple[str, str], int] = {}
    for claim in claims:
        pair = checksummed(claim.payer), checksummed(claim.payee)
        sums[pair] = sums.get(pair, 0) + claim.amount
    return lines_of_sums(sums)


def lines_of_sums(sums: Mapping[tuple[str, str], int]) -> tuple[Line, ...]:
    """Return the lines of sums by (payer, payee), each address checksummed."""
    ordered = sorted(sums, key=lambda pair: (address_bytes(pair[0]), address_bytes(pair[1])))
    return tuple(Line(payer, payee, sums[payer, payee]) for payer, payee in ordered)


def pack_lines(lines: Sequence[Line]) -> bytes:
    """Return the lines as the escrow takes them: the payees, then groups, one for each payer.

    The number of payees (2 bytes) and each payee (20), ascending; per payer its 20 bytes and the number
    of its lines (2); per line which payee (2, counted from 0) and the amount (12). An address is
    thereby paid for once an epoch. ValueError unless there are lines, they ascend strictly and each
    amount is 1 to 2**96-1.
    """
    if not lines:
        raise ValueError("an epoch without lines")
    keys = [(address_bytes(line.payer), address_bytes(line.payee)) for line in lines]
    if any(one >= other for one, other in pairwise(keys)):
        raise ValueError("lines ascend strictly by payer, then payee")
    payees = sorted({payee for _, payee in keys})
    if len(payees) > MAX_PAYEES:
        raise ValueError(f"an epoch has at most {MAX_PAYEES} payees")
    places = {payee: index.to_bytes(2, "big") for index, payee in enumerate(payees)}
    packed = [len(payees).to_bytes(COUNT_BYTES, "big"), *payees]
    for payer, group in groupby(zip(keys, lines, strict=True), key=lambda pair: pair[0][0]):
        entries = [places[payee] + _amount_bytes(line.amount) for (_, payee), line in group]
        packed += [payer, len(entries).to_bytes(2, "big"), *entries]
    return b"".join(packed)


def unpack_lines(packed: bytes) -> tuple[Line, ...]:
    """Return the inverse of `pack_lines`. ValueError unless `packed` is exactly what it makes."""
    payees, offset = _payees(packed)
    lines: list[Line] = []
    while offset < len(packed):
        payer, count = packed[offset : offset + 20], int.from_bytes(packed[offset + 20 : offset + 22], "big")
        offset += GROUP_BYTES
        if offset + count * LINE_BYTES > len(packed):
            break
        for _ in range(count):
            index = int.from_bytes(packed[offset : offset + 2], "big")
            amount = int.from_bytes(packed[offset + 2 : offset + LINE_BYTES], "big")
            if index >= len(payees):
                raise ValueError("a line names a payee that is not there")
            lines.append(Line(_address(payer), payees[index], amount))
            offset += LINE_BYTES
    if pack_lines(lines) != packed:
        raise ValueError("these bytes are no packed lines")
    return tuple(lines)


def _payees(packed: bytes) -> tuple[list[str], int]:
    """Return the payees that lines name, and where the first group starts."""
    count = int.from_bytes(packed[:COUNT_BYTES], "big")
    ends = range(COUNT_BYTES, COUNT_BYTES + (count + 1) * PAYEE_BYTES, PAYEE_BYTES)
    if ends[-1] > len(packed):
        raise ValueError("these bytes are no packed lines")
    return [_address(packed[one:other]) for one, other in pairwise(ends)], ends[-1]


def _amount_bytes(amount: int) -> bytes:
    if not 0 < amount <= MAX_LINE_AMOUNT:
        raise ValueError(f"a line of {amount} units: it has to be 1 to 2**96-1")
    return amount.to_bytes(12, "big")


def _address(raw: bytes) -> str:
    return checksummed("0x" + raw.ljust(20, b"\0").hex())


def genesis_commitment(domain: Domain) -> bytes:
    """Return the commitment of epoch 0: the domain separator, so the chain names chain, escrow and hub."""
    return domain.separator()


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """An epoch before its bundle is archived: claims in order, salted leaves, lines, roots."""

    domain: Domain
    number: int
    previous_commitment: bytes
    claims: tuple[Claim, ...]
    salts: tuple[bytes, ...]

    @classmethod
    def of(
        cls,
        claims: Sequence[Claim],
        *,
        domain: Domain,
        number: int,
        previous_commitment: bytes,
        salt_key: bytes,
    ) -> Epoch:
        """Return the one epoch that these claims, in any order, make. ValueError for none, or one twice."""
        ordered = tuple(sorted(claims, key=lambda claim: claim.claim_id))
        if not ordered or len({claim.claim_id for claim in ordered}) != len(ordered):
            raise ValueError("an epoch has at least one claim, and each claim once")
        if any(claim.amount < 1 for claim in ordered):
            raise ValueError("a claim of nothing needs no epoch")
        return cls(
            domain=domain,
            number=number,
            previous_commitment=previous_commitment,
            claims=ordered,
            salts=tuple(salt(salt_key, claim.claim_id, epoch=number) for claim in ordered),
        )

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """One line per (payer, payee)."""
        return lines_of(self.claims)

    @cached_property
    def packed_lines(self) -> bytes:
        """The lines as `settle` takes them."""
        return pack_lines(self.lines)

    @cached_property
    def claims_root(self) -> bytes:
        """Root over the claim leaves."""
        return merkle.root([self.claim_leaf(index) for index in range(len(self.claims))])

    @cached_property
    def allocations_root(self) -> bytes:
        """Root over the allocation leaves: shows that a line is the sum of its claims."""
        return merkle.root([self.allocation_leaf(index) for index in range(len(self.claims))])

    @cached_property
    def _line_index(self) -> dict[tuple[str, str], int]:
        return {(line.payer, line.payee): index for index, line in enumerate(self.lines)}

    def line_index(self, index: int) -> int:
        """Which line claim `index` is a part of."""
        claim = self.claims[index]
        return self._line_index[checksummed(claim.payer), checksummed(claim.payee)]

    def claim_leaf(self, index: int) -> bytes:
        """Return the leaf of claim `index`."""
        claim = self.claims[index]
        return merkle.leaf_hash(
            _CLAIM_TYPEHASH
            + self._leaf_head(index)
            + bytes_word(claim.claim_id)
            + text_word(claim.provider)
            + uid_word(claim.job_uid)
            + uid_word(claim.placement_uid)
            + bytes_word(claim.quote_hash)
            + bytes_word(claim.receipt_hash)
            + bytes_word(claim.attempts_root)
            + address_word(claim.payer)
            + address_word(claim.payee)
            + uint_word(claim.total_seconds, bits=64)
            + uint_word(claim.price_per_task_hour)
            + uint_word(claim.amount)
        )

    def allocation_leaf(self, index: int) -> bytes:
        """Return the leaf that gives claim `index` its part of a line."""
        claim = self.claims[index]
        return merkle.leaf_hash(
            _ALLOCATION_TYPEHASH
            + self._leaf_head(index)
            + uint_word(self.line_index(index), bits=32)
            + bytes_word(claim.claim_id)
            + uint_word(claim.amount)
        )

    def settlement(self, bundle_hash: bytes) -> Settlement:
        """Return the epoch with its archived bundle's hash: what is sent, signed and chained."""
        return Settlement(
            epoch=self.number,
            previous_commitment=self.previous_commitment,
            lines_hash=keccak(self.packed_lines),
            claims_root=self.claims_root,
            allocations_root=self.allocations_root,
            bundle_hash=bundle_hash,
        )

    def _leaf_head(self, index: int) -> bytes:
        return (
            self.salts[index]
            + uint_word(self.domain.chain_id)
            + address_word(self.domain.escrow)
            + uint_word(self.number, bits=64)
            + uint_word(index, bits=32)
        )


def commitment(settlement: Settlement) -> bytes:
    """Return the commitment of an epoch: its struct hash, which the next epoch names."""
    return struct_hash(settlement)
