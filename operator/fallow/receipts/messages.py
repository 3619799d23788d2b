"""The messages that providers, payers and the settler sign: flat structs of static fields.

Each class carries its EIP-712 type string; the golden vectors compare it with its Solidity twin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fallow.receipts.words import ZERO_WORD, address_word, bytes_word, text_word, uid_word, uint_word

NO_LIMIT = 2**256 - 1
"""The limit of an authorization that has none: as with token allowances, never 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What a provider offers, by the hash of its terms; signed by the agent's key."""

    TYPE: ClassVar[str] = (
        "Quote(string provider,address payee,address signer,bytes32 termsHash,"
        "uint64 validUntil,uint64 sequence)"
    )

    provider: str
    payee: str
    signer: str
    terms_hash: bytes
    valid_until: int
    """Unix seconds."""
    sequence: int

    def words(self) -> bytes:
        """Return the encoded fields, in the order of TYPE."""
        return (
            text_word(self.provider)
            + address_word(self.payee)
            + address_word(self.signer)
            + bytes_word(self.terms_hash)
            + uint_word(self.valid_until, bits=64)
            + uint_word(self.sequence, bits=64)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a provider says it has done for one placement so far; cumulative, so only the last counts."""

    TYPE: ClassVar[str] = (
        "Receipt(bytes32 hubId,string provider,address payer,address payee,address token,"
        "bytes16 jobUid,bytes16 placementUid,bytes32 quoteHash,uint64 sequence,bytes32 previousReceipt,"
        "uint64 periodStart,uint64 periodEnd,bytes32 attemptsRoot,uint64 totalSeconds,"
        "uint256 cumulativeAmount)"
    )

    hub_id: bytes
    provider: str
    payer: str
    payee: str
    token: str
    job_uid: str
    placement_uid: str
    quote_hash: bytes
    """The quote's `digest`."""
    sequence: int
    """1, 2, 3 … within the placement."""
    previous_receipt: bytes = ZERO_WORD
    """The previous receipt's `digest`; the zero word for sequence 1."""
    period_start: int
    """Unix seconds: start of the first attempt."""
    period_end: int
    attempts_root: bytes
    """`attempts_root` over every ended attempt reported so far."""
    total_seconds: int
    """`payable_seconds` of them."""
    cumulative_amount: int
    """Smallest units, for all of them: the most that may be claimed so far."""

    def words(self) -> bytes:
        """Return the encoded fields, in the order of TYPE."""
        return (
            bytes_word(self.hub_id)
            + text_word(self.provider)
            + address_word(self.payer)
            + address_word(self.payee)
            + address_word(self.token)
            + uid_word(self.job_uid)
            + uid_word(self.placement_uid)
            + bytes_word(self.quote_hash)
            + uint_word(self.sequence, bits=64)
            + bytes_word(self.previous_receipt)
            + uint_word(self.period_start, bits=64)
            + uint_word(self.period_end, bits=64)
            + bytes_word(self.attempts_root)
            + uint_word(self.total_seconds, bits=64)
            + uint_word(self.cumulative_amount)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountAuthorization:
    """A payer's consent that one namespace of one hub may spend its escrow, within limits."""

    TYPE: ClassVar[str] = (
        "AccountAuthorization(bytes32 hubId,bytes16 namespaceUid,address payer,uint256 maxTotal,"
        "uint256 maxPerDay,uint64 expiry,uint256 nonce)"
    )

    hub_id: bytes
    namespace_uid: str
    payer: str
    max_total: int = NO_LIMIT
    """Smallest units over the authorization's life."""
    max_per_day: int = NO_LIMIT
    """Smallest units per UTC day."""
    expiry: int
    """Unix seconds; at and after it nothing new is placed."""
    nonce: int

    def words(self) -> bytes:
        """Return the encoded fields, in the order of TYPE."""
        return (
            bytes_word(self.hub_id)
            + uid_word(self.namespace_uid)
            + address_word(self.payer)
            + uint_word(self.max_total)
            + uint_word(self.max_per_day)
            + uint_word(self.expiry, bits=64)
            + uint_word(self.nonce)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PayeeRegistration:
    """A payee's consent to be paid by this escrow, sent to the contract by anyone."""

    TYPE: ClassVar[str] = "PayeeRegistration(address payee,uint64 deadline)"

    payee: str
    deadline: int
    """Unix seconds up to which the contract takes it."""

    def words(self) -> bytes:
        """Return the encoded fields, in the order of TYPE."""
        return address_word(self.payee) + uint_word(self.deadline, bits=64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """One epoch. Its struct hash is the commitment that the next epoch names as its previous one."""

    TYPE: ClassVar[str] = (
        "Settlement(uint64 epoch,bytes32 previousCommitment,bytes32 linesHash,bytes32 claimsRoot,"
        "bytes32 allocationsRoot,bytes32 bundleHash)"
    )

    epoch: int
    previous_commitment: bytes
    lines_hash: bytes
    claims_root: bytes
    allocations_root: bytes
    bundle_hash: bytes

    def words(self) -> bytes:
        """Return the encoded fields, in the order of TYPE."""
        return (
            uint_word(self.epoch, bits=64)
            + bytes_word(self.previous_commitment)
            + bytes_word(self.lines_hash)
            + bytes_word(self.claims_root)
            + bytes_word(self.allocations_root)
            + bytes_word(self.bundle_hash)
        )
