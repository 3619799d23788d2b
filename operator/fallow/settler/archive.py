"""The archive: append-only, content-addressed epoch bundles in a directory.

A bundle is a file named by its keccak. It is written under another name, flushed to disk, renamed
and read back, so a file with its name is whole, whatever was killed when. Bundles chain by their
commitments; which of them count, the chain (or the ledger) says, not the archive: one that was
written and never settled is only a file.
"""

from __future__ import annotations

import os
from pathlib import Path

from fallow.receipts.words import to_hex
from fallow.settler.bundle import Bundle
from fallow.settler.faults import FaultPoint, Faults
from fallow.settler.refusals import ArchiveDamaged

_SUFFIX = ".json"


class DirectoryArchive:
    """An archive in `directory`, which is created when missing."""

    def __init__(self, directory: Path, *, faults: Faults) -> None:
        self._directory = directory
        self._faults = faults
        self._by_commitment: dict[bytes, bytes] = {}
        self._followers: dict[bytes, list[bytes]] = {}
        self._known: set[str] = set()
        directory.mkdir(parents=True, exist_ok=True)
        self.scan()

    def scan(self) -> None:
        """Take in bundles that this process does not know yet, such as another settler's."""
        for path in sorted(self._directory.glob(f"*{_SUFFIX}")):
            if path.name not in self._known:
                self._index(self._read(path))

    def write(self, bundle: Bundle) -> None:
        """Keep a bundle for ever; one that is there already stays as it is.

        Raises ArchiveDamaged when what is read back is not what was written, OSError when the disk
        refuses.
        """
        path = self._path(bundle.hash)
        if not path.exists():
            temporary = path.with_suffix(".partial")
            with temporary.open("wb") as file:
                file.write(bundle.data[: len(bundle.data) // 2])
                file.flush()
                self._faults.reach(FaultPoint.BUNDLE_HALF_WRITTEN)
                file.write(bundle.data[len(bundle.data) // 2 :])
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            self._sync_directory()
        self._index(self._read(path))

    def load(self, bundle_hash: bytes) -> Bundle:
        """Return a bundle by its hash. Raises ArchiveDamaged when it is missing or changed."""
        return self._read(self._path(bundle_hash))

    def find(self, commitment: bytes) -> Bundle:
        """Return the bundle of a settled epoch. Raises ArchiveDamaged when it is missing."""
        if commitment not in self._by_commitment:
            self.scan()
        found = self._by_commitment.get(commitment)
        if found is None:
            raise ArchiveDamaged(
                f"the settled epoch with commitment {to_hex(commitment)} is not in the archive"
            )
        return self.load(found)

    def followers(self, commitment: bytes) -> list[Bundle]:
        """Return the bundles made for the epoch after the one with this commitment, sorted by hash."""
        return [self.load(found) for found in sorted(self._followers.get(commitment, []))]

    def _path(self, bundle_hash: bytes) -> Path:
        return self._directory / (to_hex(bundle_hash) + _SUFFIX)

    def _read(self, path: Path) -> Bundle:
        try:
            bundle = Bundle(path.read_bytes())
        except FileNotFoundError:
            raise ArchiveDamaged(f"the bundle {path.stem} is missing from the archive") from None
        if to_hex(bundle.hash) != path.stem:
            raise ArchiveDamaged(f"the bundle {path.stem} was changed: its content has another hash")
        return bundle

    def _index(self, bundle: Bundle) -> None:
        name = self._path(bundle.hash).name
        if name in self._known:
            return
        self._known.add(name)
        self._by_commitment[bundle.commitment] = bundle.hash
        self._followers.setdefault(bundle.settlement.previous_commitment, []).append(bundle.hash)

    def _sync_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
