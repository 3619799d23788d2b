"""The 32-byte words that Solidity's `abi.encode` makes of static values, and keccak over them.

All structures that Fallow hashes consist of static fields only (a text enters as its keccak), so
`abi.encode` is plain concatenation of words. Doing just that keeps 100,000 leaves a matter of
seconds, where a general encoder needs minutes. The same few addresses come again and again, and
a checksum costs a hash: they are remembered.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from functools import lru_cache

from Crypto.Hash import keccak as _streamed
from eth_hash.auto import keccak as _keccak
from eth_utils.address import is_checksum_address, to_checksum_address

ZERO_WORD = bytes(32)
ZERO_ADDRESS = "0x" + 40 * "0"


def keccak(data: bytes) -> bytes:
    """Return the keccak-256 of `data`: 32 bytes."""
    return bytes(_keccak(data))


def keccak_of(parts: Iterable[bytes]) -> bytes:
    """Return the keccak-256 of what the parts make one after the other; only one is held at a time."""
    hashed = _streamed.new(digest_bits=256)
    for part in parts:
        hashed.update(part)
    return hashed.digest()


def uint_word(value: int, *, bits: int = 256) -> bytes:
    """`value` as a big-endian word. ValueError unless 0 <= value < 2**bits."""
    if isinstance(value, bool) or not 0 <= value < 1 << bits:
        raise ValueError(f"{value} does not fit in uint{bits}")
    return value.to_bytes(32, "big")


@lru_cache(maxsize=4096)
def address_bytes(address: str) -> bytes:
    """Return the 20 bytes of a 0x address. Mixed case is a checksum and has to be right; else ValueError."""
    digits = address[2:]
    if not address.startswith("0x") or len(digits) != 40:
        raise ValueError(f"{address!r} is no address: 0x and 40 hexadecimal digits are")
    one_case = digits in (digits.lower(), digits.upper())
    if not one_case and not is_checksum_address(address):
        raise ValueError(f"{address!r} has a wrong checksum: a digit is mistyped")
    return bytes.fromhex(digits)


def address_word(address: str) -> bytes:
    """Return an address as Solidity's `address` word: left-padded."""
    return bytes(12) + address_bytes(address)


@lru_cache(maxsize=4096)
def checksummed(address: str) -> str:
    """Return the one spelling of an address that Fallow compares and shows (EIP-55)."""
    return str(to_checksum_address(address_bytes(address)))


def bytes_word(value: bytes, *, size: int = 32) -> bytes:
    """`value` as a `bytes<size>` word: right-padded. ValueError unless it has exactly that size."""
    if len(value) != size:
        raise ValueError(f"{len(value)} bytes given where bytes{size} is wanted")
    return value.ljust(32, b"\0")


@lru_cache(maxsize=1024)
def text_word(text: str) -> bytes:
    """Return a text as EIP-712 has it: the keccak of its UTF-8 bytes."""
    return keccak(text.encode())


def uid_bytes(uid: str) -> bytes:
    """Return a Kubernetes UID (an RFC 4122 UUID) as its 16 bytes; ValueError when it is none."""
    parsed = uuid.UUID(uid)
    if str(parsed) != uid:  # one spelling only: two of one UID would look like two objects
        raise ValueError(f"{uid!r} is no UID in canonical form")
    return parsed.bytes


def uid_word(uid: str) -> bytes:
    """Return a Kubernetes UID as a `bytes16` word."""
    return bytes_word(uid_bytes(uid), size=16)


def from_hex(text: str, *, size: int = 32) -> bytes:
    """Return the bytes of a 0x string of exactly `size` bytes; ValueError otherwise."""
    if not text.startswith("0x") or len(text) != 2 + 2 * size:
        raise ValueError(f"{text!r} is not 0x and {2 * size} hexadecimal digits")
    return bytes.fromhex(text[2:])


def to_hex(value: bytes) -> str:
    """0x and lower-case hexadecimal digits."""
    return "0x" + value.hex()
