"""Interval billing on the hub: elapsed time is claimed as it goes, final, and never twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fallow.hub import intervals
from fallow.hub.claims import assess, claim_of, covered, paid_of
from fallow.hub.fates import Circumstances, Fate, Step, fate
from fallow.hub.placements import Placed, most_of
from fallow.resources.elapsed import stops_of
from unit.hub.builders import CREATED, CREATED_UNIX, a_placement, ended, placed, ranges

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
