"""Payers that are contracts (EIP-1271), on a real chain: at the settler, and at an agent."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import anvil_chain
import money_terms as money
from fallow.agent.admission import StillAsking
from fallow.agent.contract_payers import ContractPayers
from fallow.receipts.contract_signatures import ContractSignature
from fallow.receipts.statements import NotThePayersKey, check_authorization
from fallow.receipts.typed_data import Domain
from fallow.resources.account import AccountSpec
from fallow.settings import AgentChainSettings
from faulty_rpc import FaultyRpc
from integration.settler_world import PRICE_OF_ONE, World, make_account
from integration.wallets import BURNS_GAS, REVERTS, Wallet

PATIENCE = 3.0


def bound(world: World, name: str) -> tuple[str, str]:
    conditions = world.account(name).get("status", {}).get("conditions", ())
    found = next((one for one in conditions if one["type"] == "Bound"), None)
    return ("", "") if found is None else (found["status"], found["reason"])


def test_settler__wallet_that_agreed__pays_even_after_it_has_changed_its_mind(chain_world: World) -> None:
    world = chain_world
    uid = world.terms.account.authorization.namespace_uid  # type: ignore[union-attr]
    wallet = Wallet(world.rpc_url, world.domain.escrow, owner="wallet owner")
    wallet.fund(10 * PRICE_OF_ONE)
    account = wallet.account(world.domain, namespace_uid=uid)
    make_account(world.rig, world.terms.account_namespace, account, name="wallet")
    stranger = Wallet(world.rpc_url, world.domain.escrow, owner="another owner")
    forged = stranger.account(world.domain, namespace_uid=uid, signer=money.key("thief"))
    make_account(world.rig, world.terms.account_namespace, forged, name="forged")
    greedy = Wallet(world.rpc_url, world.domain.escrow, owner="a third owner")
    greedy.be(BURNS_GAS)
    burning = greedy.account(world.domain, namespace_uid=uid)
    make_account(world.rig, world.terms.account_namespace, burning, name="burning")

    def claim(payer: AccountSpec, name: str) -> str:
        return world.claim(terms=world.terms.model_copy(update={"account": payer, "account_name": name}))

    world.settler.start()
    first = claim(account, "wallet")
    world.until_settled(first, seconds=60)
    world.until("the wallet to be bound", lambda: bound(world, "wallet") == ("True", "Bound"), seconds=60)
    (proven,) = world.account("wallet")["status"]["proven"]
    assert proven["block"] > 0
    world.until("the forged account's answer", lambda: bound(world, "forged")[0] == "False", seconds=60)
    assert bound(world, "forged")[1] == "AuthorizationInvalid"

    # Work done meanwhile stays payable when the wallet disowns its consent; nothing new is placed.
    wallet.belong_to("somebody else")
    later, not_signed, not_told = claim(account, "wallet"), claim(forged, "forged"), claim(burning, "burning")
    honest = world.claim()
    world.until_settled(later, honest, seconds=60)
    world.until("the wallet to be unbound", lambda: bound(world, "wallet")[0] == "False", seconds=90)
    assert bound(world, "wallet")[1] == "AuthorizationInvalid"
    assert world.account("wallet")["status"]["proven"] == [proven]
    world.until("the forged claim Refused", lambda: world.status(not_signed).get("state") == "Refused")
    assert world.condition(not_signed, "Settled")["reason"] == "AccountUnbound"
    # A contract that burns all gas it is given holds up its own claims only.
    assert world.status(not_told).get("state") != "Settled"
    assert world.settler.stop() == 0


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[anvil_chain.Anvil]:
    with anvil_chain.anvil(tmp_path_factory.mktemp("wallets") / "anvil.log") as chain:
        yield chain


@pytest.fixture(scope="module")
def wallet(chain: anvil_chain.Anvil) -> Wallet:
    return Wallet(chain.url, "0x" + "e5" * 20, owner="wallet owner")


DOMAIN = Domain(chain_id=anvil_chain.CHAIN_ID, escrow="0x" + "e5" * 20, hub_id=money.HUB_ID)


def question(account: AccountSpec) -> ContractSignature:
    """What has to be asked about an account; it is all right but for the signature."""
    uid = money.NAMESPACE_UID
    with pytest.raises(NotThePayersKey) as raised:
        check_authorization(account, domain=DOMAIN, namespace_uid=uid, decimals=money.DECIMALS)
    return raised.value.asked


def ask(url: str | None, asked: ContractSignature, *, trust_hub: bool = False) -> str:
    """Ask as the agent's cycle does: again whenever it is woken."""

    async def asking() -> str:
        woken = asyncio.Event()
        payers = ContractPayers(
            AgentChainSettings(rpc_url=url, rpc_timeout_seconds=1, patience_seconds=PATIENCE),
            chain_id=DOMAIN.chain_id,
            wake=woken.set,
            monotonic=time.monotonic,
        )
        for _ in range(2):
            try:
                return payers.refusal(asked, trust_hub=trust_hub)
            except StillAsking:
                async with asyncio.timeout(60):
                    await woken.wait()
        raise AssertionError("woken without an answer")

    return asyncio.run(asking())


