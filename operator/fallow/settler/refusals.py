"""Why money does not move: what the settler and the escrow refuse, named for what to do about it.

    Retryable
    ├── ChainUnavailable       no RPC endpoint answers, or one answers nonsense: look again later
    │   └── OldState           what answers is behind what was seen before: wait until it is not
    ├── FeesTooHigh            a transaction would cost more than the ceiling: wait, and say so
    ├── ArchiveUnavailable     the store of the archive does not answer, or refuses: look again later
    └── SignerUnavailable      the remote signer does not answer, or refuses: look again later
    MoneyError
    ├── ClaimRefused           this claim can never be paid as it is: it is marked Refused
    ├── EscrowRefused          the contract reverted; carries the error's name and values
    │   ├── PayerRefused       one payer cannot be debited now: settle without its claims
    │   ├── PayeeRefused       one payee cannot be credited now: settle without its claims
    │   ├── EpochTaken         the chain has moved on: derive everything again
    │   └── SettlingStopped    paused, closed, insolvent, or the key is not the operator's: a person's turn
    ├── ForeignTransaction     the operator's nonce was spent by something the settler never signed
    ├── EndpointsDisagree      RPC endpoints show different chains, and no majority tells who is right
    ├── Undone                 a final epoch was undone and cannot happen again as it was: a person's turn
    ├── TransactionFailed      mined, and reverted there: the world changed since it was simulated
    ├── NotSettled             there is no such epoch (yet)
    ├── SignerLies             the remote signer returned something else than was to be signed
    ├── Behind                 chain or archive know more than this hub: a person restores it
    └── ArchiveDamaged         a bundle is missing or not what its name says

The contract's custom errors are decoded here once (`from_revert`); everyone else catches classes.
"""

# The names say what happened, as in `fallow.errors`.
# ruff: noqa: N818

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

from fallow.errors import MoneyError, Retryable
from fallow.receipts.words import checksummed, keccak


class ChainUnavailable(Retryable):
    """No RPC endpoint answers, it answered an error, or what it said makes no sense."""


class OldState(ChainUnavailable):
    """The chain as shown is older than what was seen, or told, before: a replica that lags, or a
    chain that was set back and grows again.
    """


class ArchiveUnavailable(Retryable):
    """The store of the archive does not answer, or refuses."""


class SignerUnavailable(Retryable):
    """The remote signer does not answer, or refuses."""


class FeesTooHigh(Retryable):
    """Getting into a block costs `needed` wei per gas, more than the ceiling allows."""

    def __init__(self, *, needed: int, ceiling: int) -> None:
        super().__init__(
            f"a transaction costs {_gwei(needed)} gwei per gas, above the ceiling of {_gwei(ceiling)}"
        )
        self.needed = needed
        self.ceiling = ceiling


def _gwei(wei: int) -> str:
    return f"{wei // 10**9}.{wei % 10**9 // 10**6:03d}"


class ClaimRefused(MoneyError):
    """A claim can never be paid as it is. `reason` is one CamelCase word for its condition."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class EscrowRefused(MoneyError):
    """The escrow reverted with a custom error (or, `name` being "", without one we know)."""

    def __init__(self, name: str, values: Sequence[Any] = ()) -> None:
        super().__init__(f"the escrow refuses: {name or 'no reason given'}{tuple(values) or ''}")
        self.name = name
        self.values = tuple(values)


class PayerRefused(EscrowRefused):
    """`payer` cannot be debited now: not bound, over its cap, too soon, or too little balance."""

    @property
    def payer(self) -> str:
        """The payer's address, checksummed."""
        return checksummed(self.values[0])


class PayeeRefused(EscrowRefused):
    """`payee` is not registered, or not active yet."""

    @property
    def payee(self) -> str:
        """The payee's address, checksummed."""
        return checksummed(self.values[0])


class EpochTaken(EscrowRefused):
    """The epoch is settled already, or does not follow the last one."""


class SettlingStopped(EscrowRefused):
    """Paused, closed, insolvent, or this key is not the operator's."""


class ForeignTransaction(MoneyError):
    """Somebody else sends with the operator's key, or sent with it before: that is a stolen key."""


class EndpointsDisagree(MoneyError):
    """RPC endpoints show different chains, and there is no majority among them."""


class Undone(MoneyError):
    """An epoch that was final is not on the chain any more, and cannot be settled again as it is."""


class TransactionFailed(MoneyError):
    """A transaction was mined and reverted."""


class NotSettled(MoneyError):
    """An epoch that somebody asks about is not settled."""


class SignerLies(MoneyError):
    """The remote signer returned something else than was to be signed: a person's turn."""


class Behind(MoneyError):
    """Chain or archive know of epochs that this hub does not: nothing is settled until restored."""


class ArchiveDamaged(MoneyError):
    """A bundle is missing from the archive, or its content is not what its name says."""


_CLASSES: dict[str, type[EscrowRefused]] = {
    "PayerNotBound": PayerRefused,
    "CapExceeded": PayerRefused,
    "DebitTooSoon": PayerRefused,
    "InsufficientBalance": PayerRefused,
    "FeeTooHigh": PayerRefused,
    "PayeeNotActive": PayeeRefused,
    "EpochOutOfOrder": EpochTaken,
    "PreviousCommitmentMismatch": EpochTaken,
    "SettlingPaused": SettlingStopped,
    "Closed": SettlingStopped,
    "NotOperator": SettlingStopped,
    "Insolvent": SettlingStopped,
}


def selectors(abi: Sequence[Mapping[str, Any]]) -> dict[bytes, tuple[str, list[str]]]:
    """Return the custom errors of an ABI: selector -> (name, types of the values)."""
    found = {}
    for entry in abi:
        if entry["type"] == "error":
            types = [str(value["type"]) for value in entry["inputs"]]
            found[keccak(f"{entry['name']}({','.join(types)})".encode())[:4]] = str(entry["name"]), types
    return found


def from_revert(data: bytes, *, known: Mapping[bytes, tuple[str, list[str]]]) -> EscrowRefused:
    """Return the refusal that revert data means; unknown data gives a plain EscrowRefused."""
    name, types = known.get(data[:4], ("", []))
    try:
        values = decode(types, data[4:]) if name else (("0x" + data.hex(),) if data else ())
    except DecodingError:
        name, values = "", ("0x" + data.hex(),)
    return _CLASSES.get(name, EscrowRefused)(name, values)
