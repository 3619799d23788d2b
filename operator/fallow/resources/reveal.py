"""Commitments to results, and what opens them: how copies of a task vote without seeing each other's vote.

A copy of a replicated task reports, where others report the digest of their result, a commitment to it:

    commitment = SHA-256("fallow commitment 1" ‖ placement UID ‖ index ‖ salt ‖ digest)

It fills the digest's place in the `ended` string, so the provider's receipt covers it and it can never be
exchanged. The placement's UID in it keeps one provider from repeating another's commitment and, once that
is opened, its opening. When every copy has committed the hub asks for the openings: `index:salt:digest`.
"""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
from dataclasses import dataclass

from fallow.errors import EndedError

SALT_BYTES = 16
MAX_BYTES = 80
_FORM = re.compile(r"(0|[1-9][0-9]{0,9}):([A-Za-z0-9_-]{22}):([A-Za-z0-9_-]{43})", re.ASCII)
_PREFIX = b"fallow commitment 1"


@dataclass(frozen=True, slots=True)
class Reveal:
    """What opens the commitment of one task: its salt and the digest of its result."""

    index: int
    salt: bytes
    digest: bytes

    def __str__(self) -> str:
        return f"{self.index}:{_text(self.salt)}:{_text(self.digest)}"

    @classmethod
    def parse(cls, text: str) -> Reveal:
        """Read one string. Raises EndedError when it is not of the form."""
        match = _FORM.fullmatch(text) if len(text) <= MAX_BYTES else None
        if match is None:
            raise EndedError(f"{text[:80]!r} opens no commitment; the form is index:salt:digest")
        reveal = cls(
            int(match[1]), base64.urlsafe_b64decode(match[2] + "=="), base64.urlsafe_b64decode(match[3] + "=")
        )
        if str(reveal) != text:
            raise EndedError(f"{text!r} is not in canonical form")
        return reveal

    def commitment(self, placement_uid: str) -> bytes:
        """Return the commitment that this opens, in the placement of that UID: 32 bytes."""
        if len(self.salt) != SALT_BYTES or len(self.digest) != 32:
            raise EndedError("a salt has 16 bytes and a digest 32")
        index = self.index.to_bytes(4, "big")
        made_of = (_PREFIX, uuid.UUID(placement_uid).bytes, index, self.salt, self.digest)
        return hashlib.sha256(b"".join(made_of)).digest()


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
