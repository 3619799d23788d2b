"""`fallow hub restore`: a hub whose etcd came back from before the last epochs runs and pays nothing again.

The rig's one etcd serves every plane, so that setting it back would set back the members too. The
hub's objects are made what the backup had instead: those made since are deleted, the job's status is
written as it was. UIDs stay, as they do when a snapshot is restored.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import money_terms as money
from fallow.receipts.words import to_hex
from fallow.resources.naming import ANNOTATION_UNFOLDED
from integration.command_line import Ended, fallow
from integration.hub_process import HubProcess
from integration.settler_world import API, DEPOSIT, NAMESPACE, PRICE_OF_ONE, World

CONTAINER = {"name": "main", "image": "registry.example/work:1", "resources": {"requests": {"cpu": "1"}}}


def submit(world: World) -> dict[str, Any]:
    """Submit a job of five tasks."""
    namespace = world.terms.account_namespace
    return dict(
        world.rig.hub_client().post(
            f"{API}/namespaces/{namespace}/computejobs",
            {
                "apiVersion": "fallow.dev/v1alpha1",
                "kind": "ComputeJob",
                "metadata": {"name": "sweep", "namespace": namespace},
                "spec": {"tasks": 5, "template": {"spec": {"containers": [CONTAINER]}}},
            },
        )
    )


def job_of(world: World) -> dict[str, Any]:
    path = f"{API}/namespaces/{world.terms.account_namespace}/computejobs/sweep"
    return dict(world.rig.hub_client().get(path))


def scheduled(world: World) -> tuple[str, str]:
    conditions = (job_of(world).get("status") or {}).get("conditions") or ()
    return next(
        ((one["reason"], one["message"]) for one in conditions if one["type"] == "Scheduled"), ("", "")
    )


def restore(world: World, *more: str) -> Ended:
    """Restore with the rights of the hub's cluster admin."""
    return fallow(
        "hub", "restore", "--kubeconfig", str(world.rig.hub_kubeconfig), "--archive",
        str(world.settler.archive), "--rpc", world.rpc_url, "--escrow", world.domain.escrow, *more,
    )  # fmt: skip


def a_hub(world: World, log: Path) -> HubProcess:
    return HubProcess(
        world.rig,
        log,
        FALLOW_HUB_ID=to_hex(world.domain.hub_id),
        FALLOW_PAYMENTS__MODE="chain",
        FALLOW_PAYMENTS__CHAIN_ID=str(world.domain.chain_id),
        FALLOW_PAYMENTS__ESCROW=world.domain.escrow,
        FALLOW_PAYMENTS__TOKEN=world.terms.token,
    )


