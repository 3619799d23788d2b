"""The settled epochs, followed from the final commitment back through the archive.

The chain (or ledger) says which epoch is the last; each bundle names the commitment before it. So
the books hold exactly what was paid, however many bundles lie in the archive unused.
"""

from __future__ import annotations

import asyncio

import structlog

from fallow.receipts.epochs import genesis_commitment
from fallow.receipts.typed_data import Domain
from fallow.settler.archive import Archive
from fallow.settler.books import Books
from fallow.settler.bundle import Bundle

log = structlog.get_logger(__name__)


class History:
    """Books that follow the chain of commitments."""

    def __init__(self, archive: Archive, domain: Domain) -> None:
        self._archive = archive
        self._genesis = genesis_commitment(domain)
        self._commitments = [self._genesis]
        self.books = Books()
        self._charges: list[dict[str, int]] = [{}]
        self.last_debited: dict[str, int] = {}
        """By payer: the last epoch that debited it."""
        self.generation = 0
        """Rises whenever final epochs were undone and everything was read anew."""

    @property
    def epochs(self) -> int:
        """How many epochs are final."""
        return len(self._commitments) - 1

    def commitment(self, epoch: int) -> bytes | None:
        """Return the commitment of a final epoch."""
        return self._commitments[epoch] if 0 <= epoch < len(self._commitments) else None

    def charges(self, epoch: int) -> dict[str, int]:
        """Return what each account was charged by a final epoch, in smallest units."""
        return self._charges[epoch]

    def commitments(self) -> list[bytes]:
        """Return the commitments of all final epochs, 1 first."""
        return self._commitments[1:]

    async def follow(self, commitment: bytes) -> None:
        """Take in every epoch up to the one with this commitment.

        Starts over when that is no successor of what is known: final blocks were undone. Raises
        ArchiveDamaged when a bundle is missing: then nothing may be settled, since what it paid
        could be paid again.
        """
        if commitment == self._commitments[-1]:
            return
        fresh: list[bytes] = []
        at = commitment
        while at not in (self._commitments[-1], self._genesis):
            fresh.append(at)
            at = (await self._archive.find(at)).settlement.previous_commitment
        if at != self._commitments[-1]:
            log.error("final epochs were undone: reading all of them again", known=self.epochs)
            self.generation += 1
            self.books, self.last_debited = Books(), {}
            self._commitments, self._charges = [self._genesis], [{}]
        for each in reversed(fresh):
            await asyncio.to_thread(self._take_in, await self._archive.find(each))

    def _take_in(self, bundle: Bundle) -> None:
        """Count an epoch. NB: nothing of it counts unless all of it could be read."""
        charges: dict[str, int] = {}
        paid = list(bundle.counted())
        for one in paid:
            self.books.add(one)
            charges[one.account] = charges.get(one.account, 0) + one.amount
        self.last_debited |= {one.payer: bundle.settlement.epoch for one in paid}
        self._charges.append(charges)
        self._commitments.append(bundle.commitment)
