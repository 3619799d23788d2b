"""Preemption and slow places through cycles of the hub: what is asked of whom, once, and what is paid."""

from __future__ import annotations

from typing import Any

from fallow.hub import claims
from fallow.hub.carrying import job_key
from fallow.hub.cycle import Cycle
from fallow.hub.desk import Desk
from fallow.hub.placements import read
from fallow.hub.preemption import leaving
from fallow.settings import PreemptionSettings, SlownessSettings
from unit.hub.builders import CREATED_UNIX, GPU, a_job, a_placement, ended, placed, ranges
from unit.hub.desks import Outbox, Time, a_desk, a_lease, answer, furnish

JSON = dict[str, Any]


def a_fleet(**settings: Any) -> tuple[Desk, Outbox, Time]:
    desk, outbox, time = a_desk()
    furnish(desk)
    desk.settings = desk.settings.model_copy(update=settings)
    return desk, outbox, time


def a_job_of(uid: str, **spec: Any) -> JSON:
    job = a_job(**spec)
    job["metadata"] |= {"uid": uid, "name": uid}
    return job


def running(uid: str, tasks: str, *, version: str = "1", **fields: Any) -> JSON:
    obj = a_placement(tasks, job_uid=uid, running=8, **fields)
    meta = {"name": f"{uid}-0", "uid": f"uid-of-{uid}-0", "resourceVersion": version}
    obj["metadata"] |= meta
    limits = {"limits": {GPU: 1, "cpu": "1", "memory": "1Gi"}}
    obj["spec"]["template"] = {"spec": {"containers": [{"resources": limits}]}}
    return obj


ON = PreemptionSettings(enabled=True, tasks_per_account_per_hour=3)


def a_full_fleet(preemption: PreemptionSettings) -> tuple[Desk, Outbox, Time, Cycle]:
    desk, outbox, time = a_fleet(preemption=preemption)
    desk.view.jobs.apply(a_job_of("low", tasks=8))
    desk.view.placements.apply(running("low", "0-7"))
    cycle = Cycle(desk)
    cycle.run()
    return desk, outbox, time, cycle


def test_preemption__when_on__then_asks_the_last_running_tasks_to_go_and_asks_once() -> None:
    desk, outbox, time, cycle = a_full_fleet(ON)
    desk.view.jobs.apply(a_job_of("high", tasks=2, priority=5))
    time.passed = 2
    cycle.run()
    ((who, change),) = outbox.changes
    assert (who.name, change) == ("low-0", {"preempted": "6-7"})
    time.passed = 4
    cycle.run()  # the write is under way
    assert len(outbox.changes) == 1
    outbox.under_way.clear()
    after = running("low", "0-7", version="2")
    after["spec"]["preempted"] = "6-7"
    desk.view.placements.apply(after)
    time.passed = 6
    cycle.run()  # asked, and not gone yet
    assert len(outbox.changes) == 1


def test_preemption__when_off__then_nobody_is_asked() -> None:
    desk, outbox, time, cycle = a_full_fleet(PreemptionSettings())
    desk.view.jobs.apply(a_job_of("high", tasks=2, priority=5))
    time.passed = 2
    cycle.run()
    assert not outbox.changes


def test_preemption__when_an_account_lost_enough_in_this_hour__then_nobody_more_is_asked() -> None:
    desk, outbox, time, cycle = a_full_fleet(ON)
    desk.view.jobs.apply(a_job_of("high", tasks=6, priority=5))
    time.passed = 2
    cycle.run()
    ((_, change),) = outbox.changes
    assert change == {"preempted": "5-7"}, "three of the six that are wanted"


def test_leaving__when_tasks_queue_behind_the_slots__then_they_go_too() -> None:
    assert leaving(placed("0-9", slots=4), "n0", 1) == ranges("3-9")
    assert leaving(placed("0-9", slots=4, reports=[ended(0), ended(1)]), "n0", 4) == ranges("2-9")
    assert not leaving(placed("0-9"), "another node", 1)


def test_assess__of_a_task_that_gave_way__then_what_it_ran_is_paid() -> None:
    obj = a_placement("0-1", reports=[ended(0, "C", seconds=30), ended(1, "C", seconds=30)])
    obj["spec"]["preempted"] = "0"

    found = claims.assess(read(obj, request=()), now=CREATED_UNIX + 60, failure_seconds_left=0)
    assert [one.index for one in found.paid] == [0]
    assert list(found.disallowed) == ["NotCancelled"]


def test_slow_place__when_others_would_be_done_sooner__then_its_last_tasks_are_taken_away_once() -> None:
    desk, outbox, time = a_fleet(slowness=SlownessSettings(enabled=True, least_seconds=20))
    desk.view.jobs.apply(a_job_of("job", tasks=10))
    slow = running("job", "0-9", provider="borealis", reports=[ended(at, seconds=5) for at in range(8)])
    slow["status"]["running"] = 2
    desk.view.placements.apply(slow)
    borealis = dict(desk.view.providers.get("aurora") or {})
    borealis["metadata"] = {"name": "borealis", "uid": "b", "resourceVersion": "1", "generation": 1}
    desk.view.providers.apply(borealis)
    cycle = Cycle(desk)
    for at in range(0, 40, 2):
        time.passed = at
        for name in ("aurora", "borealis"):
            lease = a_lease(str(100 + at))
            lease["metadata"] |= {"namespace": f"provider-{name}", "uid": name}
            desk.view.leases.apply(lease)
        cycle.run()
        if outbox.jobs and job_key("job") in outbox.under_way:
            job = desk.view.jobs_by_uid["job"]
            answer(desk, outbox, job, outbox.jobs[-1], key=job_key("job"), view="jobs")
        assert at >= 20 or not outbox.changes, "too soon"
    ((who, change),) = outbox.changes
    assert (who.provider, change) == ("borealis", {"released": "8-9"})