def test_agent__wallet_that_agrees__is_accepted_by_one_raw_call(
    chain: anvil_chain.Anvil, wallet: Wallet
) -> None:
    account = wallet.account(DOMAIN, namespace_uid=money.NAMESPACE_UID)
    with FaultyRpc(chain.url) as rpc:
        assert ask(rpc.url, question(account)) == ""
        assert rpc.asked == 2  # the chain's number, and the call


def test_agent__wallet_that_does_not_agree__is_refused_with_a_sentence(
    chain: anvil_chain.Anvil, wallet: Wallet
) -> None:
    thief = wallet.account(DOMAIN, namespace_uid=money.NAMESPACE_UID, signer=money.key("thief"))
    assert "no contract there accepts it" in ask(chain.url, question(thief))
    nobody = money.an_account(DOMAIN).model_copy(update={"payer": money.address("victim")})
    assert "no contract there accepts it" in ask(chain.url, question(nobody))
    rude = Wallet(chain.url, DOMAIN.escrow, owner="a rude owner")
    rude.be(REVERTS)
    account = rude.account(DOMAIN, namespace_uid=money.NAMESPACE_UID)
    assert "does not accept" in ask(chain.url, question(account))


def test_agent__endpoint_down_late_or_lying__hands_back_with_a_sentence(
    chain: anvil_chain.Anvil, wallet: Wallet, tmp_path: Path
) -> None:
    asked = question(wallet.account(DOMAIN, namespace_uid=money.NAMESPACE_UID))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{free.getsockname()[1]}"
    assert "no usable answer for 3 s" in ask(dead, asked)
    with FaultyRpc(chain.url) as rpc:
        rpc.hangs = True
        assert "no usable answer for 3 s" in ask(rpc.url, asked)
    with anvil_chain.anvil(tmp_path / "other.log", "--chain-id", "5") as other:
        assert "is of chain 5" in ask(other.url, asked)


def test_agent__without_an_endpoint__the_offer_decides_whether_to_trust_the_hub(wallet: Wallet) -> None:
    asked = question(wallet.account(DOMAIN, namespace_uid=money.NAMESPACE_UID))
    assert "no RPC endpoint" in ask(None, asked)
    assert ask(None, asked, trust_hub=True) == ""


def test_questions__about_one_payer__are_asked_once(chain: anvil_chain.Anvil, wallet: Wallet) -> None:
    asked = question(wallet.account(DOMAIN, namespace_uid=money.NAMESPACE_UID))

    async def many() -> int:
        woken = asyncio.Event()
        with FaultyRpc(chain.url) as rpc:
            payers = ContractPayers(
                AgentChainSettings(rpc_url=rpc.url), chain_id=DOMAIN.chain_id, wake=woken.set,
                monotonic=time.monotonic,
            )  # fmt: skip
            for _ in range(50):
                with pytest.raises(StillAsking):
                    payers.refusal(asked, trust_hub=False)
            async with asyncio.timeout(60):
                await woken.wait()
            for _ in range(50):
                assert payers.refusal(asked, trust_hub=False) == ""
            await payers.close()
            return rpc.asked

    assert asyncio.run(many()) == 2
