"""The operator's key in another process: anvil signs for its own accounts, behind a door of the test's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import anvil_chain
from devkit.rig import Rig
from integration.command_line import fallow
from integration.settler_world import DEPOSIT, PRICE_OF_ONE, World, world_on
from signer_relay import TOKEN, SignerRelay

# anvil's second account: its key never leaves that process.
OPERATOR = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


@pytest.fixture
def signer(tmp_path: Path) -> Iterator[SignerRelay]:
    with (
        anvil_chain.anvil(tmp_path / "signer.log", "--no-mining") as keys,
        SignerRelay(keys.url, tmp_path / "signer") as relay,
    ):
        yield relay


@pytest.fixture
def remote_world(rig: Rig, hub_lease: None, hub_namespace: str, tmp_path: Path) -> Iterator[World]:
    with (
        anvil_chain.anvil(tmp_path / "anvil.log", "--block-time", "0.2") as chain,
        world_on(chain, rig, hub_namespace, tmp_path, operator=OPERATOR) as world,
    ):
        yield world


def test_remote_signer__on_a_chain__settles__and_one_that_lies_or_is_silent_only_delays(
    remote_world: World, signer: SignerRelay
) -> None:
    world = remote_world
    first = world.claim()
    shown = _dry_run(world, signer)
    assert (shown["epoch"]["claims"], shown["epoch"]["total"]) == (1, "1.8")
    assert shown["transaction"]["from"] == OPERATOR
    assert shown["transaction"]["to"] == world.domain.escrow
    assert (world.settlements(), signer.asked) == ([], []), "a dry run writes and signs nothing"

    world.settler.start(**signer.settings(OPERATOR))
    world.until_settled(first)
    assert set(signer.asked) == {"eth_signTransaction"}

    signer.lies = True
    second = world.claim()
    world.until("it to say so", lambda: "SignerLies" in world.settler.said())
    assert "its value differs" in world.settler.said()
    assert world.status(second).get("state", "Pending") == "Pending"
    signer.lies, signer.is_down = False, True
    world.until("it to say that too", lambda: "SignerUnavailable" in world.settler.said())
    assert world.balances() == (DEPOSIT - PRICE_OF_ONE, PRICE_OF_ONE)
    signer.is_down = False
    world.until_settled(second)
    assert world.balances() == (DEPOSIT - 2 * PRICE_OF_ONE, 2 * PRICE_OF_ONE)

    # Whom the signer does not know it signs nothing for; the token may be renewed under way.
    signer.token_file.write_text("somebody-else\n")
    third = world.claim()
    world.until("a third word", lambda: world.settler.said().count("SignerUnavailable") >= 2)
    signer.token_file.write_text(TOKEN + "\n")
    world.until_settled(third)
    assert TOKEN not in world.settler.log.read_text()


def test_remote_signer__of_a_ledger__signs_settlements__and_no_others(
    ledger_world: World, signer: SignerRelay
) -> None:
    world = ledger_world
    signer.lies = True
    first = world.claim()
    world.settler.start(**signer.settings(OPERATOR))
    world.until("it to say so", lambda: "SignerLies" in world.settler.said())
    assert world.settlements() == []
    signer.lies = False
    world.until_settled(first)
    second = world.claim()
    world.until_settled(second)
    assert set(signer.asked) == {"eth_signTypedData_v4"}
    assert world.balances() == (DEPOSIT - 2 * PRICE_OF_ONE, 2 * PRICE_OF_ONE)


def _dry_run(world: World, signer: SignerRelay) -> dict[str, dict[str, object]]:
    arguments = world.settler.arguments(dry_run="true", **signer.settings(OPERATOR))
    ended = fallow("settler", *arguments)
    assert ended.returncode == 0, ended
    shown: dict[str, dict[str, object]] = json.loads(ended.stdout)
    return shown
