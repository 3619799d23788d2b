"""What chains and endpoints do to a settler: lag, lies, silence, fees, reorganisations, a stolen key."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

import anvil_chain
import money_terms as money
from fallow.kube.client import ApiServer
from fallow.settler.faults import KILLED, FaultPoint
from fallow.settler.resume import resume
from fallow.settler.rpc import Fees, Rpc
from faulty_rpc import FaultyRpc
from integration.settler_world import DEPOSIT, PRICE_OF_ONE, World

SHORT = {"chain__rpc_timeout_seconds": "1"}


@pytest.fixture
def replicas(chain_world: World) -> Iterator[list[FaultyRpc]]:
    """Three replicas of the world's chain, in good order so far."""
    with ExitStack() as stack:
        yield [stack.enter_context(FaultyRpc(chain_world.rpc_url)) for _ in range(3)]


def _urls(*replicas: FaultyRpc) -> dict[str, str]:
    return {"chain__rpc_urls": ",".join(each.url for each in replicas)}


def _paid(world: World, claims: int) -> None:
    assert world.balances() == (DEPOSIT - claims * PRICE_OF_ONE, claims * PRICE_OF_ONE)


def _ask(world: World, method: str, *parameters: Any) -> Any:
    async def asked() -> Any:
        async with Rpc(world.rpc_url) as rpc:
            answer = await rpc.w3.provider.make_request(method, list(parameters))
            assert "error" not in answer, answer
            return answer["result"]

    return asyncio.run(asked())


def _says(world: World, *words: str) -> None:
    world.until(f"the settler to say {words}", lambda: all(each in world.settler.said() for each in words))


def _submitted(world: World) -> dict[str, Any]:
    found = [
        each
        for settlement in world.settlements()
        for each in (settlement.get("status") or {}).get("conditions") or ()
        if each["type"] == "Submitted"
    ]
    return dict(found[-1]) if found else {}


def test_endpoints__one_lags_and_one_hangs__are_named_and_the_third_is_used(
    chain_world: World, replicas: list[FaultyRpc]
) -> None:
    world, (lagging, hanging, good) = chain_world, replicas
    lagging.freeze()
    hanging.hangs = True
    claim = world.claim()
    world.settler.start(**_urls(*replicas), **SHORT)
    world.until_settled(claim)
    _says(world, "standing=lagging", "standing=silent", lagging.url, hanging.url)
    # The good one dies in the middle: the others have come back, and take over.
    lagging.frozen_at, hanging.hangs, good.hangs = None, False, True
    second = world.claim()
    world.until_settled(second)
    _paid(world, 2)


def test_endpoints__one_of_three_lies__is_overruled__and_one_of_two_stops_everything(
    chain_world: World, replicas: list[FaultyRpc]
) -> None:
    world, (liar, good, other) = chain_world, replicas
    liar.lies = True
    first = world.claim()
    world.settler.start(**_urls(liar, good, other), **SHORT)
    world.until_settled(first)
    _says(world, "standing=disagrees", liar.url)
    assert world.settler.stop() == 0

    second = world.claim()
    world.settler.start(**_urls(liar, good), **SHORT)
    _says(world, "EndpointsDisagree")
    assert world.status(second).get("state", "Pending") == "Pending"
    liar.lies = False
    world.until_settled(second)
    _paid(world, 2)


def test_endpoint__alone_and_with_old_state__is_noticed_and_nobody_is_told_of_it(
    chain_world: World, replicas: list[FaultyRpc]
) -> None:
    world, replica = chain_world, replicas[0]
    before = int(replica.ask("eth_blockNumber"), 16)
    first = world.claim()
    world.settler.start(**_urls(replica), **SHORT)
    world.until_settled(first)
    world.until("the Settlement Confirmed", lambda: world.settlements()[0]["status"]["state"] == "Confirmed")
    told = world.account()["status"]
    replica.frozen_at = before
    _says(world, "was seen before: old state")
    # A process that has seen nothing yet knows it from the Settlements.
    world.settler.kill()
    second = world.claim()
    world.settler.start(**_urls(replica), **SHORT)
    _says(world, "was told before: old state")
    assert world.account()["status"] == told
    assert world.status(second).get("state", "Pending") == "Pending"
    replica.frozen_at = None
    world.until_settled(second)
    _paid(world, 2)


