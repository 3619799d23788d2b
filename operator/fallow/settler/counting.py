"""What a claim takes out of the world once: attempts, their seconds, successes, and somebody's money."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fallow.receipts.words import checksummed
from fallow.resources.elapsed import Elapsed, packed, parse_all, stops_of
from fallow.resources.ended import Ended, Outcome
from fallow.resources.money import parse_amount
from fallow.resources.ranges import IndexRanges

FOR_GOOD = 2**62
"""Where the time of an ended attempt ends: nothing more of it is ever paid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What is counted of one claim."""

    claim_id: bytes
    job_uid: str
    attempt: int
    indexes: IndexRanges
    """Those whose ended attempt is paid."""
    succeeded: IndexRanges
    replicas: int
    owner: str
    """Who owns the provider: of a replicated index each owner is paid one success."""
    payer: str
    account: str
    """namespace/name."""
    amount: int
    receipt: bytes = b""
    """The first bytes of its receipt's signature: a second placement with it is a replay."""
    spans: tuple[Elapsed, ...] = ()
    """With interval billing: the seconds that are paid; those of ended attempts reach to FOR_GOOD."""


def counted(spec: Mapping[str, Any], *, decimals: int) -> Counted:
    """Return what a claim's spec (as on the wire, or in a bundle) counts as once it is paid."""
    ended = [Ended.parse(text) for text in spec["ended"]]
    terms = spec["terms"]
    return Counted(
        claim_id=bytes.fromhex(spec["claimId"][2:]),
        job_uid=spec["job"]["uid"],
        attempt=spec["attempt"],
        indexes=IndexRanges.of(one.index for one in ended),
        succeeded=IndexRanges.of(one.index for one in ended if one.outcome is Outcome.SUCCEEDED),
        replicas=terms.get("replicas", 1),
        owner=terms.get("ownerId", ""),
        payer=checksummed(terms["account"]["payer"]),
        account=f"{terms['accountNamespace']}/{terms['accountName']}",
        amount=parse_amount(spec["amount"], decimals=decimals),
        receipt=receipt_mark(spec),
        spans=_spans(spec, ended) if terms.get("billing") == "PerInterval" else (),
    )


def receipt_mark(spec: Mapping[str, Any]) -> bytes:
    """Return by which 8 bytes the receipt of a claim's spec is remembered."""
    return bytes.fromhex(spec["receipt"]["signature"][2:18])


def _spans(spec: Mapping[str, Any], ended: list[Ended]) -> tuple[Elapsed, ...]:
    elapsed = parse_all(spec.get("elapsed") or ())
    stops = stops_of(elapsed)
    tails = packed(
        {one.index: FOR_GOOD for one in ended}, {one.index: stops.get(one.index, 0) for one in ended}
    )
    return (*(one for one in elapsed if one.stop > one.start), *tails)
