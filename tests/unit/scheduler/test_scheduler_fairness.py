"""Who is served first, and how much of what they may hold."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from fallow.scheduler.cycle import Decisions, Scheduler, schedule
from fallow.scheduler.fairness import Shares, decayed
from fallow.scheduler.snapshot import Account, Job, Limits, Quota, Snapshot
from unit.scheduler.builders import GPU, a_job, a_node, a_pool, a_provider, a_snapshot

NO_QUEUE = Limits(queue_per_slot=0)


def fleet(nodes: int) -> Snapshot:
    pool = a_pool(*(a_node(f"n{n:02}") for n in range(nodes)))
    return a_snapshot(providers=(a_provider("aurora", pool),), limits=NO_QUEUE)


def sweep(account: str, *, tasks: int = 1000, **fields: object) -> Job:
    return a_job().named(f"of-{account}").gpus(1).tasks(tasks).having(account=account, **fields).build()


def slots_by_job(decisions: Decisions) -> Counter[str]:
    slots: Counter[str] = Counter()
    for place in decisions.places:
        slots[place.job_uid] += sum(assignment.slots for assignment in place.assignments)
    return slots


def test_schedule__two_accounts_want_all__each_gets_half() -> None:
    jobs = (sweep("a", created=1), sweep("b", created=2))
    slots = slots_by_job(schedule(replace(fleet(8), jobs=jobs)))
    assert slots == {"of-a": 32, "of-b": 32}


def test_schedule__weights__divide_in_proportion() -> None:
    accounts = (Account("a", weight=3.0), Account("b", weight=1.0))
    jobs = (sweep("a", created=2), sweep("b", created=1))
    slots = slots_by_job(schedule(replace(fleet(8), jobs=jobs, accounts=accounts)))
    assert slots == {"of-a": 48, "of-b": 16}


def test_schedule__account_holds_half_of_the_fleet_already__the_other_is_served_first() -> None:
    accounts = (Account("a", held=((GPU, 32),)),)
    jobs = (sweep("a", created=1), sweep("b", created=2))
    assert slots_by_job(schedule(replace(fleet(4), jobs=jobs, accounts=accounts))) == {"of-b": 32}


def test_schedule__account_used_much_lately__comes_later_than_its_age_says() -> None:
    accounts = (Account("a", used=((GPU, 1e12),)),)
    jobs = (sweep("a", created=1), sweep("b", tasks=20, created=2))
    assert slots_by_job(schedule(replace(fleet(4), jobs=jobs, accounts=accounts))) == {"of-b": 20, "of-a": 12}


def test_schedule__priority__goes_before_fair_share() -> None:
    accounts = (Account("a", held=((GPU, 1000),)),)
    jobs = (sweep("a", priority=1), sweep("b"))
    assert slots_by_job(schedule(replace(fleet(4), jobs=jobs, accounts=accounts))) == {"of-a": 32}


def test_shares__dominant_resource__is_the_one_of_which_most_is_held() -> None:
    shares = Shares(
        (Account("a", held=(("cpu", 50), (GPU, 1))),), {"cpu": 100, GPU: 8, "pods": 1}, half_life_seconds=1
    )
    assert shares.of("a") == 0.5
    shares.give("a", ((GPU, 1), ("pods", 1)), 7)
    assert shares.of("a") == 1.0
    assert shares.of("stranger") == 0.0


@pytest.mark.parametrize(("elapsed", "left"), [(0, 8.0), (10, 4.0), (20, 2.0), (-5, 8.0)])
def test_decayed__after_each_half_life__halves(elapsed: int, left: float) -> None:
    assert decayed(8.0, elapsed_seconds=elapsed, half_life_seconds=10) == left


def test_schedule__quota_of_accelerators__bounds_slots_of_all_its_jobs_and_is_named() -> None:
    jobs = (
        a_job().named("first").gpus(2).tasks(3).having(quotas=("q",), created=1).build(),
        a_job().named("second").gpus(2).tasks(3).having(quotas=("q",), created=2).build(),
        a_job().named("cpu").tasks(3).having(quotas=("q",), created=3).build(),
    )
    decisions = schedule(replace(fleet(4), jobs=jobs, quotas=(Quota("q", 8, name="the account's quota"),)))
    assert slots_by_job(decisions) == {"first": 3, "second": 1, "cpu": 3}
    assert decisions.waits["second"].reason == "Quota"
    assert "the account's quota" in decisions.waits["second"].sentence


def test_scheduler__nothing_changed__gives_the_same_answer_at_once() -> None:
    scheduler = Scheduler()
    full = replace(fleet(1), jobs=(a_job().gpus(9).build(),))
    first = scheduler.schedule(full)
    assert scheduler.schedule(replace(full, now=60)) is first
    assert scheduler.schedule(replace(fleet(2), jobs=(a_job().gpus(8).build(),))).places
