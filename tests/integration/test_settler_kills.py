"""Anvil and the hub's API server killed while the settler works: every claim is settled once."""

from __future__ import annotations

import asyncio
import gzip
import os
import random
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import anvil_chain
from devkit.rig import Rig, up
from devkit.rig.api import ApiServer
from devkit.scenario.faults import killed
from fallow.settler.rpc import Rpc
from integration.settler_world import API, DEPOSIT, PRICE_OF_ONE, World, world_on


def _balanced(world: World, claims: list[str]) -> None:
    paid = len(claims) * PRICE_OF_ONE
    world.until("the balances", lambda: world.balances() == (DEPOSIT - paid, paid), seconds=120)
    world.until(
        "all Settlements finished",
        lambda: {each["status"]["state"] for each in world.settlements()} <= {"Confirmed", "Abandoned"},
    )
    assert world.balances() == (DEPOSIT - paid, paid)
    listed = [
        name
        for one in world.settlements()
        if one["status"]["state"] == "Confirmed"
        for part in one["spec"]["claims"]
        for name in part["claims"]
    ]
    assert sorted(listed) == sorted(claims)


def test_anvil__killed_and_back_from_its_last_dump__every_claim_is_settled_once(
    rig: Rig, hub_lease: None, hub_namespace: str, tmp_path: Path
) -> None:
    state = tmp_path / "chain.json"
    arguments = ("--block-time", "0.2", "--preserve-historical-states")
    claims: list[str] = []
    with ExitStack() as worlds, ExitStack() as chains:
        chain = chains.enter_context(anvil_chain.anvil(tmp_path / "anvil.log", *arguments))
        port = int(chain.url.rsplit(":", 1)[1])
        world = worlds.enter_context(world_on(chain, rig, hub_namespace, tmp_path))
        _dump(chain.url, state)
        world.settler.start(chain__rpc_timeout_seconds="1")
        for round_ in range(3):
            # The dump is older than what is settled after it: those blocks are gone, final or not.
            claims += [world.claim(), world.claim()]
            world.until_settled(*claims)
            if round_ == 1:
                _dump(chain.url, state)
            late = world.claim()  # on its way while the chain dies
            claims.append(late)
            _until_told(world, claims[-1])
            os.kill(chain.pid, signal.SIGKILL)
            chains.close()
            again = (*arguments, "--load-state", str(state))
            log = tmp_path / f"anvil-{round_}.log"
            chain = chains.enter_context(anvil_chain.anvil(log, *again, port=port))
            world.chain_pid = chain.pid
            world.until_settled(*claims, seconds=120)
        _balanced(world, claims)
        assert "a final epoch was undone" in world.settler.log.read_text()


def _dump(url: str, path: Path) -> None:
    """Dump the chain's state as anvil's own --dump-state would."""

    async def dumped() -> str:
        async with Rpc(url, timeout_seconds=30) as rpc:
            return str((await rpc.w3.provider.make_request("anvil_dumpState", [True]))["result"])

    path.write_bytes(gzip.decompress(bytes.fromhex(asyncio.run(dumped())[2:])))


@pytest.fixture
def own_rig(tmp_path: Path) -> Iterator[Rig]:
    """A rig whose API server may be killed: nobody else's test runs on it."""
    with up(tmp_path / "rig", members=[], with_fallow=False) as rig:
        yield rig


def test_api_server__killed_again_and_again_during_settlement__every_claim_is_settled_once(
    own_rig: Rig, tmp_path: Path
) -> None:
    rig, dice, claims = own_rig, random.Random(1), []
    client = rig.hub_client()
    for namespace in ("payers", "provider-aurora"):
        client.apply(
            f"/api/v1/namespaces/{namespace}",
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        )
    path = "/apis/coordination.k8s.io/v1/namespaces/fallow-system/leases"
    client.post(path, {"metadata": {"name": "fallow-hub"}, "spec": {"leaseTransitions": 0}})
    for kind in ("accounts", "paymentclaims", "settlements"):
        _until_served(client, f"{API}/{kind}")
    with ExitStack() as stack:
        chain = stack.enter_context(anvil_chain.anvil(tmp_path / "anvil.log", "--block-time", "0.2"))
        world = stack.enter_context(world_on(chain, rig, "payers", tmp_path))
        world.settler.start()
        for _ in range(4):
            new = [world.claim() for _ in range(3)]
            claims += new
            moment = dice.choice(["at once", "begun", "submitted"])
            if moment == "begun":
                _until_begun(world, claims[-1])
            elif moment == "submitted":
                _until_told(world, claims[-1])
            with killed(rig, "hub.apiserver"):
                pass
            _until_served(client, f"{API}/paymentclaims")
            world.until_settled(*claims, seconds=120)
        _balanced(world, claims)


def _until_served(client: ApiServer, path: str) -> None:
    """Wait for a kind: one that was just installed is not served at once."""
    client.until(path, lambda: "items" in client.get(path), seconds=120)


def _until_told(world: World, claim: str) -> None:
    world.until("a claim on its way", lambda: bool(world.status(claim)))


def _until_begun(world: World, claim: str) -> None:
    world.until("an epoch begun", lambda: _epochs_of(world, claim) > 0)


def _epochs_of(world: World, claim: str) -> int:
    """Count the Settlements that name a claim."""
    return sum(claim in part["claims"] for one in world.settlements() for part in one["spec"]["claims"])
