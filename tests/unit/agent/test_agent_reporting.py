from __future__ import annotations

from typing import Any

import pytest

from fallow.agent.admission import Refusal
from fallow.agent.outcomes import Circumstances, Ending, ending_of
from fallow.agent.reporting import read_record, recorded, report, seeded
from fallow.agent.work import Work
from fallow.receipts.statements import check_receipt
from fallow.resources.ended import Ended
from fallow.resources.placement import HandedBack, PlacementStatus, Progress
from unit.agent.guest_pods import a_pod, at
from unit.agent.some_work import KEY, some_work


def an_ending(index: int, *, seconds: int = 5, code: int = 0, message: str = "") -> Ending:
    left: dict[str, Any] = {"message": message} if message else {}
    pod = a_pod(index=index).ended(seconds, started=0, code=code, **left)
    ending = ending_of(pod.guest(), Circumstances(now=at(60)))
    assert ending is not None
    return ending


def add(progress: Progress, *endings: Ending, returned: tuple[HandedBack, ...] = (), **work: Any) -> Progress:
    return recorded(progress, endings=endings, returned=returned, work=the_work(**work), key=KEY)


def the_work(**fields: Any) -> Work:
    return some_work({"n1": (2, "0-9")}, **fields)


def check(progress: Progress) -> None:
    work = the_work()
    assert progress.receipt is not None
    check_receipt(
        progress.receipt,
        [Ended.parse(text) for text in progress.ended],
        terms=work.spec.terms,
        job_uid=work.spec.job.uid,
        placement_uid=work.uid,
    )


def test_recorded__first_endings__come_with_a_receipt_over_them() -> None:
    progress = add(Progress(), an_ending(0), an_ending(1, seconds=10))
    assert [text.split(":")[0] for text in progress.ended] == ["0", "1"]
    assert progress.receipt is not None
    assert (progress.receipt.sequence, progress.receipt.seconds) == (1, 15)
    assert progress.receipt.cumulative_amount == "0.0075"  # 15 s at 1.80 an hour
    check(progress)


def test_recorded__more_endings__chain_the_next_receipt_to_the_last() -> None:
    first = add(Progress(), an_ending(0))
    second = add(first, an_ending(1, seconds=30))
    assert second.receipt is not None
    assert first.receipt is not None
    assert second.receipt.sequence == 2
    assert second.receipt.previous != first.receipt.previous
    assert second.receipt.period_start == first.receipt.period_start
    assert second.receipt.period_end > first.receipt.period_end
    check(second)


def test_recorded__a_task_ends_twice__the_first_word_stays() -> None:
    first = add(Progress(), an_ending(0))
    again = add(first, an_ending(0, code=3), returned=(HandedBack(tasks="0-1", reason="Stopped"),))
    assert again.ended == first.ended
    assert again.receipt == first.receipt
    assert [(h.tasks, h.reason) for h in again.handed_back] == [("1", "Stopped")]


def test_recorded__handed_back_before__cannot_end() -> None:
    first = add(Progress(), returned=(HandedBack(tasks="0-3", reason="NoRoom"),))
    assert add(first, an_ending(2)) == first


def test_recorded__hand_backs_with_one_reason__are_merged() -> None:
    one = add(Progress(), returned=(HandedBack(tasks="0-1", reason="NoRoom", message="full"),))
    two = add(one, returned=(HandedBack(tasks="2", reason="NoRoom", message="full"),))
    assert [(h.tasks, h.message) for h in two.handed_back] == [("0-2", "full")]


def test_recorded__too_many_different_messages__keep_within_bounds_and_lose_no_task() -> None:
    progress = Progress()
    for index in range(10):
        for part in range(10):
            entry = HandedBack(tasks=str(index * 10 + part), reason="NoRoom", message=f"{index} {part}")
            progress = add(progress, returned=(entry,))
    assert len(progress.handed_back) == 64
    assert len(read_record(progress).handed_back) == 100


def test_recorded__many_failures__keeps_the_last_32_words() -> None:
    progress = Progress()
    for start in (0, 20):
        progress = add(progress, *(an_ending(i, code=1) for i in range(start, start + 20)))
    assert [w.index for w in progress.last_words] == list(range(8, 40))


def test_results__inline_asked__successes_are_copied_within_a_kibibyte() -> None:
    endings = (an_ending(0, message="é" * 900), an_ending(1, code=1, message="no"), an_ending(2))
    progress = add(Progress(), *endings, results="Inline")
    assert [(r.index, len(r.value.encode())) for r in progress.results] == [(0, 1024)]
    assert add(Progress(), *endings).results == ()


def test_seeded__the_record_was_deleted__what_the_hub_was_told_is_kept() -> None:
    told = add(Progress(), an_ending(0), returned=(HandedBack(tasks="5", reason="NoRoom"),))
    progress = seeded(Progress(), told)
    assert (progress.ended, progress.receipt) == (told.ended, told.receipt)
    both = add(progress, an_ending(1))
    check(both)
    assert both.receipt is not None
    assert both.receipt.sequence == 2
    assert seeded(both, told) == both


def a_report(progress: Progress, *, before: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    fields = {"running": 0, "waiting": 0, "refusal": None, "now": at(100), **more}
    status = report(the_work(), progress, before=before or {}, **fields)
    PlacementStatus.model_validate(status)
    return status


def test_report__nothing_yet__is_pending_and_accepted() -> None:
    status = a_report(Progress(), waiting=10)
    assert (status["state"], status["waiting"]) == ("Pending", 10)
    assert {c["type"]: c["status"] for c in status["conditions"]} == {"Accepted": "True", "Finished": "False"}


@pytest.mark.parametrize("last", ["ended", "handed back"])
def test_report__every_task_is_settled__is_finished(last: str) -> None:
    progress = add(Progress(), *(an_ending(i) for i in range(9)))
    assert a_report(progress, running=1)["state"] == "Running"
    if last == "ended":
        progress = add(progress, an_ending(9))
    else:
        progress = add(progress, returned=(HandedBack(tasks="9", reason="NoRoom"),))
    status = a_report(progress, running=1, waiting=1)
    assert (status["state"], status["running"], status["waiting"]) == ("Finished", 0, 0)


def test_report__said_again__is_the_same() -> None:
    first = a_report(Progress(), waiting=10)
    assert a_report(Progress(), waiting=10, before=first, now=at(200)) == first


def test_report__refused__says_so_once_and_for_all() -> None:
    refusal = Refusal(reason="Refused", message="the price is wrong")
    progress = add(Progress(), returned=(HandedBack(tasks="0-9", reason="Refused", message="x"),))
    status = a_report(progress, refusal=refusal)
    accepted = next(c for c in status["conditions"] if c["type"] == "Accepted")
    assert (accepted["status"], accepted["message"], status["state"]) == (
        "False",
        "the price is wrong",
        "Finished",
    )
