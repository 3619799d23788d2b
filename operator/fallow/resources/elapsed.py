"""Seconds of attempts that are final before the attempt has ended: `from-to:indexes`, "600-1200:0-3,7".

With `billing: PerInterval` a provider signs for every interval that has gone by, and is paid for it whatever
becomes of the attempt. One string stands for all indexes of a placement with the same seconds, and each
report replaces the one before (its `from` is 0): the record grows with the tasks, not with time. In a claim,
`from` is what earlier claims charged. This module is the strings' only reader and writer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fallow.errors import ElapsedError, RangesError
from fallow.resources.ranges import IndexRanges

_FORM = re.compile(r"(0|[1-9][0-9]{0,9})-(0|[1-9][0-9]{0,9}):([0-9,-]+)", re.ASCII)
MAX_BYTES = 8_192
"""Of one string: the indexes of a whole placement, one by one."""


@dataclass(frozen=True, slots=True)
class Elapsed:
    """Seconds [start, stop) of the own running time of each of `tasks`."""

    start: int
    stop: int
    tasks: IndexRanges

    @property
    def seconds(self) -> int:
        """Seconds of all of them together."""
        return (self.stop - self.start) * len(self.tasks)

    def __str__(self) -> str:
        return f"{self.start}-{self.stop}:{self.tasks}"

    @classmethod
    def parse(cls, text: str) -> Elapsed:
        """Read one string.

        Raises:
            ElapsedError: not of the form, of no index, or one that ends before it starts.
        """
        match = _FORM.fullmatch(text) if len(text) <= MAX_BYTES else None
        if match is None:
            raise ElapsedError(f"{text[:80]!r} is no elapsed time; the form is from-to:indexes")
        try:
            found = cls(int(match[1]), int(match[2]), IndexRanges.parse(match[3]))
        except RangesError as error:
            raise ElapsedError(f"{text[:80]!r}: {error}") from error
        if found.stop < found.start or str(found) != text:
            raise ElapsedError(f"{text[:80]!r} runs backwards, or is not in canonical form")
        return found


def parse_all(texts: Iterable[str]) -> tuple[Elapsed, ...]:
    """Read a record. Raises ElapsedError, also when an index is in two of its strings."""
    found = tuple(Elapsed.parse(text) for text in texts)
    if sum(len(one.tasks) for one in found) != len(stops_of(found)):
        raise ElapsedError("an index has two elapsed times")
    return found


def stops_of(elapsed: Iterable[Elapsed]) -> dict[int, int]:
    """Return by index up to which second its time is final."""
    return {index: one.stop for one in elapsed for index in one.tasks}


def packed(stops: Mapping[int, int], starts: Mapping[int, int] | None = None) -> tuple[Elapsed, ...]:
    """Return the shortest record that says this; an index that `starts` lacks starts at 0."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, stop in stops.items():
        groups.setdefault(((starts or {}).get(index, 0), stop), []).append(index)
    return tuple(
        Elapsed(start, stop, IndexRanges.of(tasks)) for (start, stop), tasks in sorted(groups.items())
    )