def test_fees__above_the_ceiling__epoch_waits_and_says_so__and_goes_when_they_fall(
    chain_world: World,
) -> None:
    world = chain_world
    _ask(world, "anvil_setNextBlockBaseFeePerGas", hex(20_000 * 10**9))
    claim = world.claim()
    world.settler.start(chain__fee_ceiling_gwei="500")
    world.until("the Settlement to say so", lambda: _submitted(world).get("reason") == "FeesAboveCeiling")
    said = _submitted(world)
    assert said["status"] == "False"
    assert "above the ceiling of 500.000" in said["message"]
    assert world.settlements()[0]["status"].get("transactions", []) == []
    world.until_settled(claim)  # empty blocks: the base fee falls by an eighth each
    assert _submitted(world)["reason"] == "Broadcast"
    _paid(world, 1)


def test_transaction__that_no_block_takes__is_replaced_on_its_nonce__and_the_old_one_is_harmless(
    chain_world: World,
) -> None:
    world = chain_world
    claim = world.claim()
    world.settler.start(fault=FaultPoint.RECORDED)
    assert world.settler.wait() == KILLED
    _ask(world, "anvil_setNextBlockBaseFeePerGas", hex(2000 * 10**9))
    world.settler.start(fault=FaultPoint.RECORDED, chain__fee_ceiling_gwei="100000")
    assert world.settler.wait() == KILLED
    (settlement,) = world.settlements()
    old, new = settlement["status"]["transactions"]
    assert old["nonce"] == new["nonce"]
    assert int(new["maxFeePerGasWei"]) > int(old["maxFeePerGasWei"])
    assert int(new["maxPriorityFeePerGasWei"]) > int(old["maxPriorityFeePerGasWei"])

    # Nobody has seen either. The old one lands, late; the new one cannot any more.
    # The base fee has to fall first: empty blocks lower it by an eighth each.
    def landed() -> bool:
        world.on_chain(lambda escrow: escrow.rpc.broadcast(old["raw"]))
        return _ask(world, "eth_getTransactionReceipt", old["hash"]) is not None

    world.until("the old one mined", landed, seconds=120)
    world.settler.start(chain__fee_ceiling_gwei="100000")
    world.until_settled(claim)
    assert world.status(claim)["transaction"] == old["hash"]
    _paid(world, 1)


def test_transaction__swallowed_by_the_only_endpoint__is_replaced_after_some_blocks(
    chain_world: World, replicas: list[FaultyRpc]
) -> None:
    world, replica = chain_world, replicas[0]
    replica.swallows = True
    claim = world.claim()
    world.settler.start(**_urls(replica), chain__replace_after_blocks="3")

    def replaced() -> bool:
        found = world.settlements()
        return bool(found) and len((found[0].get("status") or {}).get("transactions") or ()) >= 3

    world.until("two replacements", replaced)
    replica.swallows = False
    world.until_settled(claim)
    (settlement,) = world.settlements()
    assert len({each["nonce"] for each in settlement["status"]["transactions"]}) == 1
    _paid(world, 1)


def test_reorganisation__that_drops_the_settlement__it_is_sent_again(chain_world: World) -> None:
    world = chain_world
    claim = world.claim()
    world.settler.start(fault=FaultPoint.INCLUDED, chain__confirmations="30")
    assert world.settler.wait() == KILLED
    (transaction,) = world.settlements()[0]["status"]["transactions"]
    mined = int(_ask(world, "eth_getTransactionReceipt", transaction["hash"])["blockNumber"], 16)
    _rollback_to(world, mined - 1)
    _paid(world, 0)
    world.settler.start(chain__confirmations="5")
    world.until_settled(claim)
    _paid(world, 1)


def test_reorganisation__deeper_than_the_confirmations__is_noticed_and_mended(chain_world: World) -> None:
    world = chain_world
    before = int(_ask(world, "eth_blockNumber"), 16)
    claims = [world.claim() for _ in range(2)]
    world.settler.start()
    world.until_settled(*claims)
    claims.append(world.claim())
    world.until_settled(*claims)
    _rollback_to(world, before)
    _paid(world, 0)
    _says(world, "a final epoch was undone")
    world.until("the balances", lambda: world.balances()[1] == 3 * PRICE_OF_ONE, seconds=120)
    world.until(
        "all Settlements Confirmed",
        lambda: {each["status"]["state"] for each in world.settlements()} == {"Confirmed"},
    )
    _paid(world, 3)
    later = world.claim()
    world.until_settled(later)
    _paid(world, 4)


