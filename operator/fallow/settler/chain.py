"""Chain mode: epochs as transactions on the escrow.

Everything is read at fixed blocks, of one endpoint per cycle. What is final is read `confirmations`
blocks below the newest; what could be debited, at the newest. The epoch chain in the contract lets
an epoch happen once, whatever is sent how often; here it is only made sure that it does happen: the
same signed bytes are sent again, and a transaction that no block takes is replaced by a dearer one
on the same nonce, up to the ceiling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

from fallow.receipts.contract_signatures import ContractSignature, is_yes
from fallow.receipts.epochs import Line, genesis_commitment
from fallow.receipts.messages import Settlement
from fallow.receipts.typed_data import Domain
from fallow.receipts.words import checksummed, to_hex
from fallow.resources.settlement import SettlementTransaction
from fallow.settler.bundle import Bundle
from fallow.settler.disputes import Disputes
from fallow.settler.endpoints import Endpoints
from fallow.settler.escrow import Escrow, Head
from fallow.settler.metrics import SettlerMetrics
from fallow.settler.protocol import NO_PURSE, Position, Purse, Settled
from fallow.settler.refusals import (
    ChainUnavailable,
    EscrowRefused,
    FeesTooHigh,
    ForeignTransaction,
    OldState,
)
from fallow.settler.rpc import Fees, Inclusion, Rpc, as_signed
from fallow.settler.sender_watch import SenderWatch, settle_call
from fallow.settler.signing import Signer

CONTRACT_GAS = 500_000
"""For one question to a payer's contract: a wallet of many owners takes less than half of it."""
_BUMP_PERCENT = 113
"""Nodes take a replacement whose both fees are at least 10 % (most) or 12.5 % (some) higher."""


