"""Sets of task indexes as ranges: "0-97,100".

A job of 100,000 tasks is one short string here. Where its tasks end in no order at all, ranges could be
longer than an object may be; then a bitmap says the same in 17 kB (`compact`). Every operation costs in the
order of the number of ranges, never of indexes. `IndexRanges` is immutable; the canonical form is ascending,
disjoint and merged, so equal sets are equal values and equal strings.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import overload

from fallow.errors import RangesError
from fallow.resources.base import MAX_RANGES_BYTES

MAX_INDEX = 2**31 - 1
COMPACT_BYTES = 8_192
"""Up to this length a set is written as ranges, which people read; beyond, as a bitmap if that is shorter."""
_BITMAP = "~"
_PART = re.compile(r"(0|[1-9][0-9]{0,9})(?:-(0|[1-9][0-9]{0,9}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class IndexRanges:
    """An immutable set of indexes, kept as inclusive (first, last) pairs.

    Build one with `parse`, `of`, `span` or the set operators `|`, `-`, `&`.
    """

    pairs: tuple[tuple[int, int], ...] = ()

    @classmethod
    def parse(cls, text: str) -> IndexRanges:
        """Read "0-97,100", or what `compact` made of it; the empty string is the empty set.

        Parts must ascend and may touch ("0-4,5" reads as "0-5") but not overlap.

        Raises:
            RangesError: not of this form, out of order, overlapping, or longer than 64 KiB.
        """
        if not text:
            return EMPTY
        if len(text) > MAX_RANGES_BYTES:
            raise RangesError(f"index ranges of {len(text)} bytes; at most {MAX_RANGES_BYTES} are allowed")
        if text[0] == _BITMAP:
            return cls._of_bitmap(text)
        pairs: list[tuple[int, int]] = []
        for part in text.split(","):
            match = _PART.fullmatch(part)
            if match is None:
                raise RangesError(f"{part[:40]!r} is no index range; write e.g. 0-97,100")
            first = int(match[1])
            last = int(match[2]) if match[2] is not None else first
            if last < first or last > MAX_INDEX:
                raise RangesError(f"{part!r} runs backwards or beyond {MAX_INDEX}")
            if pairs and first <= pairs[-1][1]:
                raise RangesError(f"{part!r} is out of order or overlaps {_text(pairs[-1])!r}")
            _append(pairs, first, last)
        return cls(tuple(pairs))

    @classmethod
    def of(cls, indexes: Iterable[int]) -> IndexRanges:
        """Return the set of these indexes, in any order, repeats allowed."""
        pairs: list[tuple[int, int]] = []
        for index in sorted(set(indexes)):
            if index < 0 or index > MAX_INDEX:
                raise RangesError(f"index {index} is outside 0…{MAX_INDEX}")
            _append(pairs, index, index)
        return cls(tuple(pairs))

    @classmethod
    def span(cls, start: int, stop: int) -> IndexRanges:
        """Return the indexes start … stop−1, as `range(start, stop)` would."""
        if start < 0 or stop - 1 > MAX_INDEX:
            raise RangesError(f"{start}…{stop - 1} is outside 0…{MAX_INDEX}")
        return cls(((start, stop - 1),)) if stop > start else EMPTY

    def __str__(self) -> str:
        return ",".join(map(_text, self.pairs))

    def compact(self) -> str:
        """Return the canonical string, or a bitmap in base64url after "~" where that keeps it bounded.

        The bitmap's first byte holds the indexes 0 to 7, its lowest bit index 0.
        """
        text = str(self)
        if len(text) <= COMPACT_BYTES or not self.pairs:
            return text
        size = self.pairs[-1][1] // 8 + 1
        if size * 4 // 3 >= len(text):
            return text
        bits, at = [], 0
        for first, last in self.pairs:
            bits += ["0" * (first - at), "1" * (last - first + 1)]
            at = last + 1
        # Binary digits are turned into bytes in time linear in their number, unlike shifts of long integers.
        packed = int("".join(bits)[::-1], 2).to_bytes(size, "little")
        return _BITMAP + base64.urlsafe_b64encode(packed).decode().rstrip("=")

    @classmethod
    def _of_bitmap(cls, text: str) -> IndexRanges:
        encoded = text[1:]
        try:
            packed = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise RangesError(f"{text[:40]!r} is no bitmap in base64url") from error
        digits = bin(int.from_bytes(packed, "little"))[:1:-1]
        return cls(tuple((run.start(), run.end() - 1) for run in re.finditer("1+", digits)))

    def format(self, *, max_bytes: int = MAX_RANGES_BYTES) -> str:
        """Return the canonical string.

        Raises:
            RangesError: it would be longer than `max_bytes`.
        """
        text = str(self)
        if len(text) > max_bytes:
            raise RangesError(
                f"{len(self.pairs)} index ranges need {len(text)} bytes; {max_bytes} are allowed"
            )
        return text

    def __len__(self) -> int:
        pairs = self.pairs
        if len(pairs) == 1:  # by far the most, and asked for ten thousand times a cycle
            first, last = pairs[0]
            return last - first + 1
        return sum(last - first + 1 for first, last in pairs)

    def __bool__(self) -> bool:
        return bool(self.pairs)

    def __iter__(self) -> Iterator[int]:
        for first, last in self.pairs:
            yield from range(first, last + 1)

    def __contains__(self, index: object) -> bool:
        if not isinstance(index, int):
            return False
        low, high = 0, len(self.pairs)
        while low < high:
            middle = (low + high) // 2
            first, last = self.pairs[middle]
            if index < first:
                high = middle
            elif index > last:
                low = middle + 1
            else:
                return True
        return False

    def __or__(self, other: IndexRanges) -> IndexRanges:
        if not other.pairs or not self.pairs:
            return self if self.pairs else other
        pairs: list[tuple[int, int]] = []
        for first, last in _merge(self.pairs, other.pairs):
            _append(pairs, first, last)
        return IndexRanges(tuple(pairs))

    def __sub__(self, other: IndexRanges) -> IndexRanges:
        if not other.pairs or not self.pairs:
            return self
        pairs: list[tuple[int, int]] = []
        cuts = other.pairs
        at = 0
        for first, last in self.pairs:
            start = first
            while at < len(cuts) and cuts[at][1] < start:
                at += 1
            cut = at
            while cut < len(cuts) and cuts[cut][0] <= last:
                if cuts[cut][0] > start:
                    pairs.append((start, cuts[cut][0] - 1))
                start = max(start, cuts[cut][1] + 1)
                cut += 1
            if start <= last:
                pairs.append((start, last))
            # The last cut may reach into the next pair; those before it cannot.
            at = max(at, cut - 1)
        return IndexRanges(tuple(pairs))

    def __and__(self, other: IndexRanges) -> IndexRanges:
        pairs: list[tuple[int, int]] = []
        mine, theirs = 0, 0
        while mine < len(self.pairs) and theirs < len(other.pairs):
            first = max(self.pairs[mine][0], other.pairs[theirs][0])
            last = min(self.pairs[mine][1], other.pairs[theirs][1])
            if first <= last:
                pairs.append((first, last))
            if self.pairs[mine][1] < other.pairs[theirs][1]:
                mine += 1
            else:
                theirs += 1
        return IndexRanges(tuple(pairs))

    def take(self, count: int) -> tuple[IndexRanges, IndexRanges]:
        """Split off the `count` lowest indexes (fewer when there are fewer): (taken, rest)."""
        taken: list[tuple[int, int]] = []
        for at, (first, last) in enumerate(self.pairs):
            if count <= 0:
                return IndexRanges(tuple(taken)), IndexRanges(self.pairs[at:])
            size = last - first + 1
            if size > count:
                taken.append((first, first + count - 1))
                return IndexRanges(tuple(taken)), IndexRanges(((first + count, last), *self.pairs[at + 1 :]))
            taken.append((first, last))
            count -= size
        return IndexRanges(tuple(taken)), EMPTY


EMPTY = IndexRanges()


@overload
def parse_optional(text: str) -> IndexRanges: ...
@overload
def parse_optional(text: None) -> IndexRanges: ...
def parse_optional(text: str | None) -> IndexRanges:
    """Parse ranges where an absent field means none."""
    return IndexRanges.parse(text) if text else EMPTY


def _append(pairs: list[tuple[int, int]], first: int, last: int) -> None:
    """Add a pair that starts no lower than the last one, merging where they touch or overlap."""
    if pairs and first <= pairs[-1][1] + 1:
        pairs[-1] = (pairs[-1][0], max(pairs[-1][1], last))
    else:
        pairs.append((first, last))


def _merge(
    left: tuple[tuple[int, int], ...], right: tuple[tuple[int, int], ...]
) -> Iterator[tuple[int, int]]:
    i, j = 0, 0
    while i < len(left) and j < len(right):
        if left[i] <= right[j]:
            yield left[i]
            i += 1
        else:
            yield right[j]
            j += 1
    yield from left[i:]
    yield from right[j:]


def _text(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}-{pair[1]}"
