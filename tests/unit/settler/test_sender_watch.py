"""Whose a nonce is: recorded, an epoch of the archive, looked at by a person, or a thief's."""

from __future__ import annotations

from typing import Any, cast

import pytest

import money_terms as money
from fallow.resources.settlement import SettlementTransaction
from fallow.settler.refusals import ChainUnavailable, ForeignTransaction
from fallow.settler.rpc import Inclusion, Rpc, SentTransaction
from fallow.settler.sender_watch import SenderWatch

OPERATOR = money.address("operator")


def _hash(nonce: int) -> str:
    return f"0x{nonce:064x}"


class _Blocks:
    """What a chain would say of nonces that were used one a block: nonce n in block n + 1."""

    name = "blocks"

    def __init__(self, *, mined: set[int], used: int) -> None:
        self.mined = mined
        self.used = used
        self.asked: list[str] = []

    async def inclusion(self, hash_: str) -> Inclusion | None:
        self.asked.append(hash_)
        if int(hash_, 16) not in self.mined:
            return None
        return Inclusion(hash=hash_, block=1, block_hash=_hash(1), gas_used=1, succeeded=True)

    async def nonce(self, address: str, *, block: int) -> int:
        return min(block, self.used)

    async def sent(self, sender: str, nonce: int, *, block: int) -> SentTransaction | None:
        return SentTransaction(hash=_hash(900 + nonce), to=None, data=bytes([nonce]))


def _watch(*, recorded: set[int], ours: set[int], resumed: int, confirmed: set[int]) -> SenderWatch:
    def transactions(nonce: int) -> list[SettlementTransaction]:
        if nonce not in recorded:
            return []
        fee: dict[str, Any] = {"max_fee_per_gas_wei": "1", "max_priority_fee_per_gas_wei": "1"}
        return [SettlementTransaction(hash=_hash(nonce), nonce=nonce, gas_limit=1, raw="0x", **fee)]

    async def is_ours(sent: SentTransaction) -> bool:
        return sent.data[0] in ours

    async def looked_at() -> int:
        return resumed

    return SenderWatch(
        OPERATOR, recorded=transactions, confirmed=lambda: confirmed, is_ours=is_ours, resumed=looked_at
    )


NONE: dict[str, Any] = {"recorded": set(), "ours": set(), "resumed": 0, "confirmed": set()}


@pytest.mark.parametrize(
    ("sentence", "known", "mined", "stranger"),
    [
        ("nothing was sent", {}, set(), None),
        ("all are recorded and mined", {"recorded": {0, 1, 2}}, {0, 1, 2}, None),
        ("one is recorded, and another was mined with its nonce", {"recorded": {0, 1, 2}}, {0, 2}, 1),
        ("one is an epoch of the archive", {"recorded": {0, 2}, "ours": {1}}, {0, 2}, None),
        ("a person has looked at the first two", {"recorded": {2}, "resumed": 2}, {2}, None),
        ("a person has looked at the first only", {"recorded": {2}, "resumed": 1}, {2}, 1),
        ("epochs that are final were looked at then", {"confirmed": {0, 1, 2}}, set(), None),
        ("nobody knows the last", {"recorded": {0, 1}}, {0, 1}, 2),
    ],
)
async def test_nonces__of_which(
    sentence: str, known: dict[str, Any], mined: set[int], stranger: int | None
) -> None:
    used = 0 if sentence == "nothing was sent" else 3
    watch, blocks = _watch(**(NONE | known)), _Blocks(mined=mined, used=used)
    if stranger is None:
        await watch.check(cast(Rpc, blocks), newest=used, used=used)
        assert watch.accounted == used, sentence
        return
    with pytest.raises(ForeignTransaction, match=f"nonce {stranger} of .*resume --nonce {stranger + 1}"):
        await watch.check(cast(Rpc, blocks), newest=used, used=used)
    assert watch.accounted == 0, sentence


async def test_nonces__accounted_for_once__are_not_asked_again__but_anew_when_blocks_were_undone() -> None:
    watch, blocks = _watch(**(NONE | {"recorded": {0, 1, 2, 3}})), _Blocks(mined={0, 1, 2, 3}, used=3)
    await watch.check(cast(Rpc, blocks), newest=3, used=3)
    blocks.asked.clear()
    await watch.check(cast(Rpc, blocks), newest=9, used=4)
    assert blocks.asked == [_hash(3)]
    await watch.check(cast(Rpc, blocks), newest=2, used=2)  # two were undone
    assert watch.accounted == 2
    blocks.mined = {0, 1}
    with pytest.raises(ForeignTransaction, match="nonce 2"):
        await watch.check(cast(Rpc, blocks), newest=3, used=3)


async def test_nonce__used_by_nothing_in_the_blocks__is_the_endpoints_fault() -> None:
    class Forgetful(_Blocks):
        async def sent(self, sender: str, nonce: int, *, block: int) -> SentTransaction | None:
            return None

    with pytest.raises(ChainUnavailable, match="by nothing in its blocks"):
        await _watch(**NONE).check(cast(Rpc, Forgetful(mined=set(), used=1)), newest=1, used=1)