class ChainPayments:
    """Payments on an escrow contract.

    `fee_ceiling` is the most wei per gas that is paid. A transaction that none of
    `replace_after_blocks` blocks took is replaced. `told_block` is the highest block of which this
    hub was ever told.
    """

    mode: Literal["chain", "ledger"] = "chain"

    def __init__(
        self,
        endpoints: Endpoints,
        domain: Domain,
        signer: Signer,
        *,
        watch: SenderWatch,
        told_block: Callable[[], int],
        confirmations: int,
        fee_ceiling: int,
        replace_after_blocks: int,
        metrics: SettlerMetrics,
    ) -> None:
        self.domain = domain
        self._endpoints = endpoints
        self._signer = signer
        self._watch = watch
        self._told_block = told_block
        self._confirmations = confirmations
        self._fee_ceiling = fee_ceiling
        self._replace_after_blocks = replace_after_blocks
        self._metrics = metrics
        self._newest = 0
        self._waiting_since: dict[str, int] = {}
        self._read_from: Escrow | None = None
        self._seen: tuple[tuple[str, str, int], Position] | None = None
        self._logs: tuple[int, set[tuple[int, str, str]]] | None = None
        self._activity = 0
        self._used = 0
        self._has_code_from: int | None = None

    async def position(self) -> Position:
        """Choose an endpoint, and read the final and the newest head; nothing where no block came since."""
        chosen = await self._endpoints.choose()
        if chosen.final < self._told_block():
            raise OldState(
                f"{chosen.rpc.name} shows final block {chosen.final}, but block {self._told_block()} was "
                "told before: old state, or the chain was set back"
            )
        if self._seen is not None and self._seen[0] == (chosen.rpc.name, chosen.newest.hash, chosen.final):
            return self._seen[1]
        self._seen = None
        if self._read_from is None or self._read_from.rpc is not chosen.rpc:
            self._read_from = Escrow(chosen.rpc, self.domain.escrow)
            self._logs = None
        self._newest = chosen.newest.number
        active = await self._active(final=chosen.final)
        head = await self._escrow.head(block=self._newest)
        before = head if chosen.final == self._newest else await self._head_at(chosen.final)
        found = Position(
            block=chosen.final,
            time=chosen.newest.time,
            epoch=before.last_epoch,
            commitment=before.commitment,
            settled=head.last_epoch,
            active=active,
        )
        self._seen = (chosen.rpc.name, chosen.newest.hash, chosen.final), found
        return found

    async def _active(self, *, final: int) -> int:
        """Count the operator's transactions, and say as of which block the escrow last did anything.

        NB: a hint only, to spare reading what cannot have changed: whoever goes by it looks again
        from time to time, and every epoch is simulated before it is sent.
        """
        nonce = ("eth_getTransactionCount", (self._signer.address, hex(self._newest)))
        since, known = self._logs or (final, None)
        spans = {"address": self._escrow.address, "fromBlock": hex(since), "toBlock": hex(self._newest)}
        try:
            used, logs = await self._rpc.ask(nonce, ("eth_getLogs", (spans,)))
            marks = {
                (int(each["blockNumber"], 16), str(each["blockHash"]), str(each["logIndex"])) for each in logs
            }
        except (
            ChainUnavailable,
            KeyError,
            TypeError,
            ValueError,
        ):  # no logs: anything may be new
            (used,) = await self._rpc.ask(nonce)
            known, marks = None, set()
        # NB: other marks also mean other blocks: what was undone may have undone a debit.
        if known is None or marks != {mark for mark in known if mark[0] >= since}:
            self._activity = self._newest
        self._used, self._logs = int(used, 16), (final, marks)
        return self._activity

    async def account_for_sender(self) -> None:
        """Raise ForeignTransaction when somebody else sends with the operator's key."""
        try:
            await self._watch.check(self._rpc, newest=self._newest, used=self._used)
        except ForeignTransaction:
            self._metrics.foreign(found=True)
            raise
        self._metrics.foreign(found=False)

    async def purse(self, payer: str, *, position: Position, final: bool) -> Purse:
        """Read a payer's state."""
        if final and not await self._is_deployed(position.block):
            return NO_PURSE
        state = await self._escrow.payer(payer, block=position.block if final else "latest")
        return Purse(
            bound=state.bound,
            balance=state.balance,
            cap=state.cap,
            debitable_from=state.last_debit_at + state.min_interval_seconds,
            under_notice=state.under_notice,
        )

    async def payee_is_active(self, payee: str, *, position: Position) -> bool:
        """Read the registry, and compare with the newest block's time."""
        return 0 < await self._escrow.payee_active_from(payee) <= position.time

    async def signer_ended(self, payee: str, signer: str, *, epoch: int) -> bool:
        """Read the payee's own list of signers."""
        ((first, last),) = await self._escrow.read("signerOf", payee, checksummed(signer))
        return bool(first) and epoch > int(last)

    async def contract_accepts(self, asked: ContractSignature) -> bool:
        """Call the payer's contract, with so little gas that it cannot keep an endpoint busy."""
        try:
            answer = await self._rpc.call(asked.account, asked.call_data(), gas=CONTRACT_GAS)
        except EscrowRefused:
            return False  # it reverted, which is a no
        return is_yes(answer)

    async def simulate(self, settlement: Settlement, lines: Sequence[Line]) -> None:
        """Execute the call at the newest block without sending it."""
        await self._rpc.call(
            self._escrow.address,
            settle_call(self._escrow.artifact, settlement, lines),
            sender=self._signer.address,
            errors=self._escrow.artifact.errors,
        )

    async def preview(self, settlement: Settlement, lines: Sequence[Line]) -> dict[str, Any]:
        """Return the transaction that would be signed."""
        fees = await self._fees()
        transaction = await self._rpc.prepare(
            self._signer.address,
            to=self._escrow.address,
            data=settle_call(self._escrow.artifact, settlement, lines),
            nonce=await self._rpc.nonce(self._signer.address),
            fees=fees,
            errors=self._escrow.artifact.errors,
        )
        return {"from": self._signer.address, **transaction, "baseFeePerGas": fees.base}

    async def sign(
        self, bundle: Bundle, *, earlier: Sequence[SettlementTransaction]
    ) -> SettlementTransaction | None:
        """Sign for the key's next nonce; dearer than what may already be known for that nonce.

        Raises FeesTooHigh when that takes more than the ceiling.
        """
        nonce = await self._rpc.nonce(self._signer.address)
        if nonce != self._watch.accounted:
            raise ChainUnavailable(f"nonce {nonce - 1} was used since this cycle looked: look first by whom")
        fees = await self._fees()
        wanted = fees.max_fee
        for rival in (one for one in earlier if one.nonce == nonce):
            wanted = max(wanted, _bumped(rival.max_fee_per_gas_wei))
            tip = max(fees.max_priority_fee, _bumped(rival.max_priority_fee_per_gas_wei))
            fees = replace(fees, max_fee=min(wanted, self._fee_ceiling), max_priority_fee=tip)
        fees = replace(fees, max_priority_fee=min(fees.max_priority_fee, fees.max_fee))
        transaction = await self._rpc.prepare(
            self._signer.address,
            to=self._escrow.address,
            data=settle_call(self._escrow.artifact, bundle.settlement, bundle.lines),
            nonce=nonce,
            fees=fees,
            errors=self._escrow.artifact.errors,
        )
        signed = as_signed(await self._signer.sign_transaction(transaction), transaction, fees=fees)
        if any(one.hash == signed.hash for one in earlier):
            # NB: the ceiling left no room for a bump. (A rival of an abandoned epoch may pay as much:
            # that one is either mined soon, or forgotten, and then the nonce is free.)
            self._metrics.fee(wanted, above=True)
            raise FeesTooHigh(needed=wanted, ceiling=self._fee_ceiling)
        return SettlementTransaction(
            hash=signed.hash,
            nonce=signed.nonce,
            gas_limit=signed.gas_limit,
            max_fee_per_gas_wei=str(fees.max_fee),
            max_priority_fee_per_gas_wei=str(fees.max_priority_fee),
            raw=signed.raw,
        )

    async def broadcast(self, transaction: SettlementTransaction) -> None:
        """Send the recorded bytes, to every endpoint."""
        await self._endpoints.broadcast(transaction.raw)

    async def settled(
        self, bundle: Bundle, transactions: Sequence[SettlementTransaction], *, position: Position
    ) -> Settled:
        """Return the recorded transaction that was included, or (one of a lost record) only a block
        that has it.
        """
        found = await self._included(transactions)
        if found is None:
            return Settled(block=position.block, transaction=None, gas_used=None)
        return Settled(block=found.block, transaction=found.hash, gas_used=found.gas_used)

    async def is_stuck(self, transactions: Sequence[SettlementTransaction]) -> bool:
        """Say whether another transaction has to be signed.

        So it is when the nonce was spent (on one of these that reverted, or on another epoch's) or
        cannot be reached (blocks were undone); when the base fee is above what the last one pays;
        when many blocks passed without taking it.
        """
        last = transactions[-1]
        used = await self._rpc.nonce(self._signer.address)
        if used > last.nonce:
            found = await self._included(transactions)
            return found is None or not found.succeeded
        if used < last.nonce:
            return True
        since = self._waiting_since.setdefault(last.hash, self._newest)
        if self._newest < since:  # undone blocks count for nothing
            self._waiting_since[last.hash] = since = self._newest
        fees = await self._fees()
        waited = self._newest - since
        return waited >= self._replace_after_blocks or fees.base > int(last.max_fee_per_gas_wei)

    async def disputes(self, *, position: Position) -> Disputes | None:
        """Return the module that is attached to the escrow as of the position."""
        if not await self._rpc.has_code(self._escrow.address, block=position.block):
            return None
        return await Disputes.of(self._escrow, block=position.block)

    def settlement_name(self, bundle: Bundle) -> str:
        """Return epoch and commitment as a name."""
        return f"epoch-{bundle.settlement.epoch:06d}-{bundle.commitment.hex()[:16]}"

    async def signature(self, bundle: Bundle) -> str | None:
        """Return None: the transaction is what is signed."""
        return None

    @property
    def _escrow(self) -> Escrow:
        assert self._read_from is not None, "a cycle begins with position()"
        return self._read_from

    @property
    def _rpc(self) -> Rpc:
        return self._escrow.rpc

    async def _fees(self) -> Fees:
        """Return what a transaction costs now. Raises FeesTooHigh when that is above the ceiling."""
        try:
            fees = await self._rpc.fees(ceiling=self._fee_ceiling)
        except FeesTooHigh as error:
            self._metrics.fee(error.needed, above=True)
            raise
        self._metrics.fee(fees.max_fee, above=False)
        return fees

    async def _head_at(self, block: int) -> Head:
        """Return the head at an old block: before the escrow's deployment, its genesis."""
        if await self._is_deployed(block):
            return await self._escrow.head(block=block)
        return Head(
            last_epoch=0, commitment=genesis_commitment(self.domain), operator=to_hex(bytes(20)), paused=False
        )

    async def _is_deployed(self, block: int) -> bool:
        """Say whether the escrow was there at a block; asked until it was."""
        if self._has_code_from is not None and block >= self._has_code_from:
            return True
        found = await self._rpc.has_code(self._escrow.address, block=block)
        if found:
            self._has_code_from = block
        return found

    async def _included(self, transactions: Sequence[SettlementTransaction]) -> Inclusion | None:
        for transaction in transactions:
            found = await self._rpc.inclusion(transaction.hash)
            if found is not None:
                return found
        return None


def _bumped(wei: str) -> int:
    return int(wei) * _BUMP_PERCENT // 100 + 1
