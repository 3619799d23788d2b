"""Disputes from a real settler's side: claims say how they stand, leaves are revealed from the archive, and
a settler that is killed at any step of it goes on.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import anvil_chain
import money_terms as money
from devkit.rig import Rig
from fallow.receipts.words import from_hex
from fallow.settler.archive import Archive
from fallow.settler.archive_directory import DirectoryStore
from fallow.settler.disputes import Dispute, Disputes, Status
from fallow.settler.escrow import Escrow
from fallow.settler.faults import DisputePoint, Faults
from fallow.settler.leaves import EpochLeaves
from fallow.settler.rpc import Rpc
from integration.settler_world import PRICE_OF_ONE, World, world_on

WAIT_SECONDS = 60


@pytest.fixture
def disputed_world(rig: Rig, hub_lease: None, hub_namespace: str, tmp_path: Path) -> Iterator[World]:
    """A world whose credits rest for days and can be disputed."""
    with (
        anvil_chain.anvil(tmp_path / "anvil.log", "--block-time", "0.2") as chain,
        world_on(chain, rig, hub_namespace, tmp_path, disputes=True) as world,
    ):
        yield world


def _start(world: World, *, answers: bool = True, fault: str = "") -> None:
    settings = {"disputes__poll_seconds": "0.05"}
    if answers:
        settings["disputes__revealer__keystore"] = str(world.settler.revealer)
        settings["disputes__revealer__password_file"] = str(world.settler.password)
        settings["disputes__leaves_per_transaction"] = "2"
    world.settler.start(fault=fault, **settings)


def _settled(world: World, count: int) -> list[str]:
    """Claims of one epoch, settled."""
    claims = [world.claim(index=index) for index in range(count)]
    _start(world, answers=False)
    world.until_settled(*claims, seconds=WAIT_SECONDS)
    world.until("Confirmed", lambda: all(_state(one) == "Confirmed" for one in world.settlements()))
    world.settler.kill()
    return claims


def _state(obj: dict[str, Any]) -> str:
    return str((obj.get("status") or {}).get("state"))


def _settlement(world: World) -> dict[str, Any]:
    """The epoch with most claims: what the tests dispute."""
    return max(
        world.settlements(), key=lambda one: sum(len(part["claims"]) for part in one["spec"]["claims"])
    )


def _leaves(world: World) -> EpochLeaves:
    archive = Archive(DirectoryStore(world.settler.archive, faults=Faults()))
    return EpochLeaves(asyncio.run(archive.load(from_hex(_settlement(world)["spec"]["bundleHash"]))))


def _freeze(world: World, amount: int) -> EpochLeaves:
    leaves = _leaves(world)

    async def freeze(escrow: Escrow) -> None:
        module = await _module(escrow)
        token = await escrow.token()
        payer = money.key("payer")
        await token.mint(payer.address, 5_000_000, key=anvil_chain.DEPLOYER)
        await token.approve(module.address, 5_000_000, key=payer)
        await module.write("freeze", leaves.header, leaves.lines, 0, amount, key=payer)

    world.on_chain(freeze)
    return leaves


async def _module(escrow: Escrow) -> Disputes:
    found = await Disputes.of(escrow)
    assert found is not None
    return found


def _dispute(world: World, leaves: EpochLeaves) -> Dispute:
    async def read(escrow: Escrow) -> Dispute:
        return await (await _module(escrow)).dispute(leaves.bundle.settlement.epoch, 0)

    found: Dispute = world.on_chain(read)
    return found


def _do(world: World, function: str, *arguments: Any, who: str) -> None:
    async def do(escrow: Escrow) -> None:
        await (await _module(escrow)).write(function, *arguments, key=money.key(who))

    world.on_chain(do)


def _later(world: World, seconds: int) -> None:
    async def wait(rpc: Rpc) -> None:
        await rpc.w3.provider.make_request("evm_increaseTime", [seconds])
        await rpc.w3.provider.make_request("evm_mine", [])

    world.on_chain(lambda escrow: wait(escrow.rpc))


def _until_says(world: World, claim: str, reason: str) -> None:
    world.until(
        f"claim {claim} to say {reason}",
        lambda: world.condition(claim, "Disputed").get("reason") == reason,
        seconds=WAIT_SECONDS,
    )


def _of_line(world: World, claims: list[str], leaves: EpochLeaves) -> list[str]:
    names = {one.name for one in leaves.bundle.named}
    return [each for each in claims if each in names]


def test_dispute__frozen__is_told_revealed_ruled_on_and_told_again(disputed_world: World) -> None:
    world = disputed_world
    claims = _settled(world, 3)
    leaves = _freeze(world, PRICE_OF_ONE)
    disputed = _of_line(world, claims, leaves)
    _start(world)
    for claim in disputed:
        _until_says(world, claim, "Revealed")
    assert {world.status(each)["state"] for each in disputed} == {"Settled"}
    assert _dispute(world, leaves).status is Status.REVEALED

    rejected = next(leaves.bundle.claims())
    epoch = leaves.bundle.settlement.epoch
    _do(world, "rule", epoch, 0, [from_hex(rejected.spec["claimId"])], who="arbiter")
    _until_says(world, rejected.name, "Rejected")
    for claim in set(disputed) - {rejected.name}:
        _until_says(world, claim, "Upheld")
    (told,) = _settlement(world)["status"]["disputes"]
    assert (told["state"], told["frozen"], told["refunded"], told["released"]) == ("Ruled", "1.8", "1.8", "0")
    conditions = {each["type"]: each for each in _settlement(world)["status"]["conditions"]}
    assert conditions["Disputed"]["status"] == "False"


def test_dispute__without_a_revealer__is_told_and_waits_for_a_person(disputed_world: World) -> None:
    world = disputed_world
    claims = _settled(world, 1)
    leaves = _freeze(world, PRICE_OF_ONE)
    _start(world, answers=False)
    _until_says(world, claims[0], "Frozen")
    assert "leaves have to be revealed until" in world.condition(claims[0], "Disputed")["message"]
    assert _dispute(world, leaves).revealed == 0
    # Nobody does: the payer is refunded.
    _later(world, 3601)
    _do(world, "conclude", leaves.bundle.settlement.epoch, 0, who="stranger")
    _until_says(world, claims[0], "NotRevealed")


def test_dispute__arbiter_silent__is_released_by_the_settler(disputed_world: World) -> None:
    world = disputed_world
    claims = _settled(world, 1)
    _freeze(world, PRICE_OF_ONE)
    _start(world)
    _until_says(world, claims[0], "Revealed")
    _later(world, 3601)
    _until_says(world, claims[0], "Released")


SHORT = (DisputePoint.ANSWER_SENT, DisputePoint.FIRST_CLAIM_TOLD)
"""Where a kill leaves something half done. The others are in hack/soak disputes."""


@pytest.mark.parametrize("point", list(DisputePoint) if os.environ.get("FALLOW_SOAK") else SHORT)
def test_settler__killed_while_it_answers__goes_on(disputed_world: World, point: DisputePoint) -> None:
    world = disputed_world
    claims = _settled(world, 3)
    leaves = _freeze(world, 1)
    disputed = _of_line(world, claims, leaves)
    _start(world, fault=point)
    assert world.settler.wait(seconds=WAIT_SECONDS) == 137
    _start(world)
    for claim in disputed:
        _until_says(world, claim, "Revealed")
    dispute = _dispute(world, leaves)
    assert (dispute.revealed, dispute.status) == (dispute.amount, Status.REVEALED)
