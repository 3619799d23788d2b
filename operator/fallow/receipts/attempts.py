"""Attempt leaves: what a provider signs about each attempt, and which of it is paid.

A receipt holds the Merkle root over all ended attempts of its placement and, with interval billing, over
all elapsed time. The hub may claim any subset that it accepts; whoever holds the strings can recompute both
roots. Leaves carry from and to seconds: of an attempt with elapsed time the time is one leaf and what came
after it another, so no second is in two of them. A task billed once starts at 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fallow.receipts import merkle
from fallow.receipts.words import ZERO_WORD, bytes_word, keccak, uint_word
from fallow.resources.elapsed import Elapsed
from fallow.resources.ended import Ended, Outcome

ATTEMPT_TYPE = (
    "AttemptLeaf(uint32 index,uint32 attempt,uint64 fromSeconds,uint64 toSeconds,"
    "bytes1 outcome,bytes32 digest)"
)
_ATTEMPT_TYPEHASH = keccak(ATTEMPT_TYPE.encode())

PAYABLE = frozenset({Outcome.SUCCEEDED, Outcome.FAILED, Outcome.TIMED_OUT, Outcome.CANCELLED})
"""Outcomes whose seconds are paid (how often a failure is paid is the hub's limit). Reclaimed, lost
and unstartable attempts are the provider's own risk."""
INTERVAL = "I"
"""What stands for the outcome in the leaf of elapsed time: none is needed, it is paid whatever comes."""


@dataclass(frozen=True, slots=True)
class AttemptLeaf:
    """Seconds [from_seconds, to_seconds) of one attempt's own running time."""

    index: int
    attempt: int
    from_seconds: int
    to_seconds: int
    outcome: str
    """The letter of its `Outcome`, or INTERVAL."""
    digest: bytes = b""

    @classmethod
    def of(cls, ended: Ended, *, from_seconds: int = 0) -> AttemptLeaf:
        """Return the leaf of an ended attempt, from the end of its elapsed time on."""
        return cls(ended.index, ended.attempt, from_seconds, ended.seconds, ended.outcome.value, ended.digest)

    def hash(self) -> bytes:
        """Return the standard tree's leaf. ValueError when it ends before it starts."""
        if self.to_seconds < self.from_seconds:
            raise ValueError(f"attempt {self.attempt} of index {self.index} ends within its elapsed time")
        return merkle.leaf_hash(
            _ATTEMPT_TYPEHASH
            + uint_word(self.index, bits=32)
            + uint_word(self.attempt, bits=32)
            + uint_word(self.from_seconds, bits=64)
            + uint_word(self.to_seconds, bits=64)
            + bytes_word(self.outcome.encode(), size=1)
            + (bytes_word(self.digest) if self.digest else ZERO_WORD)
        )


def attempts_root(ended: Iterable[Ended], elapsed: Iterable[Elapsed] = (), *, attempt: int = 0) -> bytes:
    """Return the root over ended attempts in any order; the zero word when there is nothing.

    `elapsed` is the elapsed time of attempts number `attempt`, each index in one part of it at most; a part
    of no seconds has no leaf. An ended attempt's leaf begins where its elapsed time ends. ValueError when
    an (index, attempt) occurs twice: its seconds would be counted twice; or when an attempt ends before
    its elapsed time does.
    """
    attempts = list(ended)
    if len({(one.index, one.attempt) for one in attempts}) != len(attempts):
        raise ValueError("an attempt of an index occurs twice")
    leaves = []
    begun: dict[int, int] = {}
    for part in elapsed:
        for index in part.tasks:
            if index in begun:
                raise ValueError("an index has two elapsed times")
            begun[index] = part.stop
            if part.stop > part.start:
                leaf = AttemptLeaf(index, attempt, part.start, part.stop, INTERVAL)
                leaves.append(leaf.hash())
    for one in attempts:
        start = begun.get(one.index, 0) if one.attempt == attempt else 0
        leaves.append(AttemptLeaf.of(one, from_seconds=start).hash())
    return merkle.root(leaves)


def payable_seconds(ended: Iterable[Ended], stops: Mapping[int, int] | None = None) -> int:
    """Seconds that are payable at all: elapsed time (`stops`, by index), and after it of the attempts
    whose outcome is paid.
    """
    if not stops:
        return sum(one.seconds for one in ended if one.outcome in PAYABLE)
    return sum(stops.values()) + sum(
        max(0, one.seconds - stops.get(one.index, 0)) for one in ended if one.outcome in PAYABLE
    )
