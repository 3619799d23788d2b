"""One ended attempt as a short string: `index:attempt:seconds:outcome:digest`.

Placements carry up to 1,024 of these, so they are packed (at most 72 bytes). The same string travels from
the member's GuestSet through the Placement into the PaymentClaim and, hashed, into the receipt: there is
one spelling of it, and this module is its only reader and writer.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum

from fallow.errors import EndedError


class Outcome(StrEnum):
    """How an attempt ended, in the precedence of DESIGN.md section 4."""

    SUCCEEDED = "S"
    FAILED = "F"
    """Its own exit code, or evicted for exceeding its own storage limit."""
    TIMED_OUT = "T"
    RECLAIMED = "R"
    """The owner took the machine back."""
    LOST = "L"
    """The node or the pod vanished."""
    UNSTARTABLE = "U"
    """Image, sandbox or volume: no process of the task ever ran."""
    CANCELLED = "C"
    """Stopped because the hub said so (released, suspended or deleted job)."""

    @property
    def is_own_failure(self) -> bool:
        """Whether it counts against the job's `backoffLimitPerTask`."""
        return self in (Outcome.FAILED, Outcome.TIMED_OUT)

    @property
    def word(self) -> str:
        """The outcome for people: "Succeeded", "TimedOut"."""
        return "".join(part.capitalize() for part in self.name.split("_"))


_FORM = re.compile(
    r"(0|[1-9][0-9]{0,9}):(0|[1-9][0-9]{0,9}):(0|[1-9][0-9]{0,9}):([SFTRLUC]):([A-Za-z0-9_-]{43}|)", re.ASCII
)
MAX_BYTES = 72


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt that has ended. `digest` is the SHA-256 of its result, or empty when it left none."""

    index: int
    attempt: int
    seconds: int
    outcome: Outcome
    digest: bytes = b""

    def __str__(self) -> str:
        digest = base64.urlsafe_b64encode(self.digest).rstrip(b"=").decode() if self.digest else ""
        text = f"{self.index}:{self.attempt}:{self.seconds}:{self.outcome.value}:{digest}"
        if len(text) > MAX_BYTES:
            raise EndedError(f"an ended attempt of {len(text)} bytes: {text[:80]}")
        return text

    @classmethod
    def parse(cls, text: str) -> Ended:
        """Read one string.

        Raises:
            EndedError: not of the form, or longer than 72 bytes.
        """
        match = _FORM.fullmatch(text) if len(text) <= MAX_BYTES else None
        if match is None:
            raise EndedError(
                f"{text[:80]!r} is no ended attempt; the form is index:attempt:seconds:outcome:digest"
            )
        digest = base64.urlsafe_b64decode(match[5] + "=") if match[5] else b""
        ended = cls(int(match[1]), int(match[2]), int(match[3]), Outcome(match[4]), digest)
        if str(ended) != text:  # base64 with stray low bits: two spellings of one digest
            raise EndedError(f"{text!r} is not in canonical form")
        return ended


def result_digest(message: str | None) -> bytes:
    """Return the SHA-256 of a task's termination message, or b"" when it left none."""
    return hashlib.sha256(message.encode()).digest() if message else b""
