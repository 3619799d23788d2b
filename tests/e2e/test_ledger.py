"""Ledger mode: the same job, the same claims, no chain. What an enterprise uses for charge-back."""

from __future__ import annotations

from devkit.rig import Rig
from devkit.scenario.invariants import assert_each_index_succeeded_and_was_paid_once
from devkit.scenario.submitting import (
    GROUP,
    a_job,
    claims_of,
    submit,
    wait_settled,
)
from fallow.receipts.epochs import genesis_commitment
from fallow.receipts.typed_data import Domain
from fallow.receipts.words import from_hex, to_hex
from fallow.resources.money import parse_amount


def test_ledger__when_a_job_runs__then_signed_settlements_sum_to_its_claims(ledger_rig: Rig) -> None:
    assert ledger_rig.chain is None
    job = wait_settled(ledger_rig, submit(ledger_rig, a_job(40, run_seconds=1)))
    assert_each_index_succeeded_and_was_paid_once(ledger_rig, job)
    settlements = ledger_rig.client("hub_admin").get(f"{GROUP}/settlements")["items"]
    settlements.sort(key=lambda item: int(item["spec"]["epoch"]))
    assert [item["spec"]["epoch"] for item in settlements] == list(range(1, len(settlements) + 1))
    zero = "0x" + 40 * "0"
    hub_id = from_hex(settlements[0]["spec"]["hubId"])
    previous = to_hex(genesis_commitment(Domain(chain_id=0, escrow=zero, hub_id=hub_id)))
    for settlement in settlements:
        assert settlement["spec"]["mode"] == "ledger"
        assert settlement["spec"]["signature"]
        assert settlement["spec"]["previousCommitment"] == previous
        previous = settlement["spec"]["commitment"]
    settled = sum(
        parse_amount(line["amount"], decimals=6) for item in settlements for line in item["spec"]["lines"]
    )
    claimed = sum(
        parse_amount(claim["spec"]["amount"], decimals=6)
        for claim in claims_of(ledger_rig, job)
        if claim["status"]["state"] == "Settled"
    )
    assert settled == claimed > 0
