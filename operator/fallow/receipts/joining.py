"""What an agent signs to join a hub and to renew its credential there.

EIP-712 as everything else that is signed, with the ledger's domain: which chain pays has nothing to do with
who may come in. The hub id in the domain makes a request worthless at any other hub.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar

from fallow.receipts.words import address_bytes, address_word, bytes_word, text_word, to_hex, uint_word


@dataclass(frozen=True, slots=True, kw_only=True)
class Joining:
    """The answer to an invite."""

    TYPE: ClassVar[str] = (
        "Joining(string provider,address payee,bytes32 inviteHash,uint64 timeMs,bytes32 nonce)"
    )

    provider: str
    payee: str
    invite_hash: bytes
    time_ms: int
    nonce: bytes

    def words(self) -> bytes:
        """Return the encoded fields, in the order of TYPE."""
        return (
            text_word(self.provider)
            + address_word(self.payee)
            + bytes_word(self.invite_hash)
            + uint_word(self.time_ms, bits=64)
            + bytes_word(self.nonce)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """The request for a token."""

    TYPE: ClassVar[str] = "Renewal(string provider,uint64 timeMs,bytes32 nonce)"

    provider: str
    time_ms: int
    nonce: bytes

    def words(self) -> bytes:
        """Return the encoded fields, in the order of TYPE."""
        return text_word(self.provider) + uint_word(self.time_ms, bits=64) + bytes_word(self.nonce)


def invite_hash(token: str) -> str:
    """Return what a hub keeps of an invite's token: its SHA-256 as 0x and 64 digits."""
    return to_hex(hashlib.sha256(token.encode("ascii")).digest())


def fingerprint(signer: str) -> str:
    """Return what two people read to each other to compare a key: 16 digits in groups of four.

    64 bits of SHA-256 over the key's address.
    """
    digits = hashlib.sha256(address_bytes(signer)).hexdigest()[:16]
    return "-".join(digits[start : start + 4] for start in range(0, 16, 4))
