"""Given this snapshot, want these decisions."""

from __future__ import annotations

import pytest

from fallow.resources.ranges import IndexRanges
from fallow.scheduler.cycle import Decisions, schedule
from fallow.scheduler.placing import Place
from fallow.scheduler.snapshot import Job, Limits, Provider, Purse, Snapshot
from unit.scheduler.builders import GPU, JobBuilder, a_job, a_node, a_pool, a_provider, a_snapshot


def fleet(nodes: int, *, name: str = "aurora", price: int = 2_000_000, gpus: int = 8) -> Provider:
    return a_provider(
        name, a_pool(*(a_node(f"{name}-{n:02}", gpus=gpus) for n in range(nodes)), gpu_price=price)
    )


def slots_by_provider(decisions: Decisions) -> dict[str, int]:
    slots: dict[str, int] = {}
    for place in decisions.places:
        slots[place.provider] = slots.get(place.provider, 0) + sum(a.slots for a in place.assignments)
    return slots


def only(decisions: Decisions) -> Place:
    assert len(decisions.places) == 1
    return decisions.places[0]


def test_schedule__sweep_of_200_on_192_gpus__fills_both_providers_and_queues_the_rest() -> None:
    # The cheaper provider's GPUs all get a task; the 8 that are over wait behind slots of both.
    snapshot = a_snapshot(
        a_job().gpus(1).tasks(200),
        providers=(fleet(8, name="borealis", price=1_500_000), fleet(16, name="aurora", price=2_000_000)),
    )
    decisions = schedule(snapshot)
    assert slots_by_provider(decisions) == {"borealis": 64, "aurora": 128}
    tasks = {place.provider: len(place.tasks) for place in decisions.places}
    assert tasks == {"borealis": 66, "aurora": 134}  # 8 x 64/192 and the rest
    assert len(decisions.places) == 2
    assert decisions.waits == {}
    assert decisions.places[0].tasks | decisions.places[1].tasks == IndexRanges.span(0, 200)
    assert all(a.slots <= 8 for place in decisions.places for a in place.assignments)


def test_schedule__more_tasks_than_slots_and_queue_carry__rest_stays_in_the_job() -> None:
    snapshot = a_snapshot(a_job().gpus(1).tasks(100), providers=(fleet(1),), limits=Limits(queue_per_slot=2))
    decisions = schedule(snapshot)
    assert only(decisions).assignments[0].slots == 8
    assert only(decisions).tasks == IndexRanges.span(0, 24)
    assert decisions.waits["job"].sentence == (
        "76 tasks wait, each wants 1 × nvidia.com/gpu + 1000m cpu + 1024Mi memory: "
        "of 1 node 1 have too little free now."
    )


def test_schedule__placement_would_exceed_its_bound__is_cut_into_several() -> None:
    snapshot = a_snapshot(
        a_job().gpus(1).tasks(50), providers=(fleet(8),), limits=Limits(placement_tasks=20, queue_per_slot=0)
    )
    decisions = schedule(snapshot)
    assert sorted(len(place.tasks) for place in decisions.places) == [10, 20, 20]


def test_schedule__partly_used_nodes__are_filled_before_whole_ones() -> None:
    pool = a_pool(a_node("whole"), a_node("used", used=6), a_node("half", used=4))
    decisions = schedule(a_snapshot(a_job().gpus(1).tasks(5), providers=(a_provider("aurora", pool),)))
    assert [(a.node, a.slots) for a in only(decisions).assignments] == [("used", 2), ("half", 3)]


def test_schedule__cpu_job__keeps_off_accelerator_nodes_while_others_have_room() -> None:
    pool = a_pool(a_node("gpu"), a_node("plain", gpus=0))
    decisions = schedule(a_snapshot(a_job().tasks(3), providers=(a_provider("aurora", pool),)))
    assert [a.node for a in only(decisions).assignments] == ["plain"]


def test_schedule__gang_fits_in_total_but_on_no_nodes__waits_and_says_fragmentation() -> None:
    # 4 nodes x 4 free = 16 free GPUs, but a task wants 8 on one node.
    pool = a_pool(*(a_node(f"n{n}", used=4) for n in range(4)))
    decisions = schedule(a_snapshot(a_job().gpus(8).tasks(2).gang(), providers=(a_provider("aurora", pool),)))
    assert decisions.places == ()
    assert "4 have too little free now" in decisions.waits["job"].sentence


def test_schedule__gang__goes_whole_to_one_provider_even_when_dearer() -> None:
    snapshot = a_snapshot(
        a_job().gpus(8).tasks(4).gang(),
        providers=(fleet(3, name="cheap", price=1_000_000), fleet(4, name="dear", price=3_000_000)),
    )
    place = only(schedule(snapshot))
    assert place.provider == "dear"
    assert [a.slots for a in place.assignments] == [1, 1, 1, 1]


