"""A bundle's text, a piece at a time: canonical JSON whose one long part is its claims.

    {"allocationsRoot":…,"chainId":…,"claims":[{…},{…},…],"claimsRoot":…,…}

Keys are sorted, so the order is always this one. Any JSON parser reads it whole; this one needs no
more memory than the longest claim takes, and for the rest reads both ends only.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO, Protocol

from fallow.receipts.terms import canonical_json
from fallow.settler.refusals import ArchiveDamaged

_CHUNK_BYTES = 1 << 20
_OPENS = b'"claims":['
_CLOSES = b'],"claimsRoot":"'
_FIRST_TAIL_BYTES = 1 << 16
_DECODER = json.JSONDecoder()


def write(
    file: BinaryIO, *, before: Mapping[str, Any], claims: Iterable[bytes], after: Mapping[str, Any]
) -> None:
    """Write a bundle; `before` and `after` are the keys that sort before and after "claims"."""
    file.write(canonical_json(before)[:-1] + b"," + _OPENS)
    file.writelines(b"," + claim if number else claim for number, claim in enumerate(claims))
    file.write(b"]," + canonical_json(after)[1:])


class Readable(Protocol):
    """What can be read piece by piece."""

    def read(self, size: int = ..., /) -> bytes:
        """Read at most so many bytes; none at the end."""


def chunks(file: Readable) -> Iterator[bytes]:
    """Read a file piece by piece."""
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk


def head(file: BinaryIO) -> dict[str, Any]:
    """Return all keys but the claims. Raises ArchiveDamaged when this is no bundle."""
    start, end = _claims_at(file)
    file.seek(0)
    text = file.read(start)
    file.seek(end)
    try:
        found = json.loads(text + file.read())
    except ValueError as error:
        raise ArchiveDamaged("a bundle in the archive is no JSON") from error
    if not isinstance(found, dict):
        raise ArchiveDamaged("a bundle in the archive is no JSON object")
    found.pop("claims", None)
    return found


def claims(file: BinaryIO) -> Iterator[dict[str, Any]]:
    """Read the claims one by one. Raises ArchiveDamaged where they are not what they have to be."""
    start, end = _claims_at(file)
    file.seek(start)
    left, buffer, at = end - start, "", 0
    decoder = codecs.getincrementaldecoder("utf-8")()
    while left or at < len(buffer):
        try:
            claim, at = _DECODER.raw_decode(buffer, at)
        except ValueError as error:  # cut off: more has to be read
            if not left:
                raise ArchiveDamaged("a claim in a bundle is no JSON") from error
            chunk = file.read(min(left, _CHUNK_BYTES))
            if not chunk:
                raise ArchiveDamaged("a bundle ends in the middle") from error
            left -= len(chunk)
            buffer, at = buffer[at:] + decoder.decode(chunk), 0
            continue
        if not isinstance(claim, dict):
            raise ArchiveDamaged("a claim in a bundle is no JSON object")
        yield claim
        if at < len(buffer):
            if buffer[at] != ",":
                raise ArchiveDamaged("claims in a bundle are not separated by commas")
            at += 1
        elif left:  # the comma is in the next piece
            file.seek(-left + end)
            if file.read(1) != b",":
                raise ArchiveDamaged("claims in a bundle are not separated by commas")
            left -= 1


def _claims_at(file: BinaryIO) -> tuple[int, int]:
    """Return where the claims begin and end, outside their brackets' inner sides."""
    file.seek(0)
    beginning = file.read(_FIRST_TAIL_BYTES)
    start = beginning.find(_OPENS)
    size, length = file.seek(0, 2), _FIRST_TAIL_BYTES
    while start >= 0:
        # NB: within a claim these bytes cannot stand: quotation marks of texts are escaped there, and
        # no part of a spec has such a key. The last occurrence is the right one in any case.
        offset = max(0, size - length)
        file.seek(offset)
        found = file.read().rfind(_CLOSES)
        if found >= 0:
            return start + len(_OPENS), offset + found
        if offset == 0:
            break
        length *= 4
    raise ArchiveDamaged("a bundle in the archive is of no format that this version reads")
