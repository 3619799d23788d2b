"""Checks of a whole epoch: its bundle is what was committed to, and its claims sum to its lines.

All leaves, roots, lines and the commitment are computed anew from the claims; what the bundle says
of them is only compared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from fallow.cli.claim_evidence import Evidence
from fallow.cli.claim_proofs import check_claim
from fallow.cli.proofs import Place, Report
from fallow.errors import FallowError, Malformed
from fallow.receipts.attempts import attempts_root
from fallow.receipts.epochs import Claim, Epoch, commitment
from fallow.receipts.messages import Settlement
from fallow.receipts.statements import domain_of, quote_hash, receipt_hash
from fallow.receipts.words import ZERO_WORD, checksummed, from_hex, keccak, to_hex
from fallow.resources.elapsed import parse_all
from fallow.resources.ended import Ended, Outcome
from fallow.resources.money import format_amount, parse_amount
from fallow.resources.paymentclaim import PaymentClaimSpec
from fallow.resources.ranges import EMPTY, IndexRanges

FORMAT = "fallow-epoch/1"
_FOR_GOOD = 2**62


@dataclass(frozen=True, slots=True)
class BundleFile:
    """A bundle's bytes and the JSON in them."""

    data: bytes
    content: dict[str, Any]

    @classmethod
    def of(cls, data: bytes) -> BundleFile:
        """Read a bundle. Malformed when it is none of a known format."""
        try:
            content = json.loads(data)
        except ValueError:
            raise Malformed("the bundle is no JSON") from None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise Malformed(f"the bundle's format is not {FORMAT}")
        return cls(data, content)

    @property
    def hash(self) -> bytes:
        """Keccak of the bytes: the bundle hash in the commitment, and the file's name."""
        return keccak(self.data)

    @property
    def epoch(self) -> int:
        """Number of the epoch that it says it is of."""
        return int(self.content["epoch"])

    @property
    def claims(self) -> Sequence[Mapping[str, Any]]:
        """Its claims, as it has them."""
        claims: Sequence[Mapping[str, Any]] = self.content["claims"]
        return claims

    @property
    def stated_commitment(self) -> bytes:
        """The commitment of what its head says; what it is worth, `check_epoch` finds out."""
        head = self.content
        return commitment(
            Settlement(
                epoch=head["epoch"],
                previous_commitment=from_hex(head["previousCommitment"]),
                lines_hash=from_hex(head["linesHash"]),
                claims_root=from_hex(head["claimsRoot"]),
                allocations_root=from_hex(head["allocationsRoot"]),
                bundle_hash=self.hash,
            )
        )


@dataclass(slots=True)
class Seen:
    """What earlier epochs (and earlier claims of this one) were paid for."""

    epochs: int = 0
    claims: dict[str, int] = field(default_factory=dict)
    """Claim id -> epoch."""
    attempts: dict[tuple[str, int], IndexRanges] = field(default_factory=dict)
    """By job UID and attempt number."""
    seconds: dict[tuple[str, int], dict[int, list[tuple[int, int]]]] = field(default_factory=dict)
    """With interval billing: what was paid of each index, by job UID and attempt number."""
    successes: dict[str, list[IndexRanges]] = field(default_factory=dict)
    """By job; entry k holds the indexes with more than k paid successes."""

    def add(self, spec: Mapping[str, Any], epoch: int, report: Report) -> None:
        """Count a claim, and refuse what was paid before."""
        ended = [Ended.parse(text) for text in spec["ended"]]
        job, number = spec["job"]["uid"], int(spec["attempt"])
        if spec["claimId"] in self.claims:
            before = self.claims[spec["claimId"]]
            report.refuse("ClaimTwice", f"Claim {spec['claimId']} was paid in epoch {before} before.")
            return
        self.claims[spec["claimId"]] = epoch
        indexes = IndexRanges.of({one.index for one in ended})
        known = self.attempts.get((job, number), EMPTY)
        if known & indexes:
            report.refuse("AttemptTwice", f"Attempt {number} of index {known & indexes} was paid before.")
        self.attempts[job, number] = known | indexes
        self._add_seconds(spec, ended, report)
        again = IndexRanges.of({one.index for one in ended if one.outcome is Outcome.SUCCEEDED})
        layers = self.successes.setdefault(job, [])
        for depth, layer in enumerate(layers):
            layers[depth], again = layer | again, layer & again
        if again:
            layers.append(again)
            if len(layers) > spec["terms"].get("replicas", 1):
                report.refuse("SecondSuccess", f"A success of index {again} was paid before.")

    def _add_seconds(self, spec: Mapping[str, Any], ended: Sequence[Ended], report: Report) -> None:
        """Count the seconds of attempts that are billed by the interval, and refuse those paid before."""
        if spec["terms"].get("billing", "PerTask") != "PerInterval":
            return
        known = self.seconds.setdefault((spec["job"]["uid"], int(spec["attempt"])), {})
        stops: dict[int, int] = {}
        wanted: list[tuple[int, int, int]] = []
        for part in parse_all(spec.get("elapsed") or ()):
            stops |= dict.fromkeys(part.tasks, part.stop)
            wanted += [(index, part.start, part.stop) for index in part.tasks if part.stop > part.start]
        # NB: after its end nothing of an attempt is left to be paid, whatever it says its seconds were.
        wanted += [(one.index, stops.get(one.index, 0), _FOR_GOOD) for one in ended]
        for index, start, stop in wanted:
            paid = known.setdefault(index, [])
            if any(begun < stop and start < over for begun, over in paid):
                report.refuse(
                    "SecondsTwice", f"Seconds of attempt {spec['attempt']} of index {index} were paid before."
                )
            paid.append((start, stop))


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """What the chain (or a ledger) says about an epoch."""

    epoch: int
    previous: bytes
    commitment: bytes
    """Zeros when it is not settled."""


