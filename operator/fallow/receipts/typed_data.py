"""EIP-712: the domain, what is signed of a message, and who signed one.

One domain for all: name "Fallow", version "1", chain id, escrow, and the hub id as salt, so nothing
signed for one chain, escrow or hub means anything on another. Ledger mode is chain id 0 and the
zero address. The messages themselves are in `fallow.receipts.messages`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Protocol

from eth_account import Account
from eth_account.messages import SignableMessage
from eth_account.signers.local import LocalAccount
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError
from hexbytes import HexBytes

from fallow.errors import MoneyError
from fallow.receipts.words import (
    ZERO_ADDRESS,
    address_word,
    bytes_word,
    checksummed,
    keccak,
    text_word,
    to_hex,
    uint_word,
)

_DOMAIN_TYPEHASH = keccak(
    b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract,bytes32 salt)"
)
_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0


class SignatureError(MoneyError):
    """The signature is malformed, malleable, or not by whom it has to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """Where a signature counts: chain, escrow contract and hub."""

    chain_id: int
    escrow: str
    hub_id: bytes

    @classmethod
    def of_ledger(cls, hub_id: bytes) -> Domain:
        """Return the domain of ledger mode."""
        return cls(chain_id=0, escrow=ZERO_ADDRESS, hub_id=hub_id)

    def separator(self) -> bytes:
        """Return the domain separator; also the commitment of epoch 0 (`fallow.receipts.epochs`)."""
        return _separator(self.chain_id, self.escrow, self.hub_id)


@lru_cache(maxsize=64)
def _separator(chain_id: int, escrow: str, hub_id: bytes) -> bytes:
    return keccak(
        _DOMAIN_TYPEHASH
        + text_word("Fallow")
        + text_word("1")
        + uint_word(chain_id)
        + address_word(escrow)
        + bytes_word(hub_id)
    )


class TypedMessage(Protocol):
    """A struct that can be signed."""

    TYPE: ClassVar[str]

    def words(self) -> bytes:
        """Return the encoded fields, in the order of TYPE."""
        ...


def struct_hash(message: TypedMessage) -> bytes:
    """EIP-712's hashStruct."""
    return keccak(keccak(message.TYPE.encode()) + message.words())


def digest(domain: Domain, message: TypedMessage) -> bytes:
    """Return the 32 bytes that are signed; also how a receipt or a quote is named by other structures."""
    return keccak(b"\x19\x01" + domain.separator() + struct_hash(message))


def sign(domain: Domain, message: TypedMessage, *, key: LocalAccount) -> str:
    """Return the signature (r, s, v) as 0x and 130 lower-case digits. Deterministic (RFC 6979)."""
    signed = key.sign_message(_signable(domain, message))
    return to_hex(bytes(signed.signature))


def recover(domain: Domain, message: TypedMessage, *, signature: str) -> str:
    """Return the address whose key made `signature`, checksummed.

    Raises SignatureError when it is none, or one of the malleable forms (high s, v other than
    27 or 28) that OpenZeppelin's ECDSA refuses too.
    """
    try:
        raw = bytes.fromhex(signature.removeprefix("0x"))
    except ValueError as error:
        raise SignatureError("the signature is no hexadecimal string") from error
    if len(raw) != 65 or raw[64] not in (27, 28) or int.from_bytes(raw[32:64], "big") > _HALF_ORDER:
        raise SignatureError("the signature is not 65 bytes in canonical form (low s, v 27 or 28)")
    try:
        return _recovered(_signable(domain, message), raw)
    except (BadSignature, ValidationError) as error:
        raise SignatureError("the signature fits no key") from error


@lru_cache(maxsize=4096)
def _recovered(signed: SignableMessage, signature: bytes) -> str:
    """Return who made a signature; the same quotes and authorizations are checked with every placement."""
    return checksummed(str(Account.recover_message(signed, signature=HexBytes(signature))))


def check_signed_by(signer: str, domain: Domain, message: TypedMessage, *, signature: str) -> None:
    """Raise SignatureError unless `signer` (an address) signed `message`."""
    found = recover(domain, message, signature=signature)
    if found != checksummed(signer):
        raise SignatureError(f"signed by {found}, not by {checksummed(signer)}")


def _signable(domain: Domain, message: TypedMessage) -> SignableMessage:
    return SignableMessage(HexBytes(b"\x01"), HexBytes(domain.separator()), HexBytes(struct_hash(message)))
