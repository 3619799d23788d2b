"""What holds for every snapshot: capacity, gangs, indexes, money, same question same answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from fallow.resources.ranges import EMPTY, IndexRanges
from fallow.scheduler.cycle import schedule
from fallow.scheduler.requirements import price_of
from fallow.scheduler.reservations import affordable, reserved
from fallow.scheduler.snapshot import (
    Account,
    Job,
    Limits,
    Node,
    Provider,
    Purse,
    Quota,
    Running,
    Snapshot,
)
from unit.scheduler.builders import GPU, a_job, a_node, a_pool, a_provider

NOW = 1_900_000_000


@st.composite
def nodes(draw: st.DrawFn, name: str) -> Node:
    gpus = draw(st.sampled_from((0, 1, 4, 8)))
    return a_node(
        name,
        gpus=gpus,
        used=draw(st.integers(0, gpus + 2)) if gpus else 0,  # an overdrawn node is possible
        cpu=draw(st.sampled_from((2_000, 8_000, 64_000))),
        pods=draw(st.sampled_from((3, 8, 110))),
    )


@st.composite
def providers(draw: st.DrawFn, name: str) -> Provider:
    pools = []
    for p in range(draw(st.integers(0, 2))):
        inside = [draw(nodes(f"{name}-{p}-{n}")) for n in range(draw(st.integers(1, 4)))]
        price = draw(st.integers(0, 3_000_000))
        product = draw(st.sampled_from(("H100", "A100")))
        pools.append(a_pool(*inside, gpu_price=price, product=product))
    return a_provider(
        name,
        *pools,
        refuses=draw(st.sampled_from(("", "", "", "Closed", "Silent"))),
        owner=draw(st.sampled_from(("x", "y", name))),
        replicate=draw(st.booleans()),
        guests_left=draw(st.one_of(st.none(), st.integers(0, 10))),
        max_run_seconds=draw(st.one_of(st.none(), st.integers(1, 7200))),
    )


@st.composite
def jobs(draw: st.DrawFn, uid: str) -> Job:
    builder = a_job().named(uid).cpu(draw(st.sampled_from((500, 1_000, 4_000))))
    if draw(st.booleans()):
        builder = builder.gpus(draw(st.integers(1, 8)))
    builder.pending = IndexRanges.of(draw(st.sets(st.integers(0, 60), max_size=30)))
    if draw(st.booleans()):
        builder = builder.gang()
    if draw(st.sampled_from((True, False, False, False))):
        builder = builder.shaped(replicated=True)
    if draw(st.booleans()):
        builder = builder.requires(products=("H*",))
    if draw(st.booleans()):
        builder = builder.requires(max_providers=draw(st.integers(1, 2)))
    return builder.having(
        account=draw(st.sampled_from(("", "a", "b"))),
        quotas=draw(st.sampled_from(((), ("small",), ("small", "large")))),
        other_owners=draw(st.sampled_from((frozenset(), frozenset(), frozenset({"x"})))),
        copies=draw(st.sampled_from((1, 1, 1, 2))),
        avoided_providers=draw(st.sampled_from((frozenset(), frozenset({"p0"})))),
        purses=draw(st.sampled_from((("rich",), ("poor",), ("rich", "poor")))),
        budget_left=draw(st.one_of(st.none(), st.integers(0, 30_000_000))),
        slots_left=draw(st.one_of(st.none(), st.integers(0, 20))),
        created=draw(st.integers(0, 5)),
        priority=draw(st.integers(-1, 1)),
        timeout_seconds=draw(st.integers(1, 100_000)),
    ).build()


@st.composite
def ends(draw: st.DrawFn, fleet: tuple[Provider, ...]) -> tuple[Running, ...]:
    """What holds the accelerators in use, and until when."""
    return tuple(
        Running(provider.name, node.name, ((GPU, 1), ("pods", 1)), used, draw(st.integers(NOW, NOW + 10_000)))
        for provider in fleet
        for pool in provider.pools
        for node in pool.nodes
        if (used := node.offerable.get(GPU, 0) - node.free.get(GPU, 0)) > 0
    )


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    fleet = tuple(draw(providers(f"p{n}")) for n in range(draw(st.integers(0, 3))))
    return Snapshot(
        jobs=tuple(draw(jobs(f"job{n}")) for n in range(draw(st.integers(0, 5)))),
        providers=fleet,
        quotas=(Quota("small", draw(st.integers(0, 10))), Quota("large", draw(st.integers(0, 40)))),
        accounts=(Account("a", weight=draw(st.sampled_from((1.0, 3.0)))), Account("b", held=((GPU, 5),))),
        running=draw(ends(fleet)),
        now=NOW,
        purses=(Purse("rich", 10**12), Purse("poor", draw(st.integers(0, 50_000_000)))),
        limits=Limits(
            placement_tasks=draw(st.sampled_from((1, 5, 1024))),
            queue_per_slot=draw(st.integers(0, 3)),
            reservations=draw(st.integers(0, 2)),
        ),
    )


@given(snapshots())
def test_schedule__any_snapshot__no_node_is_ever_over_in_any_dimension(snapshot: Snapshot) -> None:
    requests = {job.uid: dict(job.shape.request) for job in snapshot.jobs}
    used: dict[tuple[str, str], Counter[str]] = {}
    guests: Counter[str] = Counter()
    for place in schedule(snapshot).places:
        for assignment in place.assignments:
            guests[place.provider] += assignment.slots
            taken = used.setdefault((place.provider, assignment.node), Counter())
            for name, amount in requests[place.job_uid].items():
                taken[name] += amount * assignment.slots
    for provider in snapshot.providers:
        if provider.guests_left is not None:
            assert guests[provider.name] <= provider.guests_left
        for pool in provider.pools:
            for node in pool.nodes:
                taken = used.get((provider.name, node.name), Counter())
                assert not taken or not provider.refuses
                for name, amount in taken.items():
                    assert amount <= node.free.get(name, 0)


@given(snapshots())
def test_schedule__any_snapshot__every_index_at_most_once_and_only_pending_ones(snapshot: Snapshot) -> None:
    decisions = schedule(snapshot)
    for job in snapshot.jobs:
        placed = EMPTY
        for place in decisions.places:
            if place.job_uid != job.uid:
                continue
            for assignment in place.assignments:
                assert not placed & assignment.tasks
                placed |= assignment.tasks
                assert 1 <= assignment.slots <= len(assignment.tasks)
            assert len(place.tasks) <= snapshot.limits.placement_tasks
        assert not placed - job.pending
        # Whoever did not get everything is told why.
        assert (job.uid in decisions.waits) == bool(job.pending - placed)


@given(snapshots())
def test_schedule__any_snapshot__a_gang_is_whole_in_one_place_or_not_at_all(snapshot: Snapshot) -> None:
    decisions = schedule(snapshot)
    for job in snapshot.jobs:
        if not job.gang:
            continue
        own = [place for place in decisions.places if place.job_uid == job.uid]
        assert len(own) <= 1
        for place in own:
            assert place.tasks == job.pending
            assert all(a.slots == len(a.tasks) for a in place.assignments)


@given(snapshots())
def test_schedule__any_snapshot__never_over_purse_or_budget_or_quota_or_parallelism(
    snapshot: Snapshot,
) -> None:
    decisions = schedule(snapshot)
    jobs = {job.uid: job for job in snapshot.jobs}
    owners = {provider.name: provider.owner for provider in snapshot.providers}
    taking_part = {provider.name for provider in snapshot.providers if provider.replicate}
    drawn: Counter[str] = Counter()
    spent: Counter[str] = Counter()
    slots: Counter[str] = Counter()
    held: Counter[str] = Counter()
    for place in decisions.places:
        job = jobs[place.job_uid]
        assert place.run_seconds <= job.timeout_seconds
        for purse in job.purses:
            drawn[purse] += place.reserved
        spent[job.uid] += place.reserved
        slots[job.uid] += sum(a.slots for a in place.assignments)
        for key in job.quotas:
            held[key] += sum(a.slots for a in place.assignments) * dict(job.shape.request).get(GPU, 0)
        assert place.provider not in job.avoided_providers
        assert owners[place.provider] not in job.other_owners
    for source in snapshot.purses:
        assert drawn[source.key] <= source.available
    for quota in snapshot.quotas:
        assert held[quota.key] <= quota.accelerators_left
    for job in snapshot.jobs:
        if job.budget_left is not None:
            assert spent[job.uid] <= job.budget_left
            # What queues behind slots is bought with what is left, the first copies with a part of it.
            queue = snapshot.limits.queue_per_slot
            assert queue or spent[job.uid] * job.copies <= job.budget_left
        places = [place for place in decisions.places if place.job_uid == job.uid]
        if job.shape.replicated:
            assert all(place.provider in taking_part for place in places)
        if job.copies > 1 and places:
            assert len(set(owners.values()) - job.other_owners) >= job.copies
        most = job.shape.requirements.max_providers
        if most is not None:
            assert len({place.provider for place in decisions.places if place.job_uid == job.uid}) <= most
        if job.slots_left is not None and not job.gang:
            assert slots[job.uid] <= job.slots_left


@given(snapshots())
def test_schedule__same_snapshot__same_decisions(snapshot: Snapshot) -> None:
    assert schedule(snapshot) == schedule(snapshot)
    shuffled = Snapshot(
        jobs=tuple(reversed(snapshot.jobs)),
        providers=snapshot.providers,
        purses=snapshot.purses,
        limits=snapshot.limits,
        quotas=snapshot.quotas,
        accounts=snapshot.accounts,
        running=snapshot.running,
        now=snapshot.now,
    )
    assert schedule(shuffled).places == schedule(snapshot).places


@given(snapshots())
def test_schedule__any_snapshot__every_sentence_is_bounded(snapshot: Snapshot) -> None:
    assert all(len(wait.sentence) <= 700 for wait in schedule(snapshot).waits.values())


@st.composite
def small_cases(draw: st.DrawFn) -> Snapshot:
    """One job on at most 3 pools of 2 nodes: few enough to try every way to place it."""
    fleet = tuple(
        a_provider(
            f"p{n}",
            a_pool(
                *(a_node(f"p{n}-{m}", gpus=draw(st.integers(0, 4))) for m in range(draw(st.integers(1, 2)))),
                gpu_price=draw(st.integers(0, 4)) * 500_000,
            ),
        )
        for n in range(draw(st.integers(1, 3)))
    )
    job = a_job().gpus(draw(st.integers(1, 3))).tasks(draw(st.integers(1, 5)))
    if draw(st.booleans()):
        job = job.gang()
    budget = draw(st.one_of(st.none(), st.integers(0, 12_000_000)))
    return Snapshot(
        jobs=(job.having(budget_left=budget, timeout_seconds=3600).build(),),
        providers=fleet,
        purses=(Purse("purse", 10**15),),
        limits=Limits(queue_per_slot=0),
    )


@given(small_cases())
def test_schedule__small_case__places_as_many_as_any_way_could_and_none_is_cheaper(
    snapshot: Snapshot,
) -> None:
    (job,) = snapshot.jobs
    best = min(_every_way(job, snapshot.providers))
    places = schedule(snapshot).places
    ours = (-sum(len(place.tasks) for place in places), sum(place.reserved for place in places))
    assert ours == best


def _every_way(job: Job, fleet: tuple[Provider, ...]) -> Iterator[tuple[int, int]]:
    """Yield (-tasks, cost) of every way to place the job within its budget."""
    nodes = [
        (provider.name, pool, node) for provider in fleet for pool in provider.pools for node in pool.nodes
    ]
    wants = dict(job.shape.request)
    takes = [range(node.free.get(GPU, 0) // wants[GPU] + 1) for _, _, node in nodes]
    for way in product(*takes):
        tasks, at = sum(way), {name for (name, _, _), slots in zip(nodes, way, strict=True) if slots}
        if tasks > len(job.pending) or (job.gang and tasks and (tasks < len(job.pending) or len(at) > 1)):
            continue
        cost = sum(
            slots * (price_of(job.shape, pool) or 0) for (_, pool, _), slots in zip(nodes, way, strict=True)
        )
        if job.budget_left is None or cost <= job.budget_left:
            yield -tasks, cost


@given(st.integers(0, 10**9), st.integers(1, 10**6), st.integers(0, 10**7), st.integers(0, 2000))
def test_affordable__any_amount__is_the_largest_number_that_fits(
    available: int, seconds: int, price: int, most: int
) -> None:
    tasks = affordable(available=available, seconds=seconds, price_per_task_hour=price, most=most)
    assert 0 <= tasks <= most
    assert reserved(tasks=tasks, seconds=seconds, price_per_task_hour=price) <= available
    if tasks < most:
        assert reserved(tasks=tasks + 1, seconds=seconds, price_per_task_hour=price) > available


def test_builders__gpu_name__is_the_one_kubernetes_uses() -> None:
    assert a_job().gpus(1).wants[GPU] == 1
