"""A bundle: everything about one epoch, as the archive keeps it and its commitment names it.

Canonical JSON, so that the same epoch always gives the same bytes. With a bundle and the chain
anyone can verify a claim: it holds claims in full, salts, lines and roots. A format change means
another `format`.

An epoch of ten thousand claims makes a bundle of tens of megabytes. So a bundle is written claim by
claim and read claim by claim (`bundle_text`); what is kept of it in memory is all but its claims.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO

from fallow.receipts.epochs import Epoch, Line, commitment
from fallow.receipts.messages import Settlement
from fallow.receipts.terms import canonical_json
from fallow.receipts.words import from_hex, keccak, keccak_of, to_hex
from fallow.settler import bundle_text
from fallow.settler.claim_checks import CheckedClaim, Money
from fallow.settler.counting import Counted, counted
from fallow.settler.refusals import ArchiveDamaged

FORMAT = "fallow-epoch/1"


@dataclass(frozen=True, slots=True)
class BundledClaim:
    """A claim in a bundle: where it is on the hub, and its spec."""

    namespace: str
    name: str
    uid: str
    spec: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Named:
    """A claim's object on the hub, and by whom it is."""

    namespace: str
    name: str
    uid: str
    provider: str

    @property
    def key(self) -> tuple[str, str]:
        """(namespace, name)."""
        return self.namespace, self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class BundlePart:
    """What goes into a bundle of one claim; `spec` gives its canonical JSON when it is written."""

    namespace: str
    name: str
    uid: str
    spec: Callable[[], bytes]


def write_bundle(file: BinaryIO, epoch: Epoch, parts: Sequence[BundlePart], *, money: Money) -> None:
    """Write an epoch's bundle; `parts` are its claims in the order of `epoch.claims`."""
    before = {"allocationsRoot": to_hex(epoch.allocations_root), "chainId": money.domain.chain_id}
    after = {
        "claimsRoot": to_hex(epoch.claims_root),
        "epoch": epoch.number,
        "escrow": money.domain.escrow,
        "format": FORMAT,
        "hubId": to_hex(money.domain.hub_id),
        "lines": [
            {"payer": line.payer, "payee": line.payee, "amount": str(line.amount)} for line in epoch.lines
        ],
        "linesHash": to_hex(keccak(epoch.packed_lines)),
        "previousCommitment": to_hex(epoch.previous_commitment),
        "token": money.token,
        "tokenDecimals": money.decimals,
    }
    bundle_text.write(
        file,
        before=before,
        claims=(_claim_text(epoch, index, part) for index, part in enumerate(parts)),
        after=after,
    )


def _claim_text(epoch: Epoch, index: int, part: BundlePart) -> bytes:
    before = {
        "allocationLeaf": to_hex(epoch.allocation_leaf(index)),
        "claimLeaf": to_hex(epoch.claim_leaf(index)),
        "line": epoch.line_index(index),
        "name": part.name,
        "namespace": part.namespace,
        "salt": to_hex(epoch.salts[index]),
    }
    return b'%s,"spec":%s,"uid":%s}' % (canonical_json(before)[:-1], part.spec(), canonical_json(part.uid))


class Bundle:
    """A bundle: its bytes (or, with `opened`, how to open them), and what they say."""

    def __init__(self, data: bytes = b"", *, opened: Callable[[], BinaryIO] | None = None) -> None:
        self._opened = opened or (lambda: io.BytesIO(data))

    @classmethod
    def make(cls, epoch: Epoch, claims: Sequence[CheckedClaim], *, money: Money) -> Bundle:
        """Bundle a small epoch in memory; `claims` are those it was made of, in any order."""
        by_id = {claim.claim.claim_id: claim for claim in claims}
        parts = [
            BundlePart(
                namespace=one.namespace,
                name=one.name,
                uid=one.uid,
                spec=lambda spec=one.spec: canonical_json(spec),  # type: ignore[misc]
            )
            for one in (by_id[claim.claim_id] for claim in epoch.claims)
        ]
        file = io.BytesIO()
        write_bundle(file, epoch, parts, money=money)
        return cls(file.getvalue())

    def open(self) -> BinaryIO:
        """Open its bytes for reading."""
        return self._opened()

    @property
    def data(self) -> bytes:
        """All of its bytes at once."""
        with self.open() as file:
            return file.read()

    @cached_property
    def hash(self) -> bytes:
        """Keccak of the bytes: the bundle's name, and the bundle hash that `settle` takes."""
        with self.open() as file:
            return keccak_of(bundle_text.chunks(file))

    @cached_property
    def settlement(self) -> Settlement:
        """The epoch as it is committed to."""
        content = self.content
        return Settlement(
            epoch=content["epoch"],
            previous_commitment=from_hex(content["previousCommitment"]),
            lines_hash=from_hex(content["linesHash"]),
            claims_root=from_hex(content["claimsRoot"]),
            allocations_root=from_hex(content["allocationsRoot"]),
            bundle_hash=self.hash,
        )

    @cached_property
    def commitment(self) -> bytes:
        """The epoch's commitment."""
        return commitment(self.settlement)

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """The epoch's lines."""
        return tuple(
            Line(line["payer"], line["payee"], int(line["amount"])) for line in self.content["lines"]
        )

    def entries(self) -> Iterator[dict[str, Any]]:
        """Read all that the bundle says of each claim, ordered by claim id."""
        with self.open() as file:
            yield from bundle_text.claims(file)

    def claims(self) -> Iterator[BundledClaim]:
        """Read the epoch's claims, ordered by claim id."""
        for claim in self.entries():
            yield BundledClaim(claim["namespace"], claim["name"], claim["uid"], claim["spec"])

    @cached_property
    def named(self) -> tuple[Named, ...]:
        """Where the epoch's claims are on the hub, ordered by claim id."""
        return tuple(
            Named(claim.namespace, claim.name, claim.uid, claim.spec["terms"]["provider"])
            for claim in self.claims()
        )

    def counted(self) -> Iterator[Counted]:
        """Read what its claims count as once it is settled."""
        decimals = self.content["tokenDecimals"]
        for claim in self.claims():
            yield counted(claim.spec, decimals=decimals)

    @cached_property
    def content(self) -> dict[str, Any]:
        """All but the claims. Raises ArchiveDamaged when it is none of ours."""
        with self.open() as file:
            content = bundle_text.head(file)
        if content.get("format") != FORMAT:
            raise ArchiveDamaged("a bundle in the archive is of no format that this version reads")
        return content
