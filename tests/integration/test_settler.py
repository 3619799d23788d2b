"""The settler against a real API server and a real chain: killed at every step, it pays once."""

from __future__ import annotations

import os
import signal
import uuid

import pytest

import anvil_chain
import money_terms as money
from fallow.resources.account import AccountSpec
from fallow.settler.escrow import Escrow
from fallow.settler.faults import KILLED, ON_CHAIN_ONLY, FaultPoint
from integration.settler_world import API, DEPOSIT, PRICE_OF_ONE, World, make_account


@pytest.fixture(params=["chain", "ledger"])
def world(request: pytest.FixtureRequest) -> World:
    """Either kind of payments: what follows holds for both."""
    found: World = request.getfixturevalue(f"{request.param}_world")
    return found


def test_claim__pending__is_settled_and_the_account_told_first(world: World) -> None:
    claim = world.claim()
    world.settler.start()
    world.until_settled(claim)
    status = world.status(claim)
    assert world.balances() == (DEPOSIT - PRICE_OF_ONE, PRICE_OF_ONE)
    account = world.account()["status"]
    assert (account["balance"], account["settled"]) == ("998.2", "1.8")
    assert account["observedBlock"] >= status["block"]
    assert {each["type"]: each["status"] for each in account["conditions"]} == {
        "Bound": "True",
        "Funded": "True",
    }
    (settlement,) = world.settlements()
    assert status["commitment"] == settlement["spec"]["commitment"]
    if world.domain.chain_id:
        assert status["transaction"] == settlement["status"]["transactions"][0]["hash"]
    world.until("the Settlement Confirmed", lambda: world.settlements()[0]["status"]["state"] == "Confirmed")
    assert world.settler.stop() == 0


def test_kill__at_every_step_of_an_epoch__pays_once_to_the_unit(world: World) -> None:
    # Each process finds what the one before left, and dies at the next step: also while it recovers.
    points = [point for point in FaultPoint if world.domain.chain_id or point not in ON_CHAIN_ONLY]
    claims: list[str] = []
    for point in points:
        # Some steps last as long as a block: a slow machine may pass one unseen, and tries again.
        for _ in range(5):
            claims += [world.claim(), world.claim()]
            world.settler.start(fault=point)
            if world.dies_before_settling(claims[-1]):
                break
            world.settler.kill()
        assert world.settler.ended == KILLED, f"{point} was never reached: {world.settler.said()}"
    world.settler.start()
    world.until_settled(*claims)
    paid = len(claims) * PRICE_OF_ONE
    assert world.balances() == (DEPOSIT - paid, paid)
    listed = [
        name for one in world.settlements() for part in one["spec"]["claims"] for name in part["claims"]
    ]
    assert sorted(listed) == sorted(claims)


def test_claims_in_trouble__wait_or_are_refused__and_hold_up_nobody(world: World) -> None:
    mistyped = money.address("payer").replace("a", "A").replace("b", "B")
    unlimited = AccountSpec(payer=money.address("somebody rich"))
    make_account(world.rig, world.terms.account_namespace, AccountSpec(payer=mistyped), name="mistyped")
    make_account(world.rig, world.terms.account_namespace, unlimited, name="unlimited")
    job = str(uuid.uuid4())
    paid = world.claim(job_uid=job)
    world.settler.start()
    world.until_settled(paid)
    bound = next(
        each for each in world.account("mistyped")["status"]["conditions"] if each["type"] == "Bound"
    )
    assert (bound["status"], bound["reason"]) == ("False", "AuthorizationInvalid")

    forged = world.claim(signer="stranger")
    second_success = world.claim(job_uid=job, attempt=1)
    unfunded = world.claim(terms=money.priced(world.terms, "5000"))
    free = world.claim(terms=money.priced(world.terms, "0"))
    good = world.claim()
    world.until_settled(good, free)

    assert world.status(forged)["state"] == "Refused"
    assert world.condition(forged, "Settled")["reason"] == "ReceiptForged"
    assert world.status(second_success)["state"] == "Refused"
    assert world.condition(second_success, "Settled")["reason"] == "SecondSuccess"
    assert world.condition(free, "Settled")["reason"] == "NothingOwed"
    world.until("the missing amount", lambda: "lacks 4" in world.status(unfunded).get("message", ""))
    assert world.status(unfunded)["state"] == "Pending"
    assert world.balances() == (DEPOSIT - 2 * PRICE_OF_ONE, 2 * PRICE_OF_ONE)


def test_hub_restored__from_before_an_epoch__pays_nothing_twice_and_without_archive_nothing(
    world: World,
) -> None:
    job = str(uuid.uuid4())
    first = world.claim(job_uid=job)
    world.settler.start()
    world.until_settled(first)
    world.until("the Settlement Confirmed", lambda: world.settlements()[0]["status"]["state"] == "Confirmed")
    (before,) = world.settlements()
    assert world.settler.stop() == 0

    # What a restored hub looks like: no Settlement, and the task ran and was claimed again.
    world.rig.hub_client().delete(f"{API}/settlements/{before['metadata']['name']}")
    again = world.claim(job_uid=job)
    other = world.claim()
    world.settler.start()
    world.until_settled(other)
    assert world.status(again)["state"] == "Refused"
    assert world.condition(again, "Settled")["reason"] == "AlreadyPaid"
    assert before["spec"] in [each["spec"] for each in world.settlements()]
    assert world.balances() == (DEPOSIT - 2 * PRICE_OF_ONE, 2 * PRICE_OF_ONE)

    # Without the archive nobody knows what was paid: then nothing is.
    assert world.settler.stop() == 0
    for bundle in world.settler.archive.iterdir():
        bundle.unlink()
    unknown = world.claim()
    world.settler.start()
    world.until("the settler to say so", lambda: "ArchiveDamaged" in world.settler.said())
    assert world.status(unknown).get("state", "Pending") == "Pending"
    assert world.balances() == (DEPOSIT - 2 * PRICE_OF_ONE, 2 * PRICE_OF_ONE)


