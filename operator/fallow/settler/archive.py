"""The archive: append-only, content-addressed epoch bundles in a store (a directory, a bucket).

A bundle is named by its keccak and read back after it was written, so what has its name is whole,
whatever was killed when. Bundles chain by their commitments; which of them count, the chain (or the
ledger) says, not the archive: one that was written and never settled is only a file.

Stores block: everything here that touches one does so in a thread.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import BinaryIO, Protocol

from fallow.receipts.words import from_hex, to_hex
from fallow.settler.bundle import Bundle
from fallow.settler.refusals import ArchiveDamaged

SUFFIX = ".json"
_OPEN_BUNDLES = 4


class Store(Protocol):
    """Where bundles are kept, by name. Blocking; OSError (or Retryable) when it refuses."""

    scratch: Path | None
    """A directory for temporary files of a bundle's size; None for the system's."""

    def names(self) -> list[str]:
        """Return the names of all that is kept whole, sorted."""
        ...

    def put(self, name: str, file: BinaryIO) -> None:
        """Keep what `file` reads from its beginning; a name that is there already stays as it is."""
        ...

    def get(self, name: str) -> Bundle:
        """Return what is kept under a name. FileNotFoundError when nothing is."""
        ...


class Archive:
    """The bundles of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._by_commitment: dict[bytes, bytes] = {}
        self._followers: dict[bytes, set[bytes]] = {}
        self._known: set[str] = set()
        self._open: OrderedDict[bytes, Bundle] = OrderedDict()

    def learn(self, bundle_hash: bytes, *, commitment: bytes, previous: bytes) -> None:
        """Note a bundle that a Settlement names, so that `scan` need not read it."""
        self._known.add(_name(bundle_hash))
        self._by_commitment[commitment] = bundle_hash
        self._followers.setdefault(previous, set()).add(bundle_hash)

    async def scan(self) -> None:
        """Take in bundles that this process does not know yet, such as another settler's."""
        for name in await asyncio.to_thread(self._store.names):
            if name not in self._known:
                self._index(await self._load(from_hex(name.removesuffix(SUFFIX))))

    def spool(self) -> BinaryIO:
        """Open a temporary file where there is room for a bundle."""
        return tempfile.TemporaryFile(dir=self._store.scratch)

    async def write(self, bundle: Bundle) -> Bundle:
        """Keep a bundle for ever, and return it as it was read back.

        One that is there already stays as it is. Raises ArchiveDamaged when what is read back is
        not what was written, OSError when the store refuses.
        """
        bundle_hash = await asyncio.to_thread(lambda: bundle.hash)
        with bundle.open() as file:
            await asyncio.to_thread(self._store.put, _name(bundle_hash), file)
        self._open.pop(bundle_hash, None)
        kept = await self._load(bundle_hash)
        self._index(kept)
        return kept

    async def load(self, bundle_hash: bytes) -> Bundle:
        """Return a bundle by its hash. Raises ArchiveDamaged when it is missing or changed."""
        return await self._load(bundle_hash)

    async def find(self, commitment: bytes) -> Bundle:
        """Return the bundle of a settled epoch. Raises ArchiveDamaged when it is missing."""
        if commitment not in self._by_commitment:
            await self.scan()
        found = self._by_commitment.get(commitment)
        bundle = None if found is None else await self._load(found)
        if bundle is None or bundle.commitment != commitment:
            raise ArchiveDamaged(
                f"the settled epoch with commitment {to_hex(commitment)} is not in the archive"
            )
        return bundle

    async def followers(self, commitment: bytes) -> list[Bundle]:
        """Return the bundles made for the epoch after the one with this commitment, sorted by hash."""
        return [await self._load(found) for found in sorted(self._followers.get(commitment, ()))]

    async def _load(self, bundle_hash: bytes) -> Bundle:
        # NB: a bundle that is on its way is asked for in every cycle; it is hashed once.
        bundle = self._open.get(bundle_hash)
        if bundle is None:
            bundle = await asyncio.to_thread(self._read, bundle_hash)
            self._open[bundle_hash] = bundle
            while len(self._open) > _OPEN_BUNDLES:
                self._open.popitem(last=False)
        self._open.move_to_end(bundle_hash)
        return bundle

    def _read(self, bundle_hash: bytes) -> Bundle:
        name = _name(bundle_hash)
        try:
            bundle = self._store.get(name)
            is_whole = bundle.hash == bundle_hash
        except FileNotFoundError:
            raise ArchiveDamaged(f"the bundle {to_hex(bundle_hash)} is missing from the archive") from None
        if not is_whole:
            raise ArchiveDamaged(
                f"the bundle {to_hex(bundle_hash)} was changed: its content has another hash"
            )
        return bundle

    def _index(self, bundle: Bundle) -> None:
        self.learn(bundle.hash, commitment=bundle.commitment, previous=bundle.settlement.previous_commitment)


def _name(bundle_hash: bytes) -> str:
    return to_hex(bundle_hash) + SUFFIX
