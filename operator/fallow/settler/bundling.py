"""An epoch made of held claims: read again in full, spooled, hashed into leaves, bundled, archived.

What is in memory of an epoch is its leaves; the specs go from the API server to a temporary file and
from there into the bundle.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import BinaryIO

from fallow.errors import Conflict, FallowError
from fallow.receipts.epochs import Claim, Epoch, Line, lines_of_sums, pack_lines
from fallow.receipts.messages import Settlement
from fallow.receipts.terms import canonical_json
from fallow.receipts.words import keccak
from fallow.settler.bundle import Bundle, BundlePart, write_bundle
from fallow.settler.claim_checks import claim_of
from fallow.settler.parts import Parts
from fallow.settler.protocol import Position
from fallow.settler.refusals import ClaimRefused
from fallow.settler.shelf import HeldClaim


def draft(chosen: Sequence[HeldClaim], *, position: Position) -> tuple[Settlement, Sequence[Line]]:
    """Return what would be settled, as far as it can fail: its lines, without roots and bundle."""
    sums: dict[tuple[str, str], int] = {}
    for claim in chosen:
        pair = claim.paid_as.payer, claim.payee
        sums[pair] = sums.get(pair, 0) + claim.paid_as.amount
    lines = lines_of_sums(sums)
    settlement = Settlement(
        epoch=position.epoch + 1,
        previous_commitment=position.commitment,
        lines_hash=keccak(pack_lines(lines)),
        claims_root=bytes(32),
        allocations_root=bytes(32),
        bundle_hash=bytes(32),
    )
    return settlement, lines


async def bundle_up(chosen: Sequence[HeldClaim], *, position: Position, parts: Parts) -> Bundle:
    """Bundle and archive the epoch of these claims; returns the bundle as the archive read it back.

    Raises Conflict when one of them is gone or changed.
    """
    with parts.archive.spool() as specs, parts.archive.spool() as bundle:
        places: dict[bytes, tuple[HeldClaim, int, int]] = {}
        claims: list[Claim] = []
        at = 0
        async for held, obj in parts.hub.read_claims(chosen):
            try:
                claim, text = claim_of(obj), canonical_json(obj["spec"])
            except (ValueError, FallowError) as error:
                held.refusal, held.counted = ClaimRefused("Malformed", str(error)), None
                raise Conflict(f"claim {held.name} has no place in a bundle: {error}", status=409) from error
            specs.write(text)
            places[claim.claim_id] = held, at, len(text)
            claims.append(claim)
            at += len(text)
        specs.flush()

        def write() -> None:
            epoch = Epoch.of(
                claims,
                domain=parts.money.domain,
                number=position.epoch + 1,
                previous_commitment=position.commitment,
                salt_key=parts.salt_key,
            )
            entries = [_part(*places[claim.claim_id], specs=specs) for claim in epoch.claims]
            write_bundle(bundle, epoch, entries, money=parts.money)
            bundle.flush()

        # NB: in a thread, since it takes seconds, and the lease has to be renewed meanwhile.
        await asyncio.to_thread(write)
        return await parts.archive.write(Bundle(opened=lambda: _again(bundle)))


def _part(held: HeldClaim, at: int, length: int, *, specs: BinaryIO) -> BundlePart:
    return BundlePart(
        namespace=held.namespace,
        name=held.name,
        uid=held.uid,
        spec=lambda: os.pread(specs.fileno(), length, at),
    )


def _again(file: BinaryIO) -> BinaryIO:
    """Open a temporary file once more, from its beginning."""
    opened = os.fdopen(os.dup(file.fileno()), "rb")
    opened.seek(0)
    return opened
