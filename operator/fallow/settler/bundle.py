"""A bundle: everything about one epoch, as the archive keeps it and its commitment names it.

Canonical JSON, so that the same epoch always gives the same bytes. With a bundle and the chain
anyone can verify a claim: it holds claims in full, salts, lines and roots. A format change means
another `format`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fallow.receipts.epochs import Epoch, Line, commitment
from fallow.receipts.messages import Settlement
from fallow.receipts.terms import canonical_json
from fallow.receipts.words import from_hex, keccak, to_hex
from fallow.settler.claim_checks import CheckedClaim, Money
from fallow.settler.counting import Counted, counted
from fallow.settler.refusals import ArchiveDamaged

FORMAT = "fallow-epoch/1"


@dataclass(frozen=True)
class BundledClaim:
    """A claim in a bundle: where it is on the hub, and its spec."""

    namespace: str
    name: str
    uid: str
    spec: dict[str, Any]


@dataclass(frozen=True)
class Bundle:
    """A bundle's bytes, and what they say."""

    data: bytes

    @classmethod
    def make(cls, epoch: Epoch, claims: Sequence[CheckedClaim], *, money: Money) -> Bundle:
        """Bundle an epoch; `claims` are those it was made of, in any order."""
        by_id = {claim.claim.claim_id: claim for claim in claims}
        ordered = [by_id[claim.claim_id] for claim in epoch.claims]
        content = {
            "format": FORMAT,
            "hubId": to_hex(money.domain.hub_id),
            "chainId": money.domain.chain_id,
            "escrow": money.domain.escrow,
            "token": money.token,
            "tokenDecimals": money.decimals,
            "epoch": epoch.number,
            "previousCommitment": to_hex(epoch.previous_commitment),
            "linesHash": to_hex(keccak(epoch.packed_lines)),
            "claimsRoot": to_hex(epoch.claims_root),
            "allocationsRoot": to_hex(epoch.allocations_root),
            "lines": [
                {"payer": line.payer, "payee": line.payee, "amount": str(line.amount)} for line in epoch.lines
            ],
            "claims": [
                {
                    "namespace": claim.namespace,
                    "name": claim.name,
                    "uid": claim.uid,
                    "salt": to_hex(salt),
                    "line": epoch.line_index(index),
                    "claimLeaf": to_hex(epoch.claim_leaf(index)),
                    "allocationLeaf": to_hex(epoch.allocation_leaf(index)),
                    "spec": claim.spec,
                }
                for index, (claim, salt) in enumerate(zip(ordered, epoch.salts, strict=True))
            ],
        }
        return cls(canonical_json(content))

    @cached_property
    def hash(self) -> bytes:
        """Keccak of the bytes: the bundle's name, and the bundle hash that `settle` takes."""
        return keccak(self.data)

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

    @cached_property
    def claims(self) -> tuple[BundledClaim, ...]:
        """The epoch's claims, ordered by claim id."""
        return tuple(
            BundledClaim(claim["namespace"], claim["name"], claim["uid"], claim["spec"])
            for claim in self.content["claims"]
        )

    def counted(self) -> list[Counted]:
        """Return what its claims count as once it is settled."""
        decimals = self.content["tokenDecimals"]
        return [counted(claim.spec, decimals=decimals) for claim in self.claims]

    @cached_property
    def content(self) -> dict[str, Any]:
        """The decoded JSON. Raises ArchiveDamaged when it is none of ours."""
        try:
            content = json.loads(self.data)
        except ValueError as error:
            raise ArchiveDamaged("a bundle in the archive is no JSON") from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ArchiveDamaged("a bundle in the archive is of no format that this version reads")
        return content
