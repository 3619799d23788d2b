"""What providers earned: the lines of confirmed Settlements, less what disputes gave back."""

from __future__ import annotations

from typing import Any

from fallow.hub.view import HubView

PAYEE = "0x" + "ab" * 20


def _settlement(version: int, *, state: str = "Confirmed", refunded: str | None = None) -> dict[str, Any]:
    disputes = [] if refunded is None else [{"line": 0, "refunded": refunded}]
    return {
        "metadata": {"name": "epoch-1", "uid": "u", "resourceVersion": str(version)},
        "spec": {"epoch": 1, "lines": [{"payee": PAYEE, "amount": "5.4"}]},
        "status": {"state": state, "disputes": disputes},
    }


def test_earned__confirmed_disputed_and_refunded__counts_each_change_once() -> None:
    view = HubView(decimals=6, on_lease=lambda lease: None)
    seen = []
    for obj in (
        _settlement(1, state="Submitted"),
        _settlement(2),
        _settlement(3),
        _settlement(4, refunded="0"),
        _settlement(5, refunded="1.8"),
        _settlement(6, refunded="1.8"),
    ):
        view.settlements.apply(obj)
        seen.append(view.earned[PAYEE])
    assert seen == [0, 5_400_000, 5_400_000, 5_400_000, 3_600_000, 3_600_000]
