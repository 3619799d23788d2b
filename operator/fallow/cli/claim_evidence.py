"""What a verifier has in hand: a receipt, all that it is about, and what else somebody kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from fallow.errors import Malformed
from fallow.receipts.charging import covered_elapsed
from fallow.receipts.statements import unix_seconds
from fallow.resources.elapsed import Elapsed, parse_all
from fallow.resources.ended import Ended
from fallow.resources.money import format_amount
from fallow.resources.paymentclaim import PaymentClaimSpec
from fallow.resources.receipt import SignedReceipt
from fallow.resources.terms import Terms

ContractAccepts = Callable[[str, bytes, bytes], bool]
"""(account, digest, signature) -> whether a contract accepts it (EIP-1271)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a check may use beyond the claim itself."""

    placement: Mapping[str, Any] | None = None
    """The Placement object, where somebody kept it: it has template and tasks."""
    namespace_uid: str | None = None
    """UID of the account's namespace, where the verifier knows it."""
    other_work: tuple[tuple[str, str], ...] = ()
    """(job UID, placement UID) of other work that a receipt may have been taken from."""
    contract_accepts: ContractAccepts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A receipt with all that it is about."""

    job_uid: str
    placement_uid: str
    terms: Terms
    receipt: SignedReceipt
    covered: tuple[Ended, ...]
    """All attempts that the receipt is over."""
    elapsed: tuple[Elapsed, ...] = ()
    """All elapsed time that it is over, with interval billing; from 0."""
    attempt: int = 0
    """Number of all attempts of the placement."""
    placed_at: int | None = None
    finished_at: int | None = None
    evidence: Evidence = field(default_factory=Evidence)

    def amount(self, units: int) -> str:
        """Return units of the token for people."""
        return format_amount(units, decimals=self.terms.token_decimals)


def work_of_claim(spec: PaymentClaimSpec, evidence: Evidence) -> Work:
    """Return what a claim's receipt is about. Malformed when its attempts are none."""
    unpaid = [text for part in spec.disallowed for text in part.ended]
    elapsed = [Elapsed.parse(text) for part in spec.disallowed for text in part.elapsed]
    seen = spec.observations
    return Work(
        job_uid=spec.job.uid,
        placement_uid=spec.placement.uid,
        terms=spec.terms,
        receipt=spec.receipt,
        covered=tuple(Ended.parse(text) for text in [*spec.ended, *unpaid, *spec.unjudged]),
        elapsed=covered_elapsed(parse_all(spec.elapsed), elapsed),
        attempt=spec.attempt,
        placed_at=unix_seconds(seen.placed_at),
        finished_at=unix_seconds(seen.finished_at) if seen.finished_at else None,
        evidence=evidence,
    )


def work_of_placement(obj: Mapping[str, Any], evidence: Evidence) -> Work:
    """Return what the receipt in a Placement object is about. Malformed when it has none."""
    try:
        status = obj.get("status") or {}
        if not status.get("receipt"):
            raise Malformed("this Placement has no receipt yet")
        return Work(
            job_uid=obj["spec"]["job"]["uid"],
            placement_uid=obj["metadata"]["uid"],
            terms=Terms.model_validate(obj["spec"]["terms"]),
            receipt=SignedReceipt.model_validate(status["receipt"]),
            covered=tuple(Ended.parse(text) for text in status.get("ended") or ()),
            elapsed=parse_all(status.get("elapsed") or ()),
            attempt=int(obj["spec"]["attempt"]),
            placed_at=unix_seconds(obj["metadata"]["creationTimestamp"]),
            evidence=evidence,
        )
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise Malformed(f"this is no Placement: {str(error).splitlines()[0]}") from error
