"""An archive in a directory.

A bundle is written under another name, flushed to disk and renamed, so a file with its name is
whole.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from fallow.settler import bundle_text
from fallow.settler.archive import SUFFIX
from fallow.settler.bundle import Bundle
from fallow.settler.faults import FaultPoint, Faults


class DirectoryStore:
    """Bundles as files of `directory`, which is created when missing."""

    def __init__(self, directory: Path, *, faults: Faults) -> None:
        self.scratch: Path | None = directory
        self._directory = directory
        self._faults = faults
        directory.mkdir(parents=True, exist_ok=True)

    def names(self) -> list[str]:
        """Return the names of all bundles."""
        return sorted(path.name for path in self._directory.glob(f"*{SUFFIX}"))

    def put(self, name: str, file: BinaryIO) -> None:
        """Write a bundle, unless it is there."""
        path = self._directory / name
        if path.exists():
            return
        temporary = path.with_suffix(".partial")
        with temporary.open("wb") as copy:
            for number, chunk in enumerate(bundle_text.chunks(file)):
                half = len(chunk) // 2 if number == 0 else 0
                copy.write(chunk[:half])
                copy.flush()
                self._faults.reach(FaultPoint.BUNDLE_HALF_WRITTEN)
                copy.write(chunk[half:])
            copy.flush()
            os.fsync(copy.fileno())
        temporary.replace(path)
        self._sync()

    def get(self, name: str) -> Bundle:
        """Return a bundle; FileNotFoundError when it is not there."""
        path = self._directory / name
        return Bundle(opened=lambda: path.open("rb"))

    def _sync(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
