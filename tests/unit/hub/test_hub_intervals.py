"""Interval billing on the hub: elapsed time is claimed as it goes, final, and never twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fallow.hub import intervals
from fallow.hub.carrying import claim_key
from fallow.hub.claims import assess, claim_of, covered, paid_of
from fallow.hub.desk import Desk
from fallow.hub.fates import Circumstances, Fate, Step, fate
from fallow.hub.placements import Placed, most_of
from fallow.hub.retention import Retention
from fallow.hub.steps import Steps
from fallow.resources.elapsed import stops_of
from unit.hub.builders import CREATED, CREATED_UNIX, a_job, a_placement, ended, placed, ranges
from unit.hub.desks import PAYER, Outbox, Time, a_desk, furnish

NOW = CREATED_UNIX + 500
PRESENT = Circumstances(job="Present")
LOST = replace(PRESENT, provider_lost=True)


def a_claim(sequence: int, elapsed: list[str], *, amount: str = "0", partial: bool = True) -> dict[str, Any]:
    terms = {
        "tokenDecimals": 6,
        "account": {"payer": "0x" + 40 * "A"},
        "accountNamespace": "default",
        "accountName": "default",
    }
    return {
        "metadata": {
            "name": f"claim-{sequence}",
            "namespace": "provider-aurora",
            "uid": f"claim-{sequence}",
            "resourceVersion": "1",
            "creationTimestamp": CREATED,
        },
        "spec": {
            "sequence": sequence,
            "partial": partial,
            "placement": {"name": "job-0", "uid": "uid-0"},
            "job": {"uid": "uid-of-job"},
            "attempt": 0,
            "elapsed": elapsed,
            "ended": [],
            "seconds": 0,
            "amount": amount,
            "terms": terms,
        },
    }


def test_fate__provider_lost__claims_what_elapsed_before_it_takes_tasks_away() -> None:
    one = placed("0-3", elapsed=["0-60:0-3"], running=4)
    owing = replace(LOST, elapsed_owed=True)
    assert fate(one, owing) == Fate(Step.CLAIM_ELAPSED)
    assert fate(one, replace(LOST, elapsed_owed=False)) == Fate(Step.RELEASE, tasks=ranges("0-3"))


def test_fate__all_is_well__claims_what_elapsed_only_when_it_is_due() -> None:
    one = placed("0-3", elapsed=["0-60:0-3"], running=4)
    assert fate(one, replace(PRESENT, elapsed_owed=True)) == Fate(Step.NONE)
    assert fate(one, replace(PRESENT, elapsed_owed=True, elapsed_due=True)) == Fate(Step.CLAIM_ELAPSED)


def test_assess__partial__charges_elapsed_time_and_leaves_ended_attempts_for_later() -> None:
    one = placed("0-3", elapsed=["0-60:1", "0-120:0"], reports=[ended(1, seconds=70)])
    assessment = assess(one, now=NOW, failure_seconds_left=0, partial=True)
    assert [str(each) for each in assessment.elapsed.charged] == ["0-60:1", "0-120:0"]
    assert (assessment.paid, [str(each) for each in assessment.unjudged]) == ((), [ended(1, seconds=70)])
    assert (assessment.seconds, assessment.amount) == (180, 180_000)


def test_assess__second_claim__charges_from_where_the_first_one_stopped() -> None:
    one = placed("0-3", elapsed=["0-60:1", "0-180:0"])
    before = intervals.charged_before([a_claim(0, ["0-60:1", "0-120:0"])])
    assessment = assess(one, now=NOW, failure_seconds_left=0, before=before, partial=True)
    assert [str(each) for each in assessment.elapsed.charged] == ["60-60:1", "120-180:0"]
    assert (assessment.seconds, assessment.amount) == (60, 60_000)
    assert intervals.next_sequence([a_claim(0, []), a_claim(3, [])]) == 4


@pytest.mark.parametrize(
    ("outcome", "want_tail"), [("S", 15), ("F", 15), ("T", 15), ("L", 0), ("R", 0), ("U", 0)]
)
def test_assess__last_claim__pays_what_elapsed_whatever_came_of_it_and_the_rest_by_outcome(
    outcome: str, want_tail: int
) -> None:
    one = placed("0", elapsed=["0-120:0"], reports=[ended(0, outcome, seconds=135)], state="Finished")
    before = {0: 60}
    assessment = assess(one, now=NOW, failure_seconds_left=1000, before=before)
    assert assessment.seconds == 60 + want_tail
    assert assessment.amount == (60 + want_tail) * 1000
    assert assessment.failure_seconds == (want_tail if outcome in "FT" else 0)


def test_assess__after_the_release__nothing_more_of_a_task_is_charged() -> None:
    one = placed("0-1", released="0", elapsed=["0-180:0-1"], reports=[ended(0, "C", seconds=200)])
    assessment = assess(one, now=NOW, failure_seconds_left=0, before={0: 60, 1: 60})
    assert [str(each) for each in assessment.elapsed.charged] == ["60-60:0", "60-180:1"]
    assert {why: [str(one) for one in parts] for why, parts in assessment.elapsed.unpaid.items()} == {
        "Released": ["60-180:0"]
    }
    assert (assessment.seconds, list(assessment.disallowed)) == (120, ["Released"])


def test_assess__more_intervals_than_were_observed__are_cut_and_may_come_later() -> None:
    one = placed("0-1", slots=1, timeout=10_000, elapsed=["0-600:0"])
    assessment = assess(one, now=CREATED_UNIX + 95, failure_seconds_left=0, partial=True)
    assert [str(each) for each in assessment.elapsed.charged] == ["0-100:0"]
    assert [str(each) for each in assessment.elapsed.unpaid["LongerThanObserved"]] == ["100-600:0"]
    both = placed("0-1", slots=1, timeout=10_000, elapsed=["0-60:0-1"])
    assert assess(both, now=CREATED_UNIX + 95, failure_seconds_left=0, partial=True).seconds == 100


def test_claim_of__partial__says_all_that_the_receipt_covers() -> None:
    obj = a_placement("0-3", released="3", elapsed=["0-60:0,3"], reports=[ended(1)])
    obj["status"]["receipt"] = {}
    one = placed("0-3", released="3", elapsed=["0-60:0,3"], reports=[ended(1)])
    spec = claim_of(
        obj,
        one,
        assess(one, now=NOW, failure_seconds_left=0, partial=True),
        name="claim",
        claim_id="0x",
        sequence=2,
        term=0,
        labels={},
        first_running=None,
        finished=NOW,
    )["spec"]
    assert (spec["partial"], spec["sequence"], spec["tasks"]) == (True, 2, "0-3")
    assert (spec["elapsed"], spec["unjudged"], spec["ended"]) == (["0-0:3", "0-60:0"], [ended(1)], [])
    assert spec["disallowed"] == [{"reason": "Released", "ended": [], "elapsed": ["0-60:3"]}]


def test_covered__elapsed_time_of_a_strangers_index__is_not() -> None:
    stranger = placed("0-3", elapsed=["0-60:9"])
    assert stranger.elapsed == ()
    assert not covered(stranger, [], ["0-60:9"])
    assert covered(placed("0-3", elapsed=["0-60:3"]), [], ["0-60:3"])


def test_covered__elapsed_time_where_the_task_is_billed_once__is_not() -> None:
    assert not covered(placed("0-3"), [], ["0-60:3"])


def test_most_of__with_elapsed_time__counts_no_second_twice_and_keeps_that_of_lost_attempts() -> None:
    assert most_of(placed("0-1", elapsed=["0-120:0"])) == 2 * 600 * 1000
    lost = placed("0-1", elapsed=["0-120:0"], reports=[ended(0, "L", seconds=130)])
    assert most_of(lost) == (120 + 600) * 1000
    assert most_of(placed("0-1", released="0-1", elapsed=["0-120:0-1"])) == 240 * 1000


def test_payable_seconds__of_a_running_placement__are_what_elapsed() -> None:
    one: Placed = placed("0-1", elapsed=["0-120:0"], reports=[ended(1, seconds=30)])
    assert one.payable_seconds == 150
    assert stops_of(one.elapsed) == {0: 120}


def test_paid_of__several_claims__is_their_sum() -> None:
    claims = [a_claim(0, ["0-60:0"], amount="0.5"), a_claim(1, ["60-120:0"], amount="0.25", partial=False)]
    assert (paid_of(*claims).amount, paid_of(*claims).claimed) == (750_000, 2)
    assert paid_of().claimed == 0


def _holding(*elapsed: str) -> tuple[Desk, Outbox, Time, Steps, dict[str, Any]]:
    """A desk with one running placement whose receipt holds, and the steps over it."""
    desk, outbox, time = a_desk()
    furnish(desk)
    desk.view.jobs.apply(a_job(billing="PerInterval"))
    obj = a_placement("0-3", elapsed=elapsed, running=4)
    obj["metadata"]["uid"] = "6f1f0c50-0000-4000-8000-000000000002"
    obj["status"]["receipt"] = {}
    desk.view.placements.apply(obj)
    desk.memory.receipts[obj["metadata"]["uid"]] = ("1", "")  # its signature is checked elsewhere
    time.passed = 300
    return desk, outbox, time, Steps(desk), obj


def _claimed(desk: Desk, outbox: Outbox) -> dict[str, Any]:
    """Answer the claim that is being written."""
    claim: dict[str, Any] = outbox.claims[-1]
    meta = {**claim["metadata"], "uid": "c", "resourceVersion": "1", "creationTimestamp": CREATED}
    desk.view.claims.apply({**claim, "metadata": meta})
    outbox.under_way.discard(claim_key(claim["spec"]["placement"]["uid"]))
    return claim


def test_steps__elapsed_time_in_a_claim__is_not_reserved_a_second_time() -> None:
    desk, outbox, _, steps, _obj = _holding("0-120:0-3")
    (one,) = desk.view.live("uid-of-job")
    most = most_of(one)
    assert desk.view.charges.of_payer(PAYER, observed_block=1) == most
    steps._claim(one, None, partial=True)
    claim = _claimed(desk, outbox)
    assert (claim["spec"]["sequence"], claim["spec"]["seconds"]) == (0, 480)
    # What is claimed is owed, and what is left is reserved: together the same.
    assert desk.view.charges.of_payer(PAYER, observed_block=1) == most
    assert desk.view.claims_of_placement(one.uid) == list(desk.view.partial_claims[one.uid].values())
    assert one.uid not in desk.view.claim_of


def test_steps__provider_lost__owes_until_it_is_claimed_and_not_again() -> None:
    desk, outbox, _, steps, obj = _holding("0-120:0-3")
    (one,) = desk.view.live("uid-of-job")
    assert steps._owes_elapsed(one, None)
    steps._claim(one, None, partial=True)
    assert steps._owes_elapsed(one, None)  # being written: the release waits for it
    _claimed(desk, outbox)
    assert not steps._owes_elapsed(one, None)
    # One more interval is one more claim, from where the first one stopped.
    desk.view.placements.apply(
        {
            **obj,
            "metadata": {**obj["metadata"], "resourceVersion": "2"},
            "status": {**obj["status"], "elapsed": ["0-120:1-3", "0-180:0"]},
        }
    )
    desk.memory.receipts[one.uid] = ("2", "")
    (one,) = desk.view.live("uid-of-job")
    steps._claim(one, None, partial=True)
    second = _claimed(desk, outbox)["spec"]
    assert (second["sequence"], second["seconds"], second["elapsed"]) == (1, 60, ["120-120:1-3", "120-180:0"])


def test_retention__claims_of_a_placement_that_lives__are_kept() -> None:
    desk, outbox, time, steps, _ = _holding("0-120:0-3")
    (one,) = desk.view.live("uid-of-job")
    steps._claim(one, None, partial=True)
    claim = _claimed(desk, outbox)
    (kept,) = desk.view.claims.values()
    settled = {"type": "Settled", "status": "True", "reason": "Final", "lastTransitionTime": CREATED}
    desk.view.claims.apply(
        {
            **kept,
            "metadata": {**kept["metadata"], "resourceVersion": "2"},
            "status": {"state": "Settled", "conditions": [settled]},
        }
    )
    desk.view.jobs.forget(next(iter(desk.view.jobs)))
    time.passed = desk.settings.jobs.claim_ttl_seconds + 1
    list(Retention(desk, round_seconds=60).look(0.0))
    assert outbox.deleted == []
    desk.view.placements.forget(next(iter(desk.view.placements)))
    list(Retention(desk, round_seconds=60).look(0.0))
    assert outbox.deleted == [claim["metadata"]["name"]]
