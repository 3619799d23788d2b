"""`fallow chain` and `fallow account bind` against a real chain: what they do, refuse, and say next."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from eth_account import Account

import anvil_chain
import money_terms as money
from fallow.receipts.statements import check_authorization
from fallow.receipts.words import to_hex
from fallow.resources.account import AccountSpec
from fallow.settler.escrow import Token
from fallow.settler.rpc import Rpc
from integration.command_line import Ended, fallow
from integration.wallets import Wallet

PASSWORD = "correct horse"
NAMESPACE_UID = money.NAMESPACE_UID


def a_keystore(directory: Path, name: str) -> tuple[str, ...]:
    """The flags that sign with a key of `money_terms` (or anvil's own first one)."""
    key = anvil_chain.DEPLOYER if name == "deployer" else money.key(name)
    keystore, password = directory / f"{name}.json", directory / "password"
    keystore.write_text(json.dumps(Account.encrypt(key.key, PASSWORD, kdf="pbkdf2", iterations=1000)))
    password.write_text(PASSWORD + "\n")
    return ("--keystore", str(keystore), "--password-file", str(password))


@dataclass
class Desk:
    """Somebody at a terminal, with keystores and a chain."""

    url: str
    directory: Path
    token: str
    escrow: str = ""

    def run(self, command: str, *arguments: str, key: str | None = None) -> Ended:
        at = ("--rpc", self.url) + (("--escrow", self.escrow) if self.escrow else ())
        signs = () if key is None else a_keystore(self.directory, key)
        return fallow("chain", command, *arguments, *at, *signs)

    def on_chain(self, do: Callable[[Rpc], Awaitable[Any]]) -> Any:
        async def connected() -> Any:
            async with Rpc(self.url) as rpc:
                return await do(rpc)

        return asyncio.run(connected())

    def later(self, seconds: int) -> None:
        async def wait(rpc: Rpc) -> None:
            await rpc.w3.provider.make_request("evm_increaseTime", [seconds])
            await rpc.w3.provider.make_request("evm_mine", [])

        self.on_chain(wait)

    def deployment(self, *changes: str, key: str = "deployer") -> Ended:
        roles = {
            "--token": self.token,
            "--hub-id": to_hex(money.HUB_ID),
            "--owner": anvil_chain.DEPLOYER.address,
            "--operator": money.address("operator"),
            "--guardian": anvil_chain.DEPLOYER.address,
            "--arbiter": money.address("arbiter"),
            "--beneficiary": money.address("beneficiary"),
            "--notice-seconds": "3600",
            "--payee-delay-seconds": "0",
        }
        roles |= dict(zip(changes[::2], changes[1::2], strict=True))
        return self.run("deploy", *(part for pair in roles.items() for part in pair), "--yes", key=key)

    def deployed(self) -> Desk:
        ended = self.deployment()
        assert ended.returncode == 0, ended.stderr
        self.escrow = ended.stdout.split("escrow")[2].split()[0]
        return self


def a_desk(directory: Path, *anvil_arguments: str) -> Iterator[Desk]:
    with anvil_chain.anvil(directory / "anvil.log", *anvil_arguments) as chain:

        async def prepare() -> str:
            async with Rpc(chain.url) as rpc:
                token = await Token.deploy(rpc, key=anvil_chain.DEPLOYER)
                for name in ("payer", "payee"):
                    await anvil_chain.give_gas(rpc, money.address(name))
                await token.mint(money.address("payer"), 100_000_000, key=anvil_chain.DEPLOYER)
                return token.address

        yield Desk(chain.url, directory, asyncio.run(prepare()))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A development chain."""
    yield from a_desk(tmp_path)


@pytest.fixture
def main_net(tmp_path: Path) -> Iterator[Desk]:
    """A chain that says it is Ethereum's main net."""
    yield from a_desk(tmp_path, "--chain-id", "1")


def test_deploy__on_a_test_chain__attaches_disputes_and_the_payer_can_come(desk: Desk) -> None:
    desk.deployed()
    payer = money.address("payer")

    refused = desk.run("deposit", "500", key="payer")
    assert (refused.returncode, "send it some first" in refused.stderr) == (1, True), refused
    ended = desk.run("deposit", "60.5", key="payer")
    assert (ended.returncode, "its balance is 60.5" in ended.stdout) == (0, True), ended
    assert "fallow chain authorize" in ended.stdout

    asked = desk.run("authorize", "--cap", "20", "--min-interval-seconds", "86400", key="payer")
    assert asked.returncode == 1  # nobody answered the question
    ended = desk.run("authorize", "--cap", "20", "--min-interval-seconds", "86400", "--yes", key="payer")
    assert (ended.returncode, "at most 20 a day" in ended.stdout) == (0, True), ended
    stricter = desk.run("authorize", "--cap", "10", "--yes", key="payer")
    assert (stricter.returncode, "--notice" in stricter.stderr) == (1, True), stricter
    assert desk.run("authorize", "--cap", "0", "--yes", key="payer").returncode == 2
    ended = desk.run("authorize", "--cap", "0", "--notice", "--yes", key="payer")
    assert (ended.returncode, "--apply" in ended.stdout) == (0, True), ended
    early = desk.run("authorize", "--apply", key="payer")
    assert (early.returncode, "matures at" in early.stderr) == (1, True), early
    desk.later(3601)
    assert desk.run("authorize", "--apply", key="payer").returncode == 0
    shown = desk.run("balance", payer)
    assert (shown.returncode, shown.stderr) == (0, "")
    rows = {line[:24].strip(): line[24:].strip() for line in shown.stdout.splitlines()}
    assert (rows["deposited"], rows["outside, in the token"], rows["bound to this hub"]) == (
        "60.5",
        "39.5",
        "no",
    )


def test_withdraw__announced_matured_and_taken__says_each_next_step(desk: Desk) -> None:
    desk.deployed()
    assert desk.run("deposit", "60", key="payer").returncode == 0
    nothing = desk.run("withdraw", key="payer")
    assert (nothing.returncode, "--notice" in nothing.stderr) == (1, True), nothing
    assert "for 24 hours" in desk.run("withdraw", "--notice", "25", key="payer").stdout
    assert (
        desk.run("withdraw", "--notice", "30", key="payer").returncode == 1
    )  # not answered: it would wait anew
    early = desk.run("withdraw", key="payer")
    assert (early.returncode, "run this again then" in early.stderr) == (1, True), early
    desk.later(3601)
    ended = desk.run("withdraw", key="payer")
    assert (ended.returncode, "Withdrew 25." in ended.stdout) == (0, True), ended
    assert desk.run("withdraw", "--credits", "--notice", "1", key="payer").returncode == 2
    none_earned = desk.run("withdraw", "--credits", key="payer")
    assert (none_earned.returncode, "register-payee" in none_earned.stderr) == (1, True), none_earned


def test_register_payee__by_its_own_key__once(desk: Desk) -> None:
    desk.deployed()
    ended = desk.run("register-payee", key="payee")
    assert (ended.returncode, "is registered" in ended.stdout) == (0, True), ended
    assert "already" in desk.run("register-payee", key="payee").stdout
    shown = desk.run("balance", money.address("payee"))
    assert "registered as payee     yes" in shown.stdout


def test_deploy__on_a_main_net__demands_audit_and_two_multisigs(main_net: Desk) -> None:
    for changes, said in (
        ((), "--audit"),
        (("--audit", "https://audits.example/1"), "--owner has to be a multisig"),
        (("--audit", "ref", "--owner", main_net.token), "--arbiter has to be a multisig"),
        (("--audit", "ref", "--owner", main_net.token, "--arbiter", main_net.token), "two multisigs"),
    ):
        refused = main_net.deployment(*changes)
        assert (refused.returncode, said in refused.stderr) == (2, True), refused
    # Two contracts, standing in for the multisigs; the owner has to attach the disputes itself.
    other = main_net.on_chain(lambda rpc: Token.deploy(rpc, key=anvil_chain.DEPLOYER)).address
    ended = main_net.deployment("--audit", "ref", "--owner", main_net.token, "--arbiter", other)
    assert (ended.returncode, "attachDisputes" in ended.stdout) == (0, True), ended


def test_bind__by_the_payer__makes_a_manifest_that_holds(desk: Desk, tmp_path: Path) -> None:
    desk.deployed()
    where = ("--rpc", desk.url, "--escrow", desk.escrow)
    what = ("--namespace", "team", "--namespace-uid", NAMESPACE_UID, "--expires", "2090-01-01T00:00:00Z")
    keys = a_keystore(tmp_path, "payer")
    ended = fallow("account", "bind", *where, *what, *keys, "--max-total", "50.5")
    assert ended.returncode == 0, ended.stderr
    manifest = yaml.safe_load(ended.stdout)
    spec = AccountSpec.model_validate(manifest["spec"])
    domain = desk.on_chain(lambda rpc: _domain(rpc, desk.escrow))
    check_authorization(spec, domain=domain, namespace_uid=NAMESPACE_UID, decimals=6)
    assert (manifest["metadata"], spec.limits.max_total) == ({"name": "default", "namespace": "team"}, "50.5")

    # The same, signed offline: what is read from the chain can be told.
    told = ("--chain-id", str(domain.chain_id), "--hub-id", to_hex(domain.hub_id), "--decimals", "6")
    file = ("--output", str(tmp_path / "account.yaml"))
    offline = fallow("account", "bind", "--escrow", desk.escrow, *told, *what, *keys, *file)
    assert (offline.returncode, offline.stdout) == (0, ""), offline
    spec = AccountSpec.model_validate(yaml.safe_load((tmp_path / "account.yaml").read_text())["spec"])
    check_authorization(spec, domain=domain, namespace_uid=NAMESPACE_UID, decimals=6)

    for changes in (
        ("--namespace-uid", "team"),
        ("--expires", "2020-01-01T00:00:00Z"),
        ("--expires", "soon"),
        ("--max-total", "1.1234567"),
        ("--password-file", str(tmp_path / "account.yaml")),
    ):
        refused = fallow("account", "bind", *where, *what, *keys, *changes)
        assert (refused.returncode, refused.stdout) == (2, ""), refused
        assert refused.stderr.startswith("fallow: ")
    assert PASSWORD not in refused.stderr


async def _domain(rpc: Rpc, escrow: str) -> Any:
    from fallow.settler.escrow import Escrow

    return await Escrow(rpc, escrow).domain()


def test_bind__wallet_contract__is_asked_whether_it_agrees(desk: Desk, tmp_path: Path) -> None:
    desk.deployed()
    wallet = Wallet(desk.url, desk.escrow, owner="wallet owner")
    bind = (
        "account", "bind", "--rpc", desk.url, "--escrow", desk.escrow, "--wallet", wallet.address,
        "--namespace", "team", "--namespace-uid", NAMESPACE_UID, "--expires", "2090-01-01T00:00:00Z",
        "--nonce", "7",
    )  # fmt: skip
    owner, thief = a_keystore(tmp_path, "wallet owner"), a_keystore(tmp_path, "thief")
    ended = fallow(*bind, *owner)
    assert ended.returncode == 0, ended.stderr
    account = AccountSpec.model_validate(yaml.safe_load(ended.stdout)["spec"])
    assert (account.payer, account.authorization is not None) == (wallet.address, True)
    # Signed somewhere else, over the digest that is told.
    told = fallow(*bind)
    assert (told.returncode, "owners sign 0x" in told.stderr, "--nonce 7" in told.stderr) == (2, True, True)
    assert account.authorization is not None
    again = fallow(*bind, "--signature", account.authorization.signature)
    assert (again.returncode, again.stdout) == (0, ended.stdout), again
    for wrong, said in (
        (thief, "does not accept"),
        (("--signature", "0x12"), "does not accept"),
        (("--signature", "twelve"), "hexadecimal"),
    ):
        refused = fallow(*bind, *wrong)
        assert (refused.returncode, refused.stdout, said in refused.stderr) == (2, "", True), refused
