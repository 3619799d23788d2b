"""Watches the operator's nonce: every transaction of that key must be one that the settler signed.

A nonce below the chain's count is accounted for when a transaction that some Settlement records was
mined with it; or when the transaction that was mined settles an epoch of the archive (a hub that
was restored has lost the record, the archive has not); or when a person has looked at it and said
so (`fallow settler resume`). Anything else is a stolen key, and nothing is settled.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from eth_abi.exceptions import DecodingError

from fallow.receipts.epochs import Line, pack_lines
from fallow.receipts.messages import Settlement
from fallow.receipts.words import checksummed
from fallow.resources.settlement import SettlementTransaction
from fallow.settler.abi import Artifact, artifact
from fallow.settler.archive import Archive
from fallow.settler.refusals import ArchiveDamaged, ChainUnavailable, ForeignTransaction
from fallow.settler.rpc import Rpc, SentTransaction


class SenderWatch:
    """Accounts for the nonces of `address`.

    `recorded` gives the transactions that Settlements record, `is_ours` says whether a mined
    transaction settles an epoch of the archive, `resumed` below which nonce a person has looked.
    """

    def __init__(
        self,
        address: str,
        *,
        recorded: Callable[[int], Sequence[SettlementTransaction]],
        confirmed: Callable[[], Iterable[int]],
        is_ours: Callable[[SentTransaction], Awaitable[bool]],
        resumed: Callable[[], Awaitable[int]],
    ) -> None:
        self._address = address
        self._recorded = recorded
        self._confirmed = confirmed
        self._is_ours = is_ours
        self._resumed = resumed
        self._accounted: int | None = None

    @property
    def address(self) -> str:
        """The operator's address."""
        return self._address

    @property
    def accounted(self) -> int:
        """Below which nonce everything is accounted for: the only nonce to sign with."""
        return self._accounted or 0

    async def check(self, rpc: Rpc, *, newest: int, used: int) -> None:
        """Raise ForeignTransaction when a nonce below `used`, the newest block's count, is a stranger's."""
        # NB: blocks may have been undone: what is mined anew has to be looked at anew.
        first = min(self.accounted, used)
        trusted: set[int] = set(self._confirmed()) if self._accounted is None else set()
        resumed: int | None = None
        for nonce in range(first, used):
            if nonce in trusted or await self._is_recorded(rpc, nonce):
                continue
            if resumed is None:
                resumed = await self._resumed()
            if nonce < resumed:
                continue
            await self._refuse_stranger(rpc, nonce, newest=newest)
        self._accounted = used

    async def _is_recorded(self, rpc: Rpc, nonce: int) -> bool:
        for transaction in self._recorded(nonce):
            if await rpc.inclusion(transaction.hash) is not None:
                return True
        return False

    async def _refuse_stranger(self, rpc: Rpc, nonce: int, *, newest: int) -> None:
        try:
            found = await self._find(rpc, nonce, newest=newest)
        except ChainUnavailable as error:
            raise self._foreign(nonce, f"which could not be looked up ({error})") from error
        if found is None:
            raise ChainUnavailable(
                f"{rpc.name}: nonce {nonce} of the operator is used, by nothing in its blocks"
            )
        block, transaction = found
        if not await self._is_ours(transaction):
            raise self._foreign(nonce, f"{transaction.hash} in block {block}")

    async def _find(self, rpc: Rpc, nonce: int, *, newest: int) -> tuple[int, SentTransaction] | None:
        """Search the block in which a nonce was used: counts only rise from block to block."""
        low, high = 0, newest
        while low < high:
            middle = (low + high) // 2
            if await rpc.nonce(self._address, block=middle) > nonce:
                high = middle
            else:
                low = middle + 1
        sent = await rpc.sent(self._address, nonce, block=low)
        return None if sent is None else (low, sent)

    def _foreign(self, nonce: int, what: str) -> ForeignTransaction:
        return ForeignTransaction(
            f"nonce {nonce} of {self._address} was used by a transaction that this settler did not sign, "
            f"{what}: somebody else has the key. Find out who; rotate the operator if in doubt; then "
            f"`fallow settler resume --nonce {nonce + 1}`"
        )


async def settles_a_bundle(sent: SentTransaction, *, escrow: str, archive: Archive) -> bool:
    """Say whether a transaction is exactly the settling of an epoch that the archive holds.

    Then it pays what the settler meant to pay, whoever sent it, and happens once.
    """
    contract = artifact("FallowEscrow")
    try:
        *_, bundle_hash = contract.arguments("settle", sent.data)
        bundle = await archive.load(bytes(bundle_hash))
    except (DecodingError, ArchiveDamaged):
        return False
    return (
        sent.to == checksummed(escrow) and settle_call(contract, bundle.settlement, bundle.lines) == sent.data
    )


def settle_call(contract: Artifact, settlement: Settlement, lines: Sequence[Line]) -> bytes:
    """Return the call data that settles an epoch."""
    return contract.call(
        "settle",
        settlement.epoch,
        settlement.previous_commitment,
        pack_lines(lines),
        settlement.claims_root,
        settlement.allocations_root,
        settlement.bundle_hash,
    )