def test_payee_unregistered_or_escrow_paused__until_that_ends__waits_and_is_paid_then(
    chain_world: World,
) -> None:
    world = chain_world
    quote = money.a_quote(world.domain, payee="late payee")
    late = world.claim(terms=world.terms.model_copy(update={"quote": quote}))
    on_time = world.claim()
    world.settler.start()
    world.until_settled(on_time)
    assert world.condition(late, "PayeeUnregistered")["status"] == "True"
    assert world.status(late)["state"] == "Pending"
    world.on_chain(lambda escrow: escrow.register_payee(money.key("late payee"), sender=anvil_chain.DEPLOYER))
    world.until_settled(late)
    assert world.condition(late, "PayeeUnregistered")["status"] == "False"
    # A guardian's pause stops everything, and the end of it lets everything go on.
    world.on_chain(lambda escrow: escrow.write("pause", key=anvil_chain.DEPLOYER))
    claim = world.claim()
    world.until("the settler to say so", lambda: "SettlingPaused" in world.settler.said())
    assert world.status(claim).get("state", "Pending") == "Pending"
    world.on_chain(lambda escrow: escrow.write("unpause", key=anvil_chain.DEPLOYER))
    world.until_settled(claim)


def test_payer_drained__after_the_epoch_was_made__it_is_abandoned_and_the_others_are_paid(
    chain_world: World,
) -> None:
    world = chain_world
    given = world.terms.account.authorization
    assert given is not None
    second = money.an_account(world.domain, payer="second payer", namespace_uid=given.namespace_uid)
    world.on_chain(lambda escrow: _fund_second(escrow))
    drained = world.claim()
    good = world.claim(terms=world.terms.model_copy(update={"account": second, "account_name": "second"}))
    world.settler.start(fault=FaultPoint.SETTLEMENT_CREATED)
    assert world.settler.wait() == KILLED
    world.on_chain(_drain)

    world.settler.start()
    world.until_settled(good)
    states = {each["status"]["state"] for each in world.settlements()}
    assert "Abandoned" in states
    world.until("the missing amount", lambda: "lacks 1.8" in world.status(drained).get("message", ""))

    world.on_chain(lambda escrow: escrow.deposit(PRICE_OF_ONE, key=money.key("payer")))
    world.until_settled(drained)
    assert world.balances() == (0, 2 * PRICE_OF_ONE)


async def _fund_second(escrow: Escrow) -> None:
    made = anvil_chain.Deployment(escrow, await escrow.token(), await escrow.domain())
    await anvil_chain.fund(escrow.rpc, made, money.key("second payer"), DEPOSIT)


async def _drain(escrow: Escrow) -> None:
    """Withdraw everything of the payer, a notice period later."""
    payer = money.key("payer")
    await escrow.give_withdrawal_notice(DEPOSIT, key=payer)
    await escrow.rpc.w3.provider.make_request("evm_increaseTime", [3601])
    await escrow.rpc.w3.provider.make_request("evm_mine", [])
    await escrow.withdraw(key=payer)


def test_abandoned_epoch__that_is_included_after_all__is_told_like_any_other(chain_world: World) -> None:
    world = chain_world
    claim = world.claim()
    world.settler.start(fault=FaultPoint.BROADCAST)
    assert world.settler.wait() == KILLED
    (settlement,) = world.settlements()
    path = f"{API}/settlements/{settlement['metadata']['name']}/status"
    world.rig.hub_client().merge(path, {"status": {"state": "Abandoned"}})
    other = world.claim()
    world.settler.start()
    world.until_settled(claim, other)
    assert world.balances() == (DEPOSIT - 2 * PRICE_OF_ONE, 2 * PRICE_OF_ONE)
    listed = [
        name
        for each in world.settlements()
        if each["status"]["state"] == "Confirmed"
        for part in each["spec"]["claims"]
        for name in part["claims"]
    ]
    assert sorted(listed) == sorted([claim, other])


def test_chain_silent__for_a_while__nothing_is_lost_and_it_goes_on(chain_world: World) -> None:
    world = chain_world
    first = world.claim()
    world.settler.start(chain__rpc_timeout_seconds="0.5")
    world.until_settled(first)
    os.kill(world.chain_pid, signal.SIGSTOP)
    try:
        second = world.claim()
        world.until("the settler to say so", lambda: "cycle interrupted" in world.settler.said())
        assert world.status(second).get("state", "Pending") == "Pending"
    finally:
        os.kill(world.chain_pid, signal.SIGCONT)
    world.until_settled(second)
    assert world.balances() == (DEPOSIT - 2 * PRICE_OF_ONE, 2 * PRICE_OF_ONE)
