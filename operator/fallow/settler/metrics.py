"""The settler's own metrics."""

from __future__ import annotations

from collections import Counter as Tally

from prometheus_client import Counter, Gauge

from fallow.settler.bundle import Bundle
from fallow.settler.endpoints import Standing
from fallow.settler.gathering import Gathered
from fallow.settler.protocol import Position, Settled
from fallow.settler.refusals import ClaimRefused
from fallow.telemetry import Telemetry


class SettlerMetrics:
    """What the settler counts, in the process's registry."""

    def __init__(self, telemetry: Telemetry) -> None:
        registry = telemetry.registry
        self._epoch = Gauge("fallow_epoch", "Last epoch that is final.", registry=registry)
        self._block = Gauge("fallow_block", "Newest block that counts as final.", registry=registry)
        self._epochs = Counter("fallow_epochs_settled", "Epochs brought to their end.", registry=registry)
        self._claims = Counter("fallow_claims_settled", "Claims settled.", registry=registry)
        self._refused = Counter("fallow_claims_refused", "Claims refused.", ["reason"], registry=registry)
        self._waiting = Gauge("fallow_claims_waiting", "Claims that wait.", ["reason"], registry=registry)
        self._gas = Counter("fallow_gas_used", "Gas that settlements used.", registry=registry)
        self._failures = Counter(
            "fallow_settler_cycle_failures", "Cycles that ended early.", ["error"], registry=registry
        )
        self._fee = Gauge(
            "fallow_fee_wei", "Fee per gas that gets a transaction into the next blocks.", registry=registry
        )
        self._above = Gauge(
            "fallow_fee_above_ceiling", "1 while an epoch waits because fees are too high.", registry=registry
        )
        self._endpoints = Gauge(
            "fallow_rpc_endpoint_good",
            "1 for RPC endpoints that are believed.",
            ["endpoint"],
            registry=registry,
        )
        self._behind = Gauge(
            "fallow_rpc_endpoint_blocks_behind", "Blocks behind the foremost endpoint.", ["endpoint"],
            registry=registry,
        )  # fmt: skip
        self._undone = Gauge(
            "fallow_epochs_undone", "1 while a final epoch is not on the chain any more.", registry=registry
        )
        self._foreign = Gauge(
            "fallow_foreign_transaction",
            "1 while a transaction of the operator's key stops all settling.",
            registry=registry,
        )
        self._disputes = Gauge("fallow_disputes_open", "Disputed lines.", registry=registry)
        self._disputes_unseen = Gauge(
            "fallow_disputes_unseen", "1 while disputes cannot be looked at.", registry=registry
        )
        self._reasons: set[str] = set()

    def disputes(self, count: int, *, failed: bool) -> None:
        """Note how many lines are disputed, and whether that could be looked at."""
        self._disputes.set(count)
        self._disputes_unseen.set(failed)

    def looked(self, position: Position) -> None:
        """Note where money stands."""
        self._epoch.set(position.epoch)
        self._block.set(position.block)

    def settled(self, bundle: Bundle, settled: Settled) -> None:
        """Note a settled epoch."""
        self._epochs.inc()
        self._claims.inc(len(bundle.named))
        self._gas.inc(settled.gas_used or 0)

    def fee(self, wei: int, *, above: bool) -> None:
        """Note what a transaction costs now, and whether that is above the ceiling."""
        self._fee.set(wei)
        self._above.set(int(above))

    def endpoint(self, name: str, standing: Standing, behind: int) -> None:
        """Note what is thought of an RPC endpoint."""
        self._endpoints.labels(name).set(int(standing is Standing.GOOD))
        self._behind.labels(name).set(behind)

    def undone(self, *, is_undone: bool) -> None:
        """Note whether a final epoch is missing from the chain."""
        self._undone.set(int(is_undone))

    def foreign(self, *, found: bool) -> None:
        """Note whether a stranger's transaction stops everything."""
        self._foreign.set(int(found))

    def refused(self, refusal: ClaimRefused) -> None:
        """Note a refused claim."""
        self._refused.labels(refusal.reason).inc()

    def waiting(self, gathered: Gathered) -> None:
        """Note what waits for what."""
        tally = Tally(wait.reason for wait in gathered.waiting.values())
        self._reasons |= set(tally)
        for reason in self._reasons:
            self._waiting.labels(reason).set(tally.get(reason, 0))

    def failed(self, error: Exception) -> None:
        """Note a cycle that could not go on."""
        self._failures.labels(type(error).__name__).inc()
