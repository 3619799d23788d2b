"""What claims and Settlements say of disputes, by how the dispute stands."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from fallow.kube.conditions import find
from fallow.settler.dispute_statuses import Known, claim_disputed, says_open, settlement_disputed
from fallow.settler.disputes import Dispute, Outcome, Status

NOW = datetime(2026, 11, 1, tzinfo=UTC)
MINE, OTHER = b"\1" * 32, b"\2" * 32
FROZEN = Dispute(
    epoch=7, line=3, payer="0x01", payee="0x02", amount=5_400_000, frozen=1_800_000, bond=5_000_000,
    revealed=0, deadline=1_800_000_000, status=Status.FROZEN, last_claim_id=bytes(32), refunded_twice=0,
)  # fmt: skip


def _known(status: Status, *, rejected: frozenset[bytes] = frozenset(), refunded: int = 0) -> Known:
    ended = None if status in (Status.FROZEN, Status.REVEALED) else Outcome(refunded=refunded, released=0)
    return Known(dispute=replace(FROZEN, status=status), outcome=ended, rejected=rejected, decimals=6)


def _claim(claim_id: bytes = MINE) -> dict[str, Any]:
    return {
        "metadata": {"generation": 1},
        "spec": {"claimId": "0x" + claim_id.hex()},
        "status": {"state": "Settled"},
    }


@pytest.mark.parametrize(
    ("known", "open_", "reason"),
    [
        (_known(Status.FROZEN), "True", "Frozen"),
        (_known(Status.REVEALED), "True", "Revealed"),
        (_known(Status.NOT_REVEALED), "False", "NotRevealed"),
        (_known(Status.RULED, rejected=frozenset({MINE})), "False", "Rejected"),
        (_known(Status.RULED, rejected=frozenset({OTHER})), "False", "Upheld"),
        (_known(Status.RELEASED), "False", "Released"),
    ],
)
def test_claim__by_how_its_line_stands__says_so_and_stays_settled(
    known: Known, open_: str, reason: str
) -> None:
    status = claim_disputed(_claim(), known, now=NOW)
    said = find(status["conditions"], "Disputed")
    assert said is not None
    assert (said["status"], said["reason"], status["state"]) == (open_, reason, "Settled")


def test_claim__told_again__is_the_same_status() -> None:
    once = claim_disputed(_claim(), _known(Status.FROZEN), now=NOW)
    again = claim_disputed({**_claim(), "status": once}, _known(Status.FROZEN), now=NOW.replace(hour=5))
    assert again == once


def test_settlement__two_lines_one_of_them_over__is_open_and_lists_both_by_number() -> None:
    first = settlement_disputed({"status": {}}, _known(Status.FROZEN), now=NOW)
    ended = _known(Status.RULED, refunded=1_800_000)
    other = replace(ended, dispute=replace(ended.dispute, line=1, refunded_twice=600_000))
    both = settlement_disputed({"status": first}, other, now=NOW)
    assert [(one["line"], one["state"], one["refunded"]) for one in both["disputes"]] == [
        (1, "Ruled", "2.4"),
        (3, "Frozen", "0"),
    ]
    assert says_open({"status": both})
    over = settlement_disputed({"status": both}, _known(Status.RELEASED), now=NOW)
    assert not says_open({"status": over})
