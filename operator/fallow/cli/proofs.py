"""What a verification has shown: proven, refused with a reason each, and left open.

A verifier must never say more than it checked, so every check reports to one of three lists. The
reasons are words that programs can go by; the sentences are for people.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fallow.receipts.typed_data import Domain


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the money is: what everything that is verified has to be for."""

    domain: Domain
    token: str
    decimals: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """One thing that is not as it should be."""

    reason: str
    """One CamelCase word, such as ReceiptForged."""
    sentence: str


@dataclass(slots=True)
class Report:
    """Findings in the order in which they were made."""

    proven: list[str] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    unproven: list[str] = field(default_factory=list)

    @property
    def verified(self) -> bool:
        """Whether nothing was refused."""
        return not self.refused

    def prove(self, sentence: str) -> None:
        """Note something that holds."""
        self.proven.append(sentence)

    def refuse(self, reason: str, sentence: str) -> None:
        """Note something that does not."""
        self.refused.append(Refusal(reason, sentence))

    def leave_open(self, sentence: str) -> None:
        """Note something that these data cannot show."""
        if sentence not in self.unproven:
            self.unproven.append(sentence)

    @property
    def reasons(self) -> list[str]:
        """The reasons of all refusals."""
        return [one.reason for one in self.refused]
