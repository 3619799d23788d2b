"""The archive as a reader has it: a directory of bundles, which of them count being told by the chain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from fallow.cli.epoch_proofs import BundleFile
from fallow.cli.proofs import Place
from fallow.errors import InvalidSetting, Malformed, MoneyError
from fallow.receipts.words import ZERO_WORD, to_hex


class Epochs(Protocol):
    """Who says what was settled: an escrow, or a ledger's Settlements."""

    def place(self) -> Place:
        """Return where the money is."""
        ...

    def last_epoch(self) -> int:
        """Return the number of the last settled epoch."""
        ...

    def commitment(self, epoch: int) -> bytes:
        """Return an epoch's commitment; zeros when it is not settled."""
        ...


class BundleMissing(MoneyError):  # noqa: N818 - says what happened, as in fallow.errors
    """The archive lacks the bundle of a settled epoch, or has another in its place."""


class BundleDirectory:
    """A directory of bundles. Files that are none, or were changed, are as good as missing."""

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():
            raise InvalidSetting(f"--archive {directory} is no directory.")
        self._by_commitment: dict[bytes, Path] = {}
        self.damaged: list[str] = []
        """Names of the files that do not hold what their name says."""
        for path in sorted(directory.glob("*.json")):
            try:
                bundle = BundleFile.of(path.read_bytes())
                if to_hex(bundle.hash) != path.stem:
                    raise Malformed("changed")
                self._by_commitment[bundle.stated_commitment] = path
            except (Malformed, KeyError, TypeError, ValueError):
                self.damaged.append(path.name)

    def find(self, commitment: bytes) -> BundleFile:
        """Return the bundle of a commitment. BundleMissing when there is none."""
        path = self._by_commitment.get(commitment)
        if path is None:
            damaged = f"; these files were changed: {', '.join(self.damaged)}" if self.damaged else ""
            raise BundleMissing(f"the archive has no bundle with commitment {to_hex(commitment)}{damaged}")
        return BundleFile.of(path.read_bytes())

    def all(self) -> Iterator[BundleFile]:
        """Return every whole bundle, settled or not."""
        for path in self._by_commitment.values():
            yield BundleFile.of(path.read_bytes())

    def settled(self, epochs: Epochs, *, last: int | None = None) -> Iterator[BundleFile]:
        """Return the bundles of epochs 1 to `last` (default: all settled), in order.

        BundleMissing when one is not there: what it paid would go unseen.
        """
        for number in range(1, (epochs.last_epoch() if last is None else last) + 1):
            found = epochs.commitment(number)
            if found == ZERO_WORD:
                return
            yield self.find(found)
