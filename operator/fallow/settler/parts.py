"""What the steps of the settler's cycle work with, and what several of them do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from fallow.resources.naming import ANNOTATION_UNFOLDED
from fallow.settings import EpochSettings
from fallow.settler import statuses
from fallow.settler.archive import Archive
from fallow.settler.bundle import Bundle
from fallow.settler.claim_checks import Money
from fallow.settler.contract_payers import ContractPayers
from fallow.settler.faults import FaultPoint, Faults
from fallow.settler.history import History
from fallow.settler.hub_objects import HubObjects
from fallow.settler.metrics import SettlerMetrics
from fallow.settler.protocol import Payments
from fallow.settler.settlement_index import state_of, transactions_of

__all__ = ["JSON", "Parts", "state_of", "transactions_of"]

log = structlog.get_logger(__name__)

JSON = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """One settler's parts. `unix_now` gives Unix seconds, `monotonic` seconds of a clock that never steps."""

    hub: HubObjects
    payments: Payments
    archive: Archive
    history: History
    money: Money
    salt_key: bytes
    epochs: EpochSettings
    faults: Faults
    metrics: SettlerMetrics
    unix_now: Callable[[], int]
    contract_payers: ContractPayers
    monotonic: Callable[[], float]

    def now(self) -> datetime:
        """Return the time for conditions."""
        return datetime.fromtimestamp(self.unix_now(), UTC)

    async def settlement(self, bundle: Bundle, *, forgotten: bool = False) -> JSON:
        """Return the Settlement object of a bundle.

        `forgotten` marks one whose claims this hub does not know any more: it then schedules nothing
        until `fallow hub restore` has told it what was run and paid.
        """
        made = statuses.settlement_object(
            bundle,
            name=self.payments.settlement_name(bundle),
            mode=self.payments.mode,
            signature=await self.payments.signature(bundle),
        )
        if forgotten:
            made["metadata"]["annotations"] = {ANNOTATION_UNFOLDED: "true"}
        return made

    async def create(self, bundle: Bundle, *, forgotten: bool = False) -> JSON:
        """Create a bundle's Settlement, or find it created."""
        made = await self.hub.create_settlement(await self.settlement(bundle, forgotten=forgotten))
        self.faults.reach(FaultPoint.SETTLEMENT_CREATED)
        return made

    async def abandon(self, obj: JSON, reason: str, message: str) -> None:
        """Give up on a Settlement; its claims are free for another epoch."""
        done = statuses.settlement_abandoned(obj, reason=reason, message=message, now=self.now())
        await self.hub.set_status(self.hub.settlements, obj, done)
        log.warning("epoch abandoned", name=obj["metadata"]["name"], reason=reason, message=message)
