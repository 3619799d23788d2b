"""Long work in slices: the loop gets its turn, and a decision stands only while its grounds do."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from fallow.hub.cycle import Backlog, Cycle
from fallow.hub.slices import SLICE_SECONDS, Slices, at_once, in_slices
from unit.hub.builders import a_job
from unit.hub.desks import a_desk, an_account, furnish

JSON = dict[str, Any]


def counting(to: int) -> Slices[int]:
    for _ in range(to):
        yield None
    return to


async def test_in_slices__longer_than_a_slice__lets_others_run_in_between() -> None:
    clock = itertools.count(0.0, SLICE_SECONDS / 4)
    ticks = 0

    async def other() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    slices: list[float] = []
    assert await in_slices(counting(100), held=slices.append, monotonic=lambda: next(clock)) == 100
    beside.cancel()
    assert ticks >= 10
    assert max(slices) <= 2 * SLICE_SECONDS


async def test_in_slices__work__runs_beside_and_its_result_or_error_comes_back() -> None:
    def fails() -> None:
        raise LookupError("no")

    def steps() -> Slices[str]:
        answer = yield lambda: "pure"
        try:
            yield fails
        except LookupError:
            return f"{answer}, and told"
        return "not told"

    assert await in_slices(steps()) == "pure, and told"


def test_at_once__work__is_done_in_place() -> None:
    def steps() -> Slices[int]:
        yield None
        answer: int = yield lambda: 41
        return 1 + answer

    assert at_once(steps()) == 42


CHANGES = ("suspended", "deleted", "account", "quote", "provider")


@pytest.mark.parametrize("change", CHANGES)
def test_cycle__changed_between_any_two_steps__never_places_on_what_was(change: str) -> None:
    """Cut the cycle at every step: what is placed afterwards was decided on what is there."""
    whole = len(list(_cycle_of_a_job()[1].steps()))
    assert whole > 5
    for cut in range(whole):
        desk, cycle, outbox, job = _cycle_of_a_job_with_outbox()
        steps = cycle.steps()
        for _ in range(cut):
            next(steps)
        before = len(outbox.placements)
        _change(desk, job, change)
        for work in steps:
            assert work is None
        assert len(outbox.placements) == before, f"cut at {cut}"
        cycle.run()
        assert len(outbox.placements) == before, f"the next cycle, cut at {cut}"


def _change(desk: Any, job: JSON, change: str) -> None:
    view, newer = desk.view, {"resourceVersion": "90"}
    if change == "suspended":
        meta = {**job["metadata"], **newer, "generation": 2}
        view.jobs.apply({**job, "metadata": meta, "spec": {**job["spec"], "suspend": True}})
    elif change == "deleted":
        view.jobs.forget({**job, "metadata": {**job["metadata"], **newer}})
    elif change == "account":
        account = an_account()
        view.accounts.apply({**account, "metadata": {**account["metadata"], **newer}, "status": {}})
    elif change == "quote":
        quote = desk.quote_of("aurora")
        meta = {**quote["metadata"], **newer}
        view.quotes.apply({**quote, "metadata": meta, "spec": {**quote["spec"], "closed": True}})
    elif change == "provider":
        provider = view.providers.get("aurora")
        meta = {**provider["metadata"], **newer, "generation": 2}
        view.providers.apply({**provider, "metadata": meta, "spec": {**provider["spec"], "desired": "Drain"}})


def _cycle_of_a_job() -> tuple[Any, Cycle]:
    desk, cycle, _, _ = _cycle_of_a_job_with_outbox()
    return desk, cycle


def _cycle_of_a_job_with_outbox() -> tuple[Any, Cycle, Any, JSON]:
    desk, outbox, _ = a_desk()
    furnish(desk)
    job = a_job(tasks=1)
    desk.view.jobs.apply(job)
    return desk, Cycle(desk), outbox, job


def test_backlog__writes_crowded__tells_the_oldest_first_and_everybody_once() -> None:
    backlog, room, told = Backlog(), 2, list[str]()

    def report(name: str) -> bool:
        if len(told) >= room:
            return False
        told.append(name)
        return True

    at_once(backlog.tell({"a", "b", "c", "d"}, report))
    assert told == ["a", "b"]
    room = 3
    at_once(backlog.tell({"b"}, lambda name: report(f"{name} again") if name == "b" else report(name)))
    assert told == ["a", "b", "b again"]
    room = 9
    at_once(backlog.tell(set(), report))
    assert told == ["a", "b", "b again", "c", "d"]
    at_once(backlog.tell(set(), report))
    assert len(told) == 5


def test_account__only_its_balance_changes__nobody_is_added_up_but_who_waits_is_scheduled() -> None:
    desk, _, _, _ = _cycle_of_a_job_with_outbox()
    desk.view.touched_jobs.clear()
    desk.view.money_moved = False
    account = an_account()
    richer = {**account, "status": {**account["status"], "balance": "2000"}}
    desk.view.accounts.apply({**richer, "metadata": {**account["metadata"], "resourceVersion": "9"}})
    assert not desk.view.touched_jobs
    assert desk.view.money_moved
    unbound = {**account, "metadata": {**account["metadata"], "resourceVersion": "10"}, "status": {}}
    desk.view.accounts.apply(unbound)
    assert desk.view.touched_jobs
