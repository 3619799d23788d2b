"""Fault points: every step of the epoch path at which a test may kill the settler.

The setting `fault_point` names one; the process then ends there at once, as `kill -9` would end it:
no cleanup, no flush. Unset, a point costs one comparison.
"""

from __future__ import annotations

import os
from enum import StrEnum

from fallow.errors import InvalidSetting

KILLED = 137
"""Exit status of a process that SIGKILL ended, as shells report it."""


class FaultPoint(StrEnum):
    """The steps, in the order in which an epoch passes them."""

    GATHERED = "gathered"
    BUNDLE_HALF_WRITTEN = "bundle-half-written"
    ARCHIVED = "archived"
    SETTLEMENT_CREATED = "settlement-created"
    SIMULATED = "simulated"
    SIGNED = "signed"
    RECORDED = "recorded"
    BROADCAST = "broadcast"
    CLAIMS_SUBMITTED = "claims-submitted"
    INCLUDED = "included"
    CONFIRMED = "confirmed"
    ACCOUNTS_TOLD = "accounts-told"
    FIRST_CLAIM_SETTLED = "first-claim-settled"
    CLAIMS_SETTLED = "claims-settled"
    FINISHED = "finished"


ON_CHAIN_ONLY = frozenset(
    {
        FaultPoint.SIMULATED,
        FaultPoint.SIGNED,
        FaultPoint.RECORDED,
        FaultPoint.BROADCAST,
        FaultPoint.CLAIMS_SUBMITTED,
        FaultPoint.INCLUDED,
    }
)
"""Points that ledger mode does not pass: creating the Settlement settles it."""


class DisputePoint(StrEnum):
    """The steps in which disputes are followed and answered."""

    ANSWER_SIGNED = "answer-signed"
    ANSWER_SENT = "answer-sent"
    FIRST_CLAIM_TOLD = "first-claim-told-disputed"
    CLAIMS_TOLD = "claims-told-disputed"
    SETTLEMENT_TOLD = "settlement-told-disputed"


_ALL = frozenset({*FaultPoint, *DisputePoint})


class Faults:
    """Ends the process at one point, or never."""

    def __init__(self, armed: str = "") -> None:
        if armed and armed not in _ALL:
            known = ", ".join([*FaultPoint, *DisputePoint])
            raise InvalidSetting(f"--fault-point (FALLOW_FAULT_POINT) must be one of {known}.")
        self._armed = armed

    def reach(self, point: FaultPoint | DisputePoint) -> None:
        """Die here if this is the armed point."""
        if point == self._armed:
            os._exit(KILLED)
