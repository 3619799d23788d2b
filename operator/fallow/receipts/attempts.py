"""Attempt leaves: what a provider signs about each attempt that ended, and which of them are paid.

A receipt holds the Merkle root over all ended attempts of its placement. The hub may claim any
subset that it accepts; whoever holds the `ended` strings can recompute both roots. Leaves carry
from and to seconds, so that interval billing can pay for the same attempt twice without paying any
second twice; a task billed once starts at 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fallow.receipts import merkle
from fallow.receipts.words import ZERO_WORD, bytes_word, keccak, uint_word
from fallow.resources.ended import Ended, Outcome

ATTEMPT_TYPE = (
    "AttemptLeaf(uint32 index,uint32 attempt,uint64 fromSeconds,uint64 toSeconds,"
    "bytes1 outcome,bytes32 digest)"
)
_ATTEMPT_TYPEHASH = keccak(ATTEMPT_TYPE.encode())

PAYABLE = frozenset({Outcome.SUCCEEDED, Outcome.FAILED, Outcome.TIMED_OUT, Outcome.CANCELLED})
"""Outcomes whose seconds are paid (how often a failure is paid is the hub's limit). Reclaimed, lost
and unstartable attempts are the provider's own risk."""


@dataclass(frozen=True, slots=True)
class AttemptLeaf:
    """One attempt's seconds [from_seconds, to_seconds) of its own running time."""

    ended: Ended
    from_seconds: int = 0

    def hash(self) -> bytes:
        """Return the standard tree's leaf."""
        ended = self.ended
        return merkle.leaf_hash(
            _ATTEMPT_TYPEHASH
            + uint_word(ended.index, bits=32)
            + uint_word(ended.attempt, bits=32)
            + uint_word(self.from_seconds, bits=64)
            + uint_word(ended.seconds, bits=64)
            + bytes_word(ended.outcome.value.encode(), size=1)
            + (bytes_word(ended.digest) if ended.digest else ZERO_WORD)
        )


def attempts_root(ended: Iterable[Ended]) -> bytes:
    """Return the root over ended attempts in any order; the zero word when there are none.

    ValueError when an (index, attempt) occurs twice: its seconds would be counted twice.
    """
    attempts = list(ended)
    if len({(one.index, one.attempt) for one in attempts}) != len(attempts):
        raise ValueError("an attempt of an index occurs twice")
    return merkle.root([AttemptLeaf(one).hash() for one in attempts])


def payable_seconds(ended: Iterable[Ended]) -> int:
    """Seconds of the attempts whose outcome is paid at all."""
    return sum(one.seconds for one in ended if one.outcome in PAYABLE)
