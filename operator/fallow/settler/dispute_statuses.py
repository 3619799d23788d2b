"""What the settler says of disputes, on Settlements and on claims: pure, from facts to status objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fallow.kube.conditions import condition, is_true, merged, rfc3339
from fallow.resources.money import format_amount
from fallow.settler.disputes import Dispute, Outcome, Status

JSON = dict[str, Any]

_STATES = {
    Status.FROZEN: "Frozen",
    Status.REVEALED: "Revealed",
    Status.NOT_REVEALED: "NotRevealed",
    Status.RULED: "Ruled",
    Status.RELEASED: "Released",
}


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of one line's dispute; `outcome` once it has ended, else None."""

    dispute: Dispute
    outcome: Outcome | None
    rejected: frozenset[bytes]
    decimals: int

    def shown(self, amount: int) -> str:
        """Return smallest units as people read them."""
        return format_amount(amount, decimals=self.decimals)


def settlement_disputed(obj: Mapping[str, Any], known: Known, *, now: datetime) -> JSON:
    """Return the status of a Settlement, one of whose lines is or was disputed."""
    status = dict(obj.get("status") or {})
    said = _line(known)
    others = [each for each in status.get("disputes") or () if each["line"] != said["line"]]
    lines = sorted([*others, said], key=lambda each: int(each["line"]))
    still = [each for each in lines if each["state"] in ("Frozen", "Revealed")]
    message = (
        f"{len(still)} of {len(lines)} disputed lines wait for leaves or for the arbiter."
        if still
        else f"All disputes ({len(lines)}) have ended."
    )
    told = condition("Disputed", bool(still), reason="Open" if still else "Ended", message=message)
    return {
        **status,
        "disputes": lines,
        "conditions": merged(status.get("conditions"), [told], now=now),
    }


def _line(known: Known) -> JSON:
    dispute = known.dispute
    outcome = known.outcome or Outcome(refunded=0, released=0)
    return {
        "line": dispute.line,
        "state": _STATES[dispute.status],
        "frozen": known.shown(dispute.frozen),
        "refunded": known.shown(outcome.refunded + dispute.refunded_twice),
        "released": known.shown(outcome.released),
        "deadline": _time(dispute.deadline),
    }


def claim_disputed(obj: Mapping[str, Any], known: Known, *, now: datetime) -> JSON:
    """Return the status of a claim whose line is or was disputed. It stays Settled either way."""
    status = dict(obj.get("status") or {})
    claim_id = bytes.fromhex(str(obj["spec"]["claimId"])[2:])
    is_open, reason, message = _of_claim(known, claim_id)
    generation = obj["metadata"].get("generation", 0)
    told = condition("Disputed", is_open, reason=reason, message=message, observed_generation=generation)
    return {**status, "conditions": merged(status.get("conditions"), [told], now=now)}


def _of_claim(known: Known, claim_id: bytes) -> tuple[bool, str, str]:
    dispute = known.dispute
    until = _time(dispute.deadline)
    frozen = f"{known.shown(dispute.frozen)} of the line's {known.shown(dispute.amount)}"
    if dispute.status is Status.FROZEN:
        return True, "Frozen", f"The payer froze {frozen}; leaves have to be revealed until {until}."
    if dispute.status is Status.REVEALED:
        return True, "Revealed", f"The arbiter rules on {frozen} until {until}; then it is released."
    if dispute.status is Status.NOT_REVEALED:
        return False, "NotRevealed", f"Nobody revealed leaves in time: {frozen} went back to the payer."
    if claim_id in known.rejected:
        return False, "Rejected", "The arbiter rejected this claim: it went back to the payer."
    if dispute.status is Status.RULED:
        return False, "Upheld", "The arbiter did not reject this claim."
    return False, "Released", "The arbiter did not rule in time: all of the line is released."


def says_open(obj: Mapping[str, Any]) -> bool:
    """Say whether a Settlement or claim says that a dispute about it is open."""
    return is_true((obj.get("status") or {}).get("conditions"), "Disputed")


def _time(unix: int) -> str:
    return rfc3339(datetime.fromtimestamp(unix, UTC))
