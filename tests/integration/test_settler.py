"""The settler against a real API server and a real chain: killed at every step, it pays once."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import anvil_chain
import money_terms as money
from devkit.rig import Rig
from devkit.rig.api import ApiError
from fallow.receipts.typed_data import Domain
from fallow.receipts.words import keccak
from fallow.resources.account import AccountLimits, AccountSpec
from fallow.resources.money import parse_amount
from fallow.resources.naming import claim_name
from fallow.resources.terms import Terms
from fallow.settler.escrow import Escrow
from fallow.settler.faults import KILLED, ON_CHAIN_ONLY, FaultPoint
from fallow.settler.rpc import Rpc
from integration.settler_process import SettlerProcess, claim_object

API = "/apis/fallow.dev/v1alpha1"
NAMESPACE = "provider-aurora"
DEPOSIT = 1_000_000_000
PRICE_OF_ONE = 1_800_000


@dataclass
class World:
    """One hub's money: the settler, its claims and accounts, and what can be read back."""

    rig: Rig
    settler: SettlerProcess
    domain: Domain
    terms: Terms
    balances: Callable[[], tuple[int, int]]
    """(payer's balance, payee's credits) from the chain, or from the ledger's Settlements."""
    rpc_url: str = ""
    chain_pid: int = 0

    def on_chain(self, do: Callable[[Escrow], Awaitable[Any]]) -> Any:
        """Do something on the escrow, as somebody other than the settler."""

        async def connected() -> Any:
            async with Rpc(self.rpc_url) as rpc:
                return await do(Escrow(rpc, self.domain.escrow))

        return asyncio.run(connected())

    def claim(self, *, index: int = 0, attempt: int = 0, job_uid: str | None = None, **changes: Any) -> str:
        """Let the hub claim one successful hour; returns the claim's name."""
        placement = str(uuid.uuid4())
        spec = money.a_claim(
            [f"{index}:{attempt}:3600:S:"],
            terms=changes.pop("terms", self.terms),
            placement_uid=placement,
            job_uid=job_uid or str(uuid.uuid4()),
            attempt=attempt,
            **changes,
        )
        name = claim_name(placement, 0)
        self.rig.hub_client().post(
            f"{API}/namespaces/{NAMESPACE}/paymentclaims",
            claim_object(spec, name=name, namespace=NAMESPACE),
        )
        return name

    def status(self, claim: str) -> dict[str, Any]:
        path = f"{API}/namespaces/{NAMESPACE}/paymentclaims/{claim}"
        return dict(self.rig.hub_client().get(path).get("status") or {})

    def condition(self, claim: str, kind: str) -> dict[str, Any]:
        found = [each for each in self.status(claim).get("conditions") or () if each["type"] == kind]
        return dict(found[0]) if found else {}

    def until(self, what: str, done: Callable[[], Any], *, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, f"waited in vain for {what}:\n{self.settler.said()}"
            time.sleep(0.05)

    def until_settled(self, *claims: str) -> None:
        left = set(claims)

        def done() -> bool:
            left.difference_update({each for each in left if self.status(each).get("state") == "Settled"})
            return not left

        self.until(f"claims {claims} Settled", done)

    def dies_before_settling(self, claim: str) -> bool:
        """Wait until the settler has ended, or a while past the settling of `claim`."""
        settled_at: list[float] = []

        def over() -> bool:
            if not settled_at and self.status(claim).get("state") == "Settled":
                settled_at.append(time.monotonic())
            return self.settler.ended is not None or bool(settled_at and time.monotonic() > settled_at[0] + 1)

        self.until(f"the settler's end, or claim {claim} Settled", over)
        return self.settler.ended is not None

    def settlements(self) -> list[dict[str, Any]]:
        hub_id = "0x" + self.domain.hub_id.hex()
        items = self.rig.hub_client().get(f"{API}/settlements")["items"]
        return [obj for obj in items if obj["spec"]["hubId"] == hub_id]

    def account(self, name: str = "default") -> dict[str, Any]:
        path = f"{API}/namespaces/{self.terms.account_namespace}/accounts/{name}"
        return dict(self.rig.hub_client().get(path))


def _account(rig: Rig, namespace: str, spec: Any, *, name: str = "default") -> None:
    rig.hub_client().post(
        f"{API}/namespaces/{namespace}/accounts",
        {
            "apiVersion": "fallow.dev/v1alpha1",
            "kind": "Account",
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec.wire(),
        },
    )


@pytest.fixture(scope="module")
def hub_lease(rig: Rig) -> None:
    """The hub's Lease, whose term an admission policy compares creates with; nobody holds it."""
    path = "/apis/coordination.k8s.io/v1/namespaces/fallow-system/leases"
    try:
        rig.hub_client().post(path, {"metadata": {"name": "fallow-hub"}, "spec": {"leaseTransitions": 0}})
    except ApiError as error:
        if error.status != 409:
            raise


@pytest.fixture
def chain_world(rig: Rig, hub_lease: None, hub_namespace: str, tmp_path: Path) -> Iterator[World]:
    with anvil_chain.anvil(tmp_path / "anvil.log", "--block-time", "0.2") as chain:

        async def prepare() -> anvil_chain.Deployment:
            async with Rpc(chain.url) as rpc:
                made = await anvil_chain.deploy(rpc, hub_id=keccak(hub_namespace.encode()))
                await anvil_chain.fund(rpc, made, money.key("payer"), DEPOSIT)
                await made.escrow.register_payee(money.key("payee"), sender=anvil_chain.DEPLOYER)
                return made

        deployment = asyncio.run(prepare())

        def balances() -> tuple[int, int]:
            async def read() -> tuple[int, int]:
                async with Rpc(chain.url) as rpc:
                    escrow = Escrow(rpc, deployment.escrow.address)
                    payer = await escrow.payer(money.address("payer"))
                    return payer.balance, (await escrow.credits_of(money.address("payee"))).owed

            return asyncio.run(read())

        uid = rig.hub_client().get(f"/api/v1/namespaces/{hub_namespace}")["metadata"]["uid"]
        account = money.an_account(deployment.domain, namespace_uid=uid)
        _account(rig, hub_namespace, account)
        terms = money.some_terms(
            deployment.domain,
            token=deployment.token.address,
            account=account,
            account_namespace=hub_namespace,
        )
        settler = SettlerProcess(
            rig,
            tmp_path / "settler",
            deployment.domain,
            token=deployment.token.address,
            rpc_url=chain.url,
        )
        with settler:
            yield World(rig, settler, deployment.domain, terms, balances, chain.url, chain.pid)


@pytest.fixture
def ledger_world(rig: Rig, hub_lease: None, hub_namespace: str, tmp_path: Path) -> Iterator[World]:
    # NB: a ledger's Settlements are named by number alone, so each test needs the hub to itself.
    for old in rig.hub_client().get(f"{API}/settlements")["items"]:
        rig.hub_client().delete(f"{API}/settlements/{old['metadata']['name']}")
    domain = Domain.of_ledger(keccak(hub_namespace.encode()))
    account = money.an_account(domain, limits=AccountLimits(max_total="1000"))
    _account(rig, hub_namespace, account)
    terms = money.some_terms(domain, account=account, account_namespace=hub_namespace)
    settler = SettlerProcess(rig, tmp_path / "settler", domain)
    world = World(rig, settler, domain, terms, lambda: (0, 0))

    def balances() -> tuple[int, int]:
        amounts = [
            parse_amount(line["amount"], decimals=money.DECIMALS)
            for settlement in world.settlements()
            for line in settlement["spec"]["lines"]
        ]
        return DEPOSIT - sum(amounts), sum(amounts)

    world.balances = balances
    with settler:
        yield world


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
    _account(world.rig, world.terms.account_namespace, AccountSpec(payer=mistyped), name="mistyped")
    _account(world.rig, world.terms.account_namespace, unlimited, name="unlimited")
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
    unfunded = world.claim(terms=world.terms.model_copy(update={"price_per_task_hour": "5000"}))
    free = world.claim(terms=world.terms.model_copy(update={"price_per_task_hour": "0"}))
    good = world.claim()
    world.until_settled(good, free)

    assert world.status(forged)["state"] == "Refused"
    assert world.condition(forged, "Settled")["reason"] == "ReceiptRefused"
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
    second = money.an_account(world.domain, payer="second payer")
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
