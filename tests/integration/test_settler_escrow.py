"""The typed escrow against a real chain: reads, writes, and reverts by class."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

import anvil_chain
import money_terms as money
from anvil_chain import DEPLOYER, Deployment
from fallow.receipts.epochs import Line, commitment, genesis_commitment, pack_lines
from fallow.receipts.messages import Settlement
from fallow.receipts.words import keccak
from fallow.settler.escrow import Escrow
from fallow.settler.refusals import (
    ChainUnavailable,
    EpochTaken,
    EscrowRefused,
    PayeeRefused,
    PayerRefused,
    SettlingStopped,
)
from fallow.settler.rpc import Rpc


@pytest_asyncio.fixture
async def rpc(tmp_path: Path) -> AsyncIterator[Rpc]:
    with anvil_chain.anvil(tmp_path / "anvil.log") as chain:
        async with Rpc(chain.url) as rpc:
            yield rpc


@pytest_asyncio.fixture
async def deployment(rpc: Rpc) -> Deployment:
    made = await anvil_chain.deploy(rpc)
    await anvil_chain.fund(rpc, made, money.key("payer"), 10_000_000, cap=5_000_000)
    await made.escrow.register_payee(money.key("payee"), sender=DEPLOYER)
    return made


def _arguments(number: int, previous: bytes, lines: list[Line]) -> tuple[object, ...]:
    return number, previous, pack_lines(lines), keccak(b"c"), keccak(b"a"), keccak(b"b")


def _line(amount: int, *, payer: str = "payer", payee: str = "payee") -> Line:
    return Line(money.address(payer), money.address(payee), amount)


async def test_settle__one_line__moves_money_and_chains_the_commitment(deployment: Deployment) -> None:
    escrow = deployment.escrow
    genesis = genesis_commitment(deployment.domain)
    assert (await escrow.head()).commitment == genesis
    arguments = _arguments(1, genesis, [_line(3_000_000)])
    await escrow.write("settle", *arguments, key=money.key("operator"))

    head = await escrow.head()
    settlement = Settlement(
        epoch=1, previous_commitment=genesis, lines_hash=keccak(pack_lines([_line(3_000_000)])),
        claims_root=keccak(b"c"), allocations_root=keccak(b"a"), bundle_hash=keccak(b"b"),
    )  # fmt: skip
    assert (head.last_epoch, head.commitment) == (1, commitment(settlement))
    assert (await escrow.payer(money.address("payer"))).balance == 7_000_000
    assert (await escrow.credits_of(money.address("payee"))).owed == 3_000_000


async def test_reverts__each_kind__is_its_own_class(deployment: Deployment) -> None:
    escrow, operator = deployment.escrow, money.key("operator")
    genesis = genesis_commitment(deployment.domain)

    async def refusal(arguments: tuple[object, ...], key: object = operator) -> EscrowRefused:
        with pytest.raises(EscrowRefused) as refused:
            await escrow.write("settle", *arguments, key=key)  # type: ignore[arg-type]
        return refused.value

    unbound = await refusal(_arguments(1, genesis, [_line(1, payer="stranger")]))
    assert isinstance(unbound, PayerRefused)
    assert (unbound.name, unbound.payer) == ("PayerNotBound", money.address("stranger"))
    above = await refusal(_arguments(1, genesis, [_line(5_000_001)]))
    assert isinstance(above, PayerRefused)
    assert above.values[1:] == (5_000_001, 5_000_000)
    unknown = await refusal(_arguments(1, genesis, [_line(1, payee="stranger")]))
    assert isinstance(unknown, PayeeRefused)
    assert unknown.payee == money.address("stranger")
    assert isinstance(await refusal(_arguments(2, genesis, [_line(1)])), EpochTaken)
    assert isinstance(await refusal(_arguments(1, keccak(b"?"), [_line(1)])), EpochTaken)
    assert isinstance(await refusal(_arguments(1, genesis, [_line(1)]), DEPLOYER), SettlingStopped)
    await escrow.write("pause", key=DEPLOYER)
    assert (await refusal(_arguments(1, genesis, [_line(1)]))).name == "SettlingPaused"


async def test_credits__past_the_window__are_the_payees_tokens(rpc: Rpc, deployment: Deployment) -> None:
    arguments = _arguments(1, genesis_commitment(deployment.domain), [_line(3_000_000)])
    await deployment.escrow.write("settle", *arguments, key=money.key("operator"))
    payee = money.key("payee")
    await anvil_chain.give_gas(rpc, payee.address)
    await rpc.w3.provider.make_request("evm_increaseTime", [10])
    await rpc.w3.provider.make_request("evm_mine", [])
    assert (await deployment.escrow.credits_of(payee.address)).withdrawable == 3_000_000
    await deployment.escrow.withdraw_credits(key=payee)
    assert await deployment.token.balance(payee.address) == 3_000_000


async def test_register_payee__again__does_nothing(deployment: Deployment) -> None:
    assert await deployment.escrow.register_payee(money.key("payee"), sender=DEPLOYER) is None


async def test_reads__no_contract_there_or_no_chain__are_chain_unavailable(rpc: Rpc) -> None:
    with pytest.raises(ChainUnavailable, match="no FallowEscrow"):
        await Escrow(rpc, "0x" + "12" * 20).head()
    async with Rpc("http://127.0.0.1:1", timeout_seconds=1) as nobody:
        with pytest.raises(ChainUnavailable):
            await nobody.block_number()


async def test_notice__given__is_seen_as_not_to_be_counted_on(deployment: Deployment) -> None:
    await deployment.escrow.give_withdrawal_notice(4_000_000, key=money.key("payer"))
    payer = await deployment.escrow.payer(money.address("payer"))
    assert (payer.balance, payer.under_notice, payer.bound) == (10_000_000, 4_000_000, True)