def test_reorganisation__after_which_the_payer_has_left__stops_with_a_word_for_a_person(
    chain_world: World,
) -> None:
    world, payer = chain_world, money.key("payer")
    world.on_chain(lambda escrow: escrow.give_withdrawal_notice(DEPOSIT, key=payer))
    _ask(world, "evm_increaseTime", 3601)
    _ask(world, "evm_mine")
    before = int(_ask(world, "eth_blockNumber"), 16)
    claim = world.claim()
    world.settler.start()
    world.until_settled(claim)
    world.until("the Settlement Confirmed", lambda: world.settlements()[0]["status"]["state"] == "Confirmed")
    world.settler.kill()
    _rollback_to(world, before)
    world.on_chain(lambda escrow: escrow.withdraw(key=payer))
    world.settler.start()
    _says(world, "Undone", "InsufficientBalance", "wait for a person")
    assert world.account()["status"]["balance"] == "998.2", "nobody is told of a balance without the epoch"
    world.on_chain(lambda escrow: escrow.deposit(DEPOSIT, key=payer))
    world.until(
        "the balances", lambda: world.balances() == (DEPOSIT - PRICE_OF_ONE, PRICE_OF_ONE), seconds=40
    )


def test_foreign_transaction__stops_everything__until_a_person_resumes(chain_world: World) -> None:
    world = chain_world
    first = world.claim()
    world.settler.start()
    world.until_settled(first)
    hash_ = world.on_chain(lambda escrow: _steal(escrow.rpc))
    second = world.claim()
    _says(world, "ForeignTransaction", hash_, "fallow settler resume --nonce 2")
    # A restart changes nothing about it.
    world.settler.kill()
    world.settler.start()
    third = world.claim()
    world.until("the settler to say it again", lambda: world.settler.said().count("nothing is settled") >= 2)
    assert {world.status(each).get("state", "Pending") for each in (second, third)} == {"Pending"}
    signed = [each for each in world.settlements() if (each.get("status") or {}).get("transactions")]
    assert len(signed) == 1

    asyncio.run(_resume(world, nonce=2))
    try:
        world.until_settled(second, third)
        _paid(world, 3)
        # The word was about those transactions: the next stranger stops it again.
        world.on_chain(lambda escrow: _steal(escrow.rpc))
        fourth = world.claim()
        world.until("a third alarm", lambda: world.settler.said().count("nothing is settled") >= 3)
        assert world.status(fourth).get("state", "Pending") == "Pending"
    finally:
        world.rig.hub_client().delete("/api/v1/namespaces/fallow-system/configmaps/fallow-settler-resume")


def test_signer__ended_by_its_payee__is_refused_from_the_next_epoch_on(chain_world: World) -> None:
    world = chain_world
    payee, signer = money.key("payee"), money.address("signer")
    world.on_chain(lambda escrow: anvil_chain.give_gas(escrow.rpc, payee.address))
    world.on_chain(lambda escrow: escrow.write("addSigner", signer, 1000, key=payee))
    first = world.claim()
    world.settler.start()
    world.until_settled(first)
    epochs = world.on_chain(lambda escrow: escrow.head()).last_epoch
    world.on_chain(lambda escrow: escrow.write("endSigner", signer, epochs, key=payee))
    second = world.claim()
    world.until("a refusal", lambda: world.status(second).get("state") == "Refused")
    assert world.condition(second, "Settled")["reason"] == "SignerEnded"


def test_settler__may_not_write_the_word_that_resumes_it(chain_world: World) -> None:
    client = chain_world.rig.client("settler")
    with pytest.raises(Exception, match="forbidden"):
        client.post(
            "/api/v1/namespaces/fallow-system/configmaps",
            {"metadata": {"name": "fallow-settler-resume"}, "data": {"nonce": "99"}},
        )


def _rollback_to(world: World, block: int) -> None:
    depth = int(_ask(world, "eth_blockNumber"), 16) - block
    _ask(world, "anvil_rollback", depth)


async def _steal(rpc: Rpc) -> str:
    """Send with the operator's key, as a thief would; returns the transaction's hash once mined."""
    thief = money.key("operator")
    signed = await rpc.sign(
        thief, to=thief.address, data=uuid.uuid4().bytes, nonce=await rpc.nonce(thief.address),
        fees=Fees(max_fee=10**12, max_priority_fee=10**9),
    )  # fmt: skip
    await rpc.broadcast(signed.raw)
    while await rpc.inclusion(signed.hash) is None:  # noqa: ASYNC110  (a chain tells nobody)
        await asyncio.sleep(0.05)
    return signed.hash


async def _resume(world: World, *, nonce: int) -> None:
    async with await ApiServer.connect(world.rig.hub_kubeconfig, name="hub") as api:
        await resume(api, nonce=nonce)
