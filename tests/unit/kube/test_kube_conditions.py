"""Conditions keep their time while they say the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from fallow.kube.conditions import condition, find, is_true, merged, micro_time, rfc3339

NOON = datetime(2026, 11, 22, 12, 0, 0, 123, tzinfo=UTC)
LATER = NOON + timedelta(minutes=5)


def test_merged__new_condition__gets_the_time() -> None:
    (made,) = merged(None, [condition("Accepted", True, reason="Valid", observed_generation=3)], now=NOON)
    assert made == {
        "type": "Accepted",
        "status": "True",
        "reason": "Valid",
        "message": "",
        "observedGeneration": 3,
        "lastTransitionTime": "2026-11-22T12:00:00Z",
    }


def test_merged__same_status_other_words__keeps_the_time_and_takes_the_words() -> None:
    before = merged([], [condition("Scheduled", False, reason="Waiting", message="no node")], now=NOON)
    after = merged(before, [condition("Scheduled", False, reason="Waiting", message="no GPU")], now=LATER)
    assert after[0]["message"] == "no GPU"
    assert after[0]["lastTransitionTime"] == rfc3339(NOON)


def test_merged__status_turns__gets_the_new_time() -> None:
    before = merged([], [condition("Scheduled", False, reason="Waiting")], now=NOON)
    after = merged(before, [condition("Scheduled", True, reason="Placed")], now=LATER)
    assert after[0]["lastTransitionTime"] == rfc3339(LATER)


def test_merged__nothing_to_say__equals_what_was() -> None:
    said = [condition("Accepted", True, reason="Valid"), condition("Scheduled", False, reason="Waiting")]
    before = merged([], said, now=NOON)
    assert merged(before, said, now=LATER) == before


def test_merged__one_of_several__leaves_others_and_their_order() -> None:
    before = merged([], [condition(each, True, reason="X") for each in "ABC"], now=NOON)
    news = [condition("B", False, reason="Y"), condition("D", True, reason="Z")]
    after = merged(before, news, now=LATER)
    assert [each["type"] for each in after] == ["A", "B", "C", "D"]
    assert after[0] == before[0]
    assert before[1]["status"] == "True"


def test_find__absent_or_unknown__is_not_true() -> None:
    conditions = merged(
        [], [condition("A", "Unknown", reason="X"), condition("B", True, reason="X")], now=NOON
    )
    assert find(conditions, "C") is None
    assert [is_true(conditions, each) for each in "ABC"] == [False, True, False]
    assert not is_true(None, "A")


def test_times__other_zone_and_few_microseconds__are_utc_with_exact_digits() -> None:
    moment = NOON.astimezone(timezone(timedelta(hours=2)))
    assert rfc3339(moment) == "2026-11-22T12:00:00Z"
    assert micro_time(moment) == "2026-11-22T12:00:00.000123Z"
