"""`fallow verify` and `fallow export` on what a real settler settled on a real chain."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import money_terms as money
from integration.command_line import fallow
from integration.settler_world import World


def verify(world: World, what: str, name: str, *more: str) -> tuple[int, dict[str, Any]]:
    """Verify with the chain's URL and the archive; returns exit status and findings."""
    archive = () if "--bundle" in more else ("--archive", str(world.settler.archive))
    place = ("--rpc", world.rpc_url, "--escrow", world.domain.escrow)
    ended = fallow("verify", what, name, *place, "--json", *archive, *more)
    assert ended.returncode in (0, 1), ended.stderr
    return ended.returncode, json.loads(ended.stdout)


def reasons(found: dict[str, Any]) -> set[str]:
    return {one["reason"] for one in found["refused"]}


def test_verify__epochs_of_a_real_settler__are_proven_and_tampering_is_seen(
    chain_world: World, tmp_path: Path
) -> None:
    world = chain_world
    job = str(uuid.uuid4())
    first = [world.claim(job_uid=job, index=index) for index in range(3)]
    world.settler.start()
    world.until_settled(*first)
    second = world.claim(job_uid=job, index=7)
    world.until_settled(second)
    last = max(one["spec"]["epoch"] for one in world.settlements())
    assert last >= 2

    for number in range(1, last + 1):
        status, found = verify(world, "epoch", str(number))
        assert (status, found["refused"]) == (0, []), found
        assert any("exactly what epoch" in each for each in found["proven"])
    status, found = verify(world, "claim", second)
    assert (status, found["refused"]) == (0, []), found
    assert any(f"before in epochs 1 to {last}" in each for each in found["proven"])
    assert any("speaks for the payee" in each for each in found["unproven"])

    assert verify(world, "epoch", str(last + 1))[1]["refused"][0]["reason"] == "NotSettled"
    assert reasons(verify(world, "claim", "no-such-claim")[1]) == {"NotSettled"}

    # One digit of one amount, with the file's name kept or made to fit.
    bundle_hash = next(one["spec"]["bundleHash"] for one in world.settlements() if one["spec"]["epoch"] == 1)
    path = world.settler.archive / f"{bundle_hash}.json"
    data = path.read_text()
    tampered = tmp_path / "tampered.json"
    tampered.write_text(data.replace('"amount":"1.8"', '"amount":"1.9"', 1))
    status, found = verify(world, "epoch", "1", "--bundle", str(tampered))
    assert status == 1
    assert "BundleTampered" in reasons(found)
    path.write_text(tampered.read_text())
    assert reasons(verify(world, "epoch", "1")[1]) == {"BundleTampered"}
    assert reasons(verify(world, "epoch", "2")[1]) == {"BundleMissing"}
    path.write_text(data)

    # The wrong escrow, a dead endpoint, and nonsense asked.
    stranger = ("--escrow", money.address("payer"))
    wrong = fallow("verify", "epoch", "1", "--rpc", world.rpc_url, *stranger, "--bundle", str(path))
    assert (wrong.returncode, "is --escrow right?" in wrong.stderr) == (1, True), wrong
    dead = fallow("verify", "epoch", "1", "--rpc", "http://127.0.0.1:1", "--escrow", world.domain.escrow,
                  "--bundle", str(path))  # fmt: skip
    assert (dead.returncode, "does not answer" in dead.stderr) == (1, True), dead
    assert fallow("verify", "epoch", "1").returncode == 2
    assert fallow("verify", "epoch", "1", "--rpc", "x", "--escrow", world.domain.escrow).returncode == 2
    assert world.settler.stop() == 0


def test_verify_receipt__of_an_unsettled_claim__says_whether_it_could_be_paid(
    chain_world: World, tmp_path: Path
) -> None:
    world = chain_world

    def check(name: str) -> tuple[int, set[str]]:
        path = f"/apis/fallow.dev/v1alpha1/namespaces/provider-aurora/paymentclaims/{name}"
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(world.rig.hub_client().get(path)))
        ended = fallow(
            "verify", "receipt", str(file), "--rpc", world.rpc_url, "--escrow", world.domain.escrow, "--json"
        )  # fmt: skip
        return ended.returncode, reasons(json.loads(ended.stdout))

    assert check(world.claim()) == (0, set())
    assert check(world.claim(signer="stranger")) == (1, {"ReceiptForged"})
    late = money.a_quote(world.domain, payee="late payee")
    assert check(world.claim(terms=world.terms.model_copy(update={"quote": late}))) == (
        1,
        {"PayeeUnregistered"},
    )
