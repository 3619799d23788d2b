"""Interval billing with a loss in the middle: what had elapsed is paid, the rest is not, no second twice."""

from __future__ import annotations

from devkit.rig import Rig
from devkit.scenario.invariants import (
    assert_each_index_succeeded_and_was_paid_once,
    assert_money_is_conserved,
)
from devkit.scenario.submitting import GROUP, Json, a_job, claims_of, submit, wait_for, wait_settled
from fallow.receipts.pricing import cumulative_amount
from fallow.resources.elapsed import parse_all, stops_of
from fallow.resources.ended import Ended
from fallow.resources.money import parse_amount

TASKS = 3
RUN_SECONDS = 20
INTERVAL_SECONDS = 5


def _reported(rig: Rig, job: Json) -> dict[int, int]:
    """What aurora's agent has told the hub of the job's elapsed time, by index."""
    items = rig.client("hub_admin").get(f"{GROUP}/namespaces/provider-aurora/placements")["items"]
    found: dict[int, int] = {}
    for item in items:
        if item["spec"]["job"]["uid"] == job["metadata"]["uid"]:
            found |= stops_of(parse_all(item.get("status", {}).get("elapsed", ())))
    return found


def _until_elapsed(rig: Rig, job: Json, seconds: int) -> None:
    rig.hub_client().until(
        f"{seconds} s to be signed for",
        lambda: sum(stop >= seconds for stop in _reported(rig, job).values()) == TASKS,
        seconds=90,
    )


def test_member_lost__with_interval_billing__elapsed_is_paid_and_only_the_rest_runs_on_as_new(
    rig: Rig,
) -> None:
    agent = rig.fallow["agent-aurora"]
    job = submit(
        rig,
        a_job(
            TASKS,
            gpus=8,
            run_seconds=RUN_SECONDS,
            billing="PerInterval",
            billingIntervalSeconds=INTERVAL_SECONDS,
            unreachableSeconds=5,
        ),
    )
    _until_elapsed(rig, job, INTERVAL_SECONDS)
    # Both die in the middle of an interval, and only the hub comes back.
    rig.processes.kill(agent)
    rig.processes.kill(rig.fallow["hub"])
    rig.processes.start_again(rig.fallow["hub"])
    signed = _reported(rig, job)
    wait_for(
        rig,
        job,
        lambda now: any(one["name"] == "borealis" for one in now["status"].get("providers", ())),
        seconds=90,
        what="to run elsewhere",
    )
    (partial,) = claims_of(rig, job)
    assert partial["spec"]["partial"]
    assert stops_of(parse_all(partial["spec"]["elapsed"])) == signed
    assert partial["spec"]["seconds"] == sum(signed.values())
    # The guests there have ended meanwhile: their agent says so, and nothing of it counts any more.
    rig.processes.start_again(agent)
    job = wait_settled(rig, job, seconds=180)

    by_provider: dict[str, list[Json]] = {}
    for claim in claims_of(rig, job):
        assert claim["status"]["state"] == "Settled", claim["status"]
        by_provider.setdefault(claim["spec"]["terms"]["provider"], []).append(claim["spec"])
    assert [one["ended"] for one in by_provider["aurora"]] == [[]]
    paid_elsewhere = [one for spec in by_provider["borealis"] for one in spec["ended"]]
    assert sorted(Ended.parse(text).index for text in paid_elsewhere) == list(range(TASKS))
    for specs in by_provider.values():
        # One floor over all claims of a placement, of all seconds that they charge.
        price = parse_amount(specs[0]["terms"]["pricePerTaskHour"], decimals=6)
        total = cumulative_amount(
            total_seconds=sum(one["seconds"] for one in specs), price_per_task_hour=price
        )
        assert sum(parse_amount(one["amount"], decimals=6) for one in specs) == total
    run = sum(one["seconds"] for one in by_provider["borealis"])
    assert TASKS * RUN_SECONDS <= run <= TASKS * (RUN_SECONDS + 3)
    assert job["status"]["succeededTasks"] == f"0-{TASKS - 1}"
    assert_each_index_succeeded_and_was_paid_once(rig, job)
    assert_money_is_conserved(rig)