def test_schedule__small_gang__takes_as_few_nodes_as_possible() -> None:
    pool = a_pool(a_node("a", used=6), a_node("b", used=4), a_node("c"), a_node("d"))
    decisions = schedule(a_snapshot(a_job().gpus(2).tasks(6).gang(), providers=(a_provider("aurora", pool),)))
    assert [(a.node, a.slots) for a in only(decisions).assignments] == [("c", 4), ("b", 2)]


def test_schedule__priority_then_age__decides_who_gets_the_last_gpus() -> None:
    jobs = (
        a_job().named("young").gpus(8).having(created=3),
        a_job().named("old").gpus(8).having(created=1),
        a_job().named("important").gpus(8).having(created=9, priority=10),
    )
    decisions = schedule(a_snapshot(*jobs, providers=(fleet(2),)))
    assert [place.job_uid for place in decisions.places] == ["important", "old"]
    assert set(decisions.waits) == {"young"}


def test_schedule__parallelism__bounds_slots_but_not_what_queues_behind_them() -> None:
    decisions = schedule(a_snapshot(a_job().gpus(1).tasks(6).having(slots_left=3), providers=(fleet(1),)))
    assert sum(a.slots for a in only(decisions).assignments) == 3
    assert only(decisions).tasks == IndexRanges.span(0, 6)


def test_schedule__parallelism_used_up__waits_and_says_so() -> None:
    decisions = schedule(a_snapshot(a_job().gpus(1).tasks(6).having(slots_left=0), providers=(fleet(1),)))
    assert decisions.places == ()
    assert decisions.waits["job"].reason == "Parallelism"


def test_schedule__guest_limit__bounds_slots_at_the_provider() -> None:
    pool = a_pool(a_node("a"))
    provider = a_provider("aurora", pool, guests_left=2)
    decisions = schedule(
        a_snapshot(a_job().gpus(1).tasks(5), providers=(provider,), limits=Limits(queue_per_slot=0))
    )
    assert len(only(decisions).tasks) == 2
    assert "limit of guests" in decisions.waits["job"].sentence


def test_schedule__offer_limits_run_time__reserves_and_runs_no_longer() -> None:
    provider = a_provider("aurora", a_pool(a_node("a")), max_run_seconds=600)
    decisions = schedule(a_snapshot(a_job().gpus(1), providers=(provider,)))
    place = only(decisions)
    assert place.run_seconds == 600
    assert place.reserved == 600 * place.price_per_task_hour // 3600


def test_schedule__account_short_of_money__places_what_it_carries_and_says_what_is_missing() -> None:
    # A task-hour: 2.00 for the GPU, 0.01 for the core, 0.001 for the GiB; 5 units carry two of them.
    decisions = schedule(a_snapshot(a_job().gpus(1).tasks(4), providers=(fleet(1),), money=5_000_000))
    assert only(decisions).tasks == IndexRanges.span(0, 2)
    assert decisions.waits["job"].reason == "Money"
    assert "one more task reserves 2.011" in decisions.waits["job"].sentence


def test_schedule__budget_total_smaller_than_account__is_named_instead() -> None:
    decisions = schedule(
        a_snapshot(a_job().gpus(1).tasks(4).having(budget_left=1_000_000), providers=(fleet(1),))
    )
    assert decisions.places == ()
    assert "budget.maxTotal leaves 1." in decisions.waits["job"].sentence


def test_schedule__two_jobs_one_purse__the_second_gets_what_the_first_left() -> None:
    jobs = (
        a_job().named("a").gpus(1).tasks(2).having(created=1),
        a_job().named("b").gpus(1).tasks(2).having(created=2),
    )
    decisions = schedule(a_snapshot(*jobs, providers=(fleet(1),), money=3 * 2_011_000))
    assert {place.job_uid: len(place.tasks) for place in decisions.places} == {"a": 2, "b": 1}


def test_schedule__purse_with_a_problem__waits_with_that_sentence() -> None:
    snapshot = Snapshot(
        jobs=(a_job().gpus(1).build(),),
        providers=(fleet(1),),
        purses=(Purse("purse", 10**12, problem="Account default is not bound."),),
    )
    decisions = schedule(snapshot)
    assert decisions.places == ()
    assert decisions.waits["job"].sentence == "Account default is not bound."