def check_epoch(bundle: BundleFile, place: Place, committed: Committed, report: Report) -> Epoch | None:
    """Check that a bundle is what was committed to; return it recomputed, or None when it cannot be."""
    content = bundle.content
    try:
        said = (content["hubId"], content["chainId"], checksummed(content["escrow"]))
        epoch = _recomputed(content, place)
        lines = [
            (checksummed(one["payer"]), checksummed(one["payee"]), int(one["amount"]))
            for one in content["lines"]
        ]
        settlement = epoch.settlement(bundle.hash)
    except (FallowError, ValidationError, KeyError, TypeError, ValueError) as error:
        report.refuse("BundleTampered", f"The bundle does not hold together: {_first_line(error)}.")
        return None
    domain = place.domain
    for reason, found, wanted in (
        ("ForeignHub", said[0], to_hex(domain.hub_id)),
        ("ForeignChain", said[1], domain.chain_id),
        ("ForeignEscrow", said[2], checksummed(domain.escrow)),
    ):
        if found != wanted:
            report.refuse(reason, f"The bundle is of {found}, not of {wanted}.")
    for what, stated, computed in (
        ("lines hash", content["linesHash"], keccak(epoch.packed_lines)),
        ("claims root", content["claimsRoot"], epoch.claims_root),
        ("allocations root", content["allocationsRoot"], epoch.allocations_root),
    ):
        if stated != to_hex(computed):
            report.refuse("BundleTampered", f"Its claims give another {what} than the bundle states.")
    if lines != [(one.payer, one.payee, one.amount) for one in epoch.lines]:
        report.refuse("LinesDiffer", "The lines are not the sums of the claims.")
    found = commitment(settlement)
    if committed.commitment == ZERO_WORD:
        report.refuse("NotSettled", f"Epoch {committed.epoch} is not settled: there is no commitment to it.")
    elif found != committed.commitment:
        report.refuse(
            "BundleTampered",
            f"Epoch {committed.epoch} is committed to as {to_hex(committed.commitment)}; this bundle makes "
            f"{to_hex(found)}: it is not what was settled.",
        )
    if committed.previous != settlement.previous_commitment:
        report.refuse("ChainBroken", f"The bundle does not follow epoch {committed.epoch - 1}.")
    if report.verified:
        total = format_amount(sum(one.amount for one in epoch.lines), decimals=place.decimals)
        report.prove(
            f"The bundle {to_hex(bundle.hash)} is exactly what epoch {committed.epoch} committed to "
            f"({to_hex(found)}), on top of epoch {committed.epoch - 1}."
        )
        report.prove(
            f"Its {len(epoch.claims)} claims are leaves of the claims root and sum to its {len(epoch.lines)} "
            f"lines, {total} in all; on a chain the escrow debited and credited those lines itself."
        )
    return epoch


def check_claim_of(bundle: BundleFile, index: int, place: Place, evidence: Evidence, report: Report) -> None:
    """Check one claim of a bundle by itself."""
    entry = bundle.claims[index]
    specs = [one["spec"] for at, one in enumerate(bundle.claims) if at != index]
    others = tuple((spec["job"]["uid"], spec["placement"]["uid"]) for spec in specs[:64])
    found = Report()
    check_claim(entry["spec"], place, replace(evidence, other_work=others), found)
    name = f"{entry['namespace']}/{entry['name']}"
    for refusal in found.refused:
        report.refuse(refusal.reason, f"Claim {name}: {refusal.sentence}")
    report.proven.extend(found.proven)
    for sentence in found.unproven:
        report.leave_open(sentence)


def _recomputed(content: Mapping[str, Any], place: Place) -> Epoch:
    claims = []
    for entry in content["claims"]:
        spec = PaymentClaimSpec.model_validate(entry["spec"])
        terms = spec.terms
        ids = {"job_uid": spec.job.uid, "placement_uid": spec.placement.uid}
        claims.append(
            Claim(
                claim_id=from_hex(spec.claim_id),
                provider=terms.provider,
                quote_hash=quote_hash(terms.quote, domain=domain_of(terms)),
                receipt_hash=receipt_hash(spec.receipt, terms=terms, **ids),
                attempts_root=attempts_root(
                    [Ended.parse(text) for text in spec.ended], parse_all(spec.elapsed), attempt=spec.attempt
                ),
                payer=checksummed(terms.account.payer),
                payee=checksummed(terms.quote.payee),
                total_seconds=spec.seconds,
                price_per_task_hour=parse_amount(terms.price_per_task_hour, decimals=terms.token_decimals),
                amount=parse_amount(spec.amount, decimals=terms.token_decimals),
                **ids,
            )
        )
    ids_in_order = [one.claim_id for one in claims]
    if ids_in_order != sorted(ids_in_order):
        raise Malformed("its claims are not in the order of their ids")
    return Epoch(
        domain=place.domain,
        number=int(content["epoch"]),
        previous_commitment=from_hex(content["previousCommitment"]),
        claims=tuple(claims),
        salts=tuple(from_hex(entry["salt"]) for entry in content["claims"]),
    )


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
