"""EIP-1271: signatures of accounts that are contracts, as one raw call. Pure: others make the call.

    isValidSignature(bytes32 digest, bytes signature) returns (bytes4)      0x1626ba7e means yes

Only the contract knows whether it accepts a signature, and it may change its mind. An account without code
answers with nothing, which is a no.
"""

from __future__ import annotations

from dataclasses import dataclass

from fallow.receipts.words import keccak, uint_word

MAGIC = keccak(b"isValidSignature(bytes32,bytes)")[:4]


@dataclass(frozen=True, slots=True)
class ContractSignature:
    """A signature that only the contract `account` can judge."""

    account: str
    digest: bytes
    signature: bytes

    def call_data(self) -> bytes:
        """Return what the contract is called with."""
        size = len(self.signature)
        padded = self.signature.ljust(-(-size // 32) * 32, b"\0")
        return MAGIC + self.digest + uint_word(64) + uint_word(size) + padded


def is_yes(answer: bytes) -> bool:
    """Say whether a contract's answer means that it accepts: exactly the magic value, as a bytes4 word."""
    return answer[:32] == MAGIC.ljust(32, b"\0")