def test_schedule__max_providers_used_up__stays_with_those_it_has() -> None:
    job = a_job().gpus(1).tasks(20).requires(max_providers=1).having(providers_used=frozenset({"dear"}))
    decisions = schedule(
        a_snapshot(
            job,
            providers=(fleet(1, name="cheap", price=1), fleet(1, name="dear")),
            limits=Limits(queue_per_slot=0),
        )
    )
    assert slots_by_provider(decisions) == {"dear": 8}
    assert "1 belong to further providers" in decisions.waits["job"].sentence


def test_schedule__stronger_isolation_than_asked__will_do() -> None:
    provider = a_provider("a", a_pool(a_node("n")), isolation=("Sandboxed",))
    decisions = schedule(a_snapshot(a_job().requires(isolation="UserNamespace"), providers=(provider,)))
    assert len(decisions.places) == 1


def test_schedule__no_nodes_at_all__says_that_nobody_offers() -> None:
    decisions = schedule(a_snapshot(a_job(), providers=(a_provider("aurora"),)))
    assert decisions.waits["job"].reason == "NoProvider"


UNMET: dict[str, tuple[JobBuilder, str]] = {
    "a product nobody has": (
        a_job().gpus(1).requires(products=("B200*",)),
        "requirements.acceleratorProducts [B200*]",
    ),
    "a region nobody is in": (a_job().requires(regions=("mars",)), "requirements.regions [mars]"),
    "an isolation nobody has": (a_job().requires(isolation="Sandboxed"), "requirements.isolation Sandboxed"),
    "a provider that is not there": (a_job().requires(providers=("zeta",)), "requirements.providers [zeta]"),
    "more accelerator memory than any": (
        a_job().gpus(1).requires(min_accelerator_memory_mib=200_000),
        "requirements.minAcceleratorMemoryMiB 200000",
    ),
    "an interconnect nobody has": (
        a_job().gpus(1).requires(interconnect="InfiniBand"),
        "requirements.interconnect InfiniBand",
    ),
    "a lower price than any": (
        a_job().gpus(1).shaped(max_price=1_000_000),
        "budget.maxPricePerTaskHour 1",
    ),
    "more than any node has": (a_job().gpus(9), "the requests of one task (9 × nvidia.com/gpu"),
    "labels that no node has": (
        a_job().requires(node_labels=(("rack", "a"),)),
        "requirements.nodeLabels [rack=a]",
    ),
    "an image nobody allows": (a_job().shaped(images=("evil/x",)), "the need to allow the images [evil/x]"),
}


@pytest.mark.parametrize("case", UNMET)
def test_schedule__requirement_that_no_provider_meets__is_named(case: str) -> None:
    job, named = UNMET[case]
    pool = a_pool(a_node("a"))
    decisions = schedule(
        a_snapshot(job, providers=(a_provider("aurora", pool, region="eu", image_patterns=("good/*",)),))
        if case == "an image nobody allows"
        else a_snapshot(job, providers=(a_provider("aurora", pool, region="eu"),))
    )
    assert decisions.places == ()
    assert decisions.waits["job"].reason == "RequirementUnmet"
    assert f"no provider meets {named}" in decisions.waits["job"].sentence


def test_schedule__different_requirements_fail_at_different_providers__counts_instead_of_blaming_one() -> (
    None
):
    providers = (
        a_provider("a", a_pool(a_node("a1"), product="NVIDIA-A100"), region="eu"),
        a_provider("b", a_pool(a_node("b1"), a_node("b2")), region="us"),
    )
    job = a_job().gpus(1).requires(products=("*H100*",), regions=("eu",))
    wait = schedule(a_snapshot(job, providers=providers)).waits["job"]
    assert wait.reason == "NoRoom"
    assert "2 are in other regions, 1 have another accelerator" in wait.sentence


def test_schedule__provider_takes_no_work__its_nodes_are_counted_as_closed() -> None:
    wait = schedule(
        a_snapshot(a_job(), providers=(a_provider("a", a_pool(a_node("n")), refuses="Closed"),))
    ).waits["job"]
    assert "1 belong to 1 provider that is closed now" in wait.sentence


def test_schedule__same_shape_meets_no_room__is_not_asked_again() -> None:
    # 2,000 jobs on a full fleet: each shape looks at the nodes once, so this is instant and stays so.
    pool = a_pool(*(a_node(f"n{n}", used=8) for n in range(100)))
    jobs = tuple(a_job().named(f"j{n}").gpus(1).build() for n in range(2_000))
    decisions = schedule(a_snapshot(*jobs, providers=(a_provider("aurora", pool),)))
    assert decisions.places == ()
    assert len(decisions.waits) == 2_000


def test_job__accelerators__are_what_is_not_native() -> None:
    job: Job = a_job().gpus(2).build()
    assert job.shape.accelerators == ((GPU, 2),)
