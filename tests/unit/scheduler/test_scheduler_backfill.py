"""A large job that waits keeps nodes for itself, and others may only use them while it could not."""

from __future__ import annotations

from dataclasses import replace

from fallow.scheduler.cycle import schedule
from fallow.scheduler.snapshot import Limits, Running, Snapshot
from unit.scheduler.builders import GPU, JobBuilder, a_job, a_node, a_pool, a_provider, a_snapshot

NOW = 1_900_000_000
ONE_GPU = ((GPU, 1), ("pods", 1))


def half_full(*, nodes: int = 2, ends_in: int = 3600) -> Snapshot:
    """4 of 8 GPUs are used on each node, until `ends_in` seconds from now at the latest."""
    pool = a_pool(*(a_node(f"n{n}", used=4) for n in range(nodes)))
    return replace(
        a_snapshot(providers=(a_provider("aurora", pool),), limits=Limits(queue_per_slot=0)),
        running=tuple(Running("aurora", f"n{n}", ONE_GPU, 4, NOW + ends_in) for n in range(nodes)),
        now=NOW,
    )


def gang() -> JobBuilder:
    return a_job().named("gang").gpus(8).tasks(2).gang().having(created=1)


def small(**fields: object) -> JobBuilder:
    return a_job().named("small").gpus(1).tasks(8).having(created=2, **fields)


def placed(snapshot: Snapshot, *jobs: JobBuilder) -> dict[str, int]:
    decisions = schedule(replace(snapshot, jobs=tuple(job.build() for job in jobs)))
    return {place.job_uid: len(place.tasks) for place in decisions.places}


def test_schedule__gang_waits__small_jobs_that_end_too_late_keep_off_its_nodes() -> None:
    assert placed(half_full(), gang(), small(timeout_seconds=3601)) == {}


def test_schedule__gang_waits__small_jobs_that_end_in_time_run_around_it() -> None:
    assert placed(half_full(), gang(), small(timeout_seconds=3600)) == {"small": 8}


def test_schedule__gang_waits__nodes_that_it_does_not_want_are_free_for_all() -> None:
    assert placed(half_full(nodes=3), gang(), small(timeout_seconds=10**6)) == {"small": 4}


def test_schedule__small_job_before_the_gang__is_not_held_back() -> None:
    assert placed(half_full(), gang(), small(timeout_seconds=10**6, priority=1)) == {"small": 8}


def test_schedule__reservations_off__gang_may_starve() -> None:
    snapshot = replace(half_full(), limits=Limits(queue_per_slot=0, reservations=0))
    assert placed(snapshot, gang(), small(timeout_seconds=10**6)) == {"small": 8}


def test_schedule__gang_larger_than_any_pool__keeps_nothing_from_others() -> None:
    assert placed(half_full(), gang().tasks(3), small(timeout_seconds=10**6)) == {"small": 8}


def test_schedule__large_single_task__is_not_starved_by_small_ones_either() -> None:
    whole = a_job().named("whole").gpus(8).having(created=1)
    assert placed(half_full(nodes=1), whole, small(timeout_seconds=10**6)) == {}


def test_schedule__job_uses_kept_nodes__queues_nothing_behind_its_slots_there() -> None:
    snapshot = replace(half_full(), limits=Limits(queue_per_slot=2))
    assert placed(snapshot, gang(), small(timeout_seconds=3600).tasks(100)) == {"small": 8}


def test_schedule__gang_keeps_nodes__says_when_at_the_latest_and_why_others_wait() -> None:
    jobs = (gang().build(), small(timeout_seconds=10**6).build())
    waits = schedule(replace(half_full(), jobs=jobs)).waits
    # 1,900,003,600 is 2030-03-17 18:46:40 UTC.
    assert "starts by 2030-03-17 18:50 UTC at the latest" in waits["gang"].sentence
    assert "2 are kept for a larger job that has waited longer" in waits["small"].sentence


def test_schedule__time_passes__sentences_stay() -> None:
    jobs = (gang().build(), small(timeout_seconds=10**6).build())
    before = replace(half_full(), jobs=jobs)
    assert schedule(before).waits == schedule(replace(before, now=NOW + 600)).waits


def test_schedule__earlier_pool__is_the_one_that_is_kept() -> None:
    slow, fast = (a_pool(a_node(f"{name}0", used=4)) for name in ("slow", "fast"))
    snapshot = replace(
        a_snapshot(
            providers=(a_provider("slow", slow), a_provider("fast", fast)), limits=Limits(queue_per_slot=0)
        ),
        running=(
            Running("slow", "slow0", ONE_GPU, 4, NOW + 7200),
            Running("fast", "fast0", ONE_GPU, 4, NOW + 60),
        ),
        now=NOW,
        jobs=(gang().tasks(1).build(), small(timeout_seconds=10**6).build()),
    )
    assert {place.provider for place in schedule(snapshot).places} == {"slow"}
