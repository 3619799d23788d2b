"""`fallow chain dispute`, `reveal`, `resolve`, `stake`, `rotate` …, as people at terminals use them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import anvil_chain
import money_stage
import money_terms as money
from fallow.receipts.words import to_hex
from fallow.settler.rpc import Rpc
from integration.command_line import Ended, fallow
from integration.test_cli_chain import a_keystore
from money_stage import Paid, Stage


@dataclass
class Terminal:
    """Everybody at terminals of their own, in front of one chain."""

    url: str
    directory: Path
    escrow: str = ""

    def on_stage(self, do: Callable[[Stage], Awaitable[Any]]) -> Any:
        """Do something by typed calls."""

        async def connected() -> Any:
            async with Rpc(self.url) as rpc:
                stage = await money_stage.found(rpc, self.escrow, self.directory / "archive")
                return await do(stage)

        return asyncio.run(connected())

    def run(self, command: str, *arguments: str, key: str | None = None) -> Ended:
        """Run a chain command, with yes to every question."""
        if command in {"reveal", "show-twice"}:
            arguments = (*arguments, "--archive", str(self.directory / "archive"))
        signs = () if key is None else a_keystore(self.directory, key)
        return fallow("chain", command, *arguments, "--rpc", self.url, "--escrow", self.escrow, *signs)

    def did(self, command: str, *arguments: str, key: str | None = None) -> str:
        """Run a command that has to succeed; return what it said."""
        ended = self.run(command, *arguments, key=key)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def refused(self, command: str, *arguments: str, key: str | None = None) -> str:
        """Run a command that the escrow has to refuse; return the sentence."""
        ended = self.run(command, *arguments, key=key)
        assert ended.returncode == 1, ended
        assert "Traceback" not in ended.stderr
        return ended.stderr


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    directory = tmp_path_factory.mktemp("terminals")
    with anvil_chain.anvil(directory / "anvil.log") as running:

        async def prepare() -> str:
            async with Rpc(running.url) as rpc:
                return (await money_stage.set_up(rpc, directory / "archive")).escrow.address

        yield Terminal(running.url, directory, asyncio.run(prepare()))


@pytest.fixture
def terminal(chain: Terminal) -> Iterator[Terminal]:
    """The chain as it was set up: each test takes back what it did."""
    snapshot = chain.on_stage(lambda stage: stage.rpc.w3.provider.make_request("evm_snapshot", []))["result"]
    yield chain
    chain.on_stage(lambda stage: stage.rewind(snapshot))


def test_dispute__revealed_and_rejected__gives_the_payer_its_money_back(terminal: Terminal) -> None:
    bad = Paid(7200)
    leaves = terminal.on_stage(lambda stage: stage.settle(Paid(), bad, Paid(payee="payee2")))
    payee = money.address("payee")
    asked = terminal.run("dispute", "1", "--payee", payee, key="payer")
    assert asked.returncode == 1  # nobody answered the question
    too_much = ("1", "--payee", payee, "--amount", "9")
    assert "left to freeze" in terminal.refused("dispute", *too_much, key="payer")
    said = terminal.did("dispute", "1", "--payee", payee, "--yes", key="payer")
    assert "Frozen: 5.4 of line" in said
    assert "fallow chain reveal" in said
    line = said.split("of line ")[1].split(".")[0]
    where = ("1", "--line", line)
    assert "FROZEN" in terminal.did("disputes")
    assert "waits for leaves" in terminal.refused(
        "resolve", *where, "--nothing-wrong", "--yes", key="arbiter"
    )
    assert "Revealed 2 of 2" in terminal.did(
        "reveal", *where, "--per-transaction", "1", "--yes", key="stranger"
    )
    assert "nothing of line" in terminal.refused("reveal", *where, "--yes", key="stranger")
    claim = next(one.spec["claimId"] for one in leaves.bundle.claims() if one.spec["seconds"] == 7200)
    assert "only the arbiter" in terminal.refused("resolve", *where, "--reject", claim, "--yes", key="payer")
    assert "3.6 back to" in terminal.did("resolve", *where, "--reject", claim, "--yes", key="arbiter")
    assert terminal.on_stage(lambda stage: stage.staked("payee")) == money_stage.STAKE - bad.amount
    assert "Collected 5." in terminal.did("collect", key="payer")
    assert terminal.run("resolve", *where, "--yes", key="arbiter").returncode == 2


def test_dispute__nobody_reveals__is_refunded_when_overdue(terminal: Terminal) -> None:
    terminal.on_stage(lambda stage: stage.settle(Paid()))
    terminal.did("dispute", "1", "--payee", money.address("payee"), "--amount", "1", "--yes", key="payer")
    where = ("1", "--line", "0")
    assert "from" in terminal.refused("resolve", *where, "--overdue", key="stranger")
    terminal.on_stage(lambda stage: stage.later(money_stage.REVEAL + 1))
    assert "1 back to" in terminal.did("resolve", *where, "--overdue", key="stranger")
    assert terminal.on_stage(lambda stage: stage.staked("hub")) == money_stage.STAKE - 1_000_000


def test_dispute__by_a_stranger_too_late_or_of_nothing__is_refused_in_words(terminal: Terminal) -> None:
    payee = ("--payee", money.address("payee"))
    assert "is not settled" in terminal.refused("dispute", "1", *payee, "--yes", key="payer")
    terminal.on_stage(lambda stage: stage.settle(Paid()))
    assert "has no line" in terminal.refused("dispute", "1", *payee, "--yes", key="stranger")
    terminal.on_stage(lambda stage: stage.later(2 * money_stage.WINDOW))
    said = terminal.refused("dispute", "1", *payee, "--yes", key="payer")
    assert "matured" in said


def test_show_twice__a_claim_in_two_epochs__is_slashed_and_given_back(terminal: Terminal) -> None:
    twice = Paid()
    first = terminal.on_stage(lambda stage: stage.settle(twice))
    claim = next(first.bundle.claims()).spec["claimId"]
    assert "in 1 settled epochs" in terminal.refused("show-twice", claim, "--yes", key="stranger")
    terminal.on_stage(lambda stage: stage.settle(twice))
    said = terminal.did("show-twice", claim, "--yes", key="stranger")
    assert "1.8 slashed" in said
    assert "1.8 of that line given back" in said


def test_stake__asked_back__comes_after_the_unbonding_period(terminal: Terminal) -> None:
    assert "600 staked" in terminal.did("stake", "100", "--hub", "--yes", key="payer")
    assert "not that key's" in terminal.refused("unstake", "--ask", "100", "--hub", key="payer")
    assert "--ask AMOUNT first" in terminal.refused("unstake", "--hub", key="deployer")
    assert "for 24 hours" in terminal.did("unstake", "--ask", "100", "--hub", key="deployer")
    assert "can be done from" in terminal.refused("unstake", "--hub", key="deployer")
    terminal.on_stage(lambda stage: stage.later(money_stage.UNBONDING))
    assert "is back" in terminal.did("unstake", "--hub", key="deployer")


def test_roles__paused_rotated_closed__each_by_its_holder(terminal: Terminal) -> None:
    terminal.on_stage(lambda stage: stage.settle(Paid()))
    assert "only the guardian" in terminal.refused("pause", key="stranger")
    assert "paused" in terminal.did("pause", key="guardian")
    assert "only the owner" in terminal.refused("unpause", "--yes", key="guardian")
    assert "goes on" in terminal.did("unpause", "--yes", key="deployer")

    to = ("--to", money.address("operator2"))
    assert "only the owner" in terminal.refused("rotate", "operator", *to, "--yes", key="stranger")
    assert "can accept from" in terminal.did("rotate", "operator", *to, "--yes", key="deployer")
    assert "can be done from" in terminal.refused("rotate", "operator", "--accept", key="operator2")
    assert "was not proposed" in terminal.refused("rotate", "operator", "--accept", key="stranger")
    terminal.on_stage(lambda stage: stage.later(money_stage.DAY))
    assert "is the operator now" in terminal.did("rotate", "operator", "--accept", key="operator2")
    assert "can accept from" in terminal.did("rotate", "arbiter", *to, "--yes", key="deployer")
    assert terminal.run("rotate", "guardian", "--accept", key="stranger").returncode == 2

    assert "Closing" in terminal.did("close", "--yes", key="deployer")
    assert "final" in terminal.refused("close", "--yes", key="deployer")
    assert "its successor" in terminal.refused("deposit", "1", key="payer")
    assert "still open" in terminal.refused("withdraw", "--all", key="payer")
    terminal.on_stage(lambda stage: stage.later(money_stage.NOTICE))
    assert "Withdrew 9998.2." in terminal.did("withdraw", "--all", key="payer")


def test_signer__named_and_ended__says_for_which_epochs(terminal: Terminal) -> None:
    agent, payee = money.address("signer"), ("--payee", money.address("payee"))
    assert "never named" in terminal.did("signer", agent, *payee)
    assert "epochs 1 to 9" in terminal.did("signer", agent, "--until", "9", key="payee")
    assert "named before" in terminal.refused("signer", agent, "--until", "12", key="payee")
    assert "epochs 1 to 2" in terminal.did("signer", agent, "--end", "2", "--yes", key="payee")
    assert "no registered payee" in terminal.refused("signer", agent, "--until", "9", key="stranger")


def test_print_call__for_a_multisig__sends_nothing_and_is_the_call(terminal: Terminal) -> None:
    said = terminal.did("rotate", "arbiter", "--to", money.address("stranger"), "--print-call")
    call = json.loads(said.splitlines()[-1])
    stage_call = terminal.on_stage(_proposal)
    assert (call["to"], call["data"], call["value"]) == (*stage_call, "0")


async def _proposal(stage: Stage) -> tuple[str, str]:
    data = stage.disputes.artifact.call("proposeArbiter", money.address("stranger"))
    return stage.disputes.address, to_hex(data)