def test_restore__from_before_three_epochs__folds_the_archive_and_pays_nothing_twice(
    chain_world: World, tmp_path: Path
) -> None:
    world, client = chain_world, chain_world.rig.hub_client()
    job = submit(world)["metadata"]
    world.settler.start()
    before = world.claim(job_uid=job["uid"], index=0, attempt=0)
    world.until_settled(before)
    path = f"{API}/namespaces/{job['namespace']}/computejobs/sweep/status"
    share = {"name": "aurora", "succeeded": 1, "seconds": 3600, "cost": "1.8"}
    folded = {"placements": "0", "succeeded": "0", "providers": [share], "claims": 1, "settledClaims": 1}
    client.merge(path, {"status": {"placementsReserved": 1, "folded": folded}})

    # After the backup three more epochs were settled ...
    claims = []
    for number in (1, 2, 3):
        claims.append(world.claim(job_uid=job["uid"], index=number, attempt=number))
        world.until_settled(claims[-1])
        world.until("it Confirmed", lambda: all(_state(one) == "Confirmed" for one in world.settlements()))
    assert world.balances() == (DEPOSIT - 4 * PRICE_OF_ONE, 4 * PRICE_OF_ONE)
    assert world.settler.stop() == 0

    # ... of which the restored hub knows nothing.
    specs = {}
    for one in claims:
        claim_path = f"{API}/namespaces/{NAMESPACE}/paymentclaims/{one}"
        specs[one] = client.get(claim_path)["spec"]
        client.delete(claim_path)
    for obj in world.settlements():
        if obj["spec"]["epoch"] > 1:
            client.delete(f"{API}/settlements/{obj['metadata']['name']}")

    world.settler.start()
    world.until("the Settlements replayed", lambda: len(world.settlements()) == 4)
    unfolded = [one["spec"]["epoch"] for one in world.settlements() if _is_unfolded(one)]
    assert sorted(unfolded) == [2, 3, 4]
    with a_hub(world, tmp_path / "hub.log"):
        # The hub says that it is behind, and would otherwise run tasks 1 to 3 again.
        world.until("the hub to hold back", lambda: scheduled(world)[0] == "HubBehind", seconds=40)
        assert "fallow hub restore" in scheduled(world)[1]

        planned = restore(world, "--dry-run")
        assert (planned.returncode, planned.stdout.split(" claims")[0]) == (0, "3"), planned
        assert job_of(world)["status"]["folded"]["placements"] == "0"
        ended = restore(world)
        assert ended.returncode == 0, ended
        assert "1 jobs brought up to date, 3 epochs marked" in ended.stdout
        world.until(
            "the job to go on", lambda: job_of(world)["status"]["succeededTasks"] == "0-3", seconds=30
        )
        world.until("the hub to look for room", lambda: scheduled(world)[0] != "HubBehind", seconds=30)
        status = job_of(world)["status"]
        assert (status["folded"]["placements"], status["cost"], status["counts"]["pending"]) == (
            "0-3",
            "7.2",
            1,
        )
        assert status["placementsReserved"] >= 4

        # Again does nothing, and what the hub claims is there and Settled, as it was.
        assert restore(world).stdout.startswith("0 claims given back, 0 jobs")
    for one in claims:
        assert world.status(one)["state"] == "Settled"
        assert client.get(f"{API}/namespaces/{NAMESPACE}/paymentclaims/{one}")["spec"] == specs[one]

    # Somebody claims a forgotten task once more: refused, and the others go on being paid.
    again = world.claim(job_uid=job["uid"], index=2, attempt=9)
    other = world.claim()
    world.until_settled(other)
    assert world.condition(again, "Settled")["reason"] == "SecondSuccess"
    assert world.balances() == (DEPOSIT - 5 * PRICE_OF_ONE, 5 * PRICE_OF_ONE)
    assert world.settler.stop() == 0

    # The books for the invoices come from archive and chain, whatever the hub went through.
    where = ("--archive", str(world.settler.archive), "--rpc", world.rpc_url, "--escrow", world.domain.escrow)
    exported = fallow("export", "claims", *where, "--since", "2020-01-01")
    rows = list(csv.DictReader(io.StringIO(exported.stdout)))
    assert (exported.returncode, len(rows)) == (0, 5), exported
    assert {row["amount"] for row in rows} == {"1.8"}
    (total,) = csv.DictReader(
        io.StringIO(fallow("export", "claims", *where, "--since", "2020-01-01", "--totals").stdout)
    )
    assert (total["provider"], total["claims"], total["seconds"], total["amount"]) == (
        "aurora",
        "5",
        "18000",
        "9",
    )
    assert total["payer"] == money.address("payer")
    assert fallow("export", "claims", *where, "--since", "2090-01-01").stdout.count("\n") == 1
    assert fallow("export", "claims", *where, "--since", "soon").returncode == 2


def _state(settlement: dict[str, Any]) -> str:
    return str((settlement.get("status") or {}).get("state"))


def _is_unfolded(settlement: dict[str, Any]) -> bool:
    return ANNOTATION_UNFOLDED in (settlement["metadata"].get("annotations") or {})
