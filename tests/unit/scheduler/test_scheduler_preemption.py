"""Who gives way: lower priorities, within each account's limit, and nobody cheaper would have done."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.scheduler.cycle import schedule
from fallow.scheduler.preemption import Eviction
from fallow.scheduler.snapshot import Snapshot, Victim
from unit.scheduler.builders import GPU, JobBuilder, a_job, a_node, a_pool, a_provider, a_snapshot

ONE_GPU = (("cpu", 1000), (GPU, 1), ("memory", 1024), ("pods", 1))


def a_victim(placement: str, node: str, slots: int, **fields: object) -> Victim:
    given: dict[str, object] = {"priority": 0, "account": "default/low", "cost": 10, **fields}
    return Victim(placement, "p", node, ONE_GPU, slots, **given)  # type: ignore[arg-type]


def a_fleet(*jobs: JobBuilder, victims: tuple[Victim, ...], may_lose: int = 100, nodes: int = 2) -> Snapshot:
    """Nodes of 8 GPUs that the victims fill."""
    used = Counter({f"n{at}": 0 for at in range(nodes)})
    for victim in victims:
        used[victim.node] += victim.slots + victim.leaving
    pool = a_pool(*(a_node(name, used=count) for name, count in sorted(used.items())))
    accounts = sorted({victim.account for victim in victims})
    return replace(
        a_snapshot(*jobs, providers=(a_provider("p", pool),)),
        victims=victims,
        may_lose=tuple((account, may_lose) for account in accounts),
    )


def urgent(gpus: int = 1) -> JobBuilder:
    return a_job().named("urgent").gpus(gpus).having(priority=10)


FULL = (a_victim("a", "n0", 8), a_victim("b", "n1", 8, cost=1))


def test_preempt__when_a_job_of_higher_priority_finds_no_room__then_the_cheapest_slot_goes() -> None:
    assert schedule(a_fleet(urgent(), victims=FULL)).evictions == (Eviction("b", "n1", 1, "urgent"),)


def test_preempt__when_it_is_off__then_nobody_goes() -> None:
    assert schedule(replace(a_fleet(urgent(), victims=FULL), victims=())).evictions == ()


def test_preempt__when_priorities_are_equal__then_nobody_goes() -> None:
    equal = tuple(replace(victim, priority=10) for victim in FULL)
    assert schedule(a_fleet(urgent(), victims=equal)).evictions == ()


def test_preempt__when_the_account_has_lost_enough__then_nobody_goes() -> None:
    assert schedule(a_fleet(urgent(2), victims=FULL, may_lose=1)).evictions == ()


def test_preempt__when_room_is_coming_free_already__then_nobody_else_is_asked() -> None:
    going = (replace(FULL[0], slots=7, leaving=1), FULL[1])
    assert schedule(a_fleet(urgent(), victims=going)).evictions == ()


def test_preempt__when_there_is_room__then_nobody_goes() -> None:
    assert schedule(a_fleet(urgent(), victims=(FULL[0],))).evictions == ()


def test_preempt__when_a_gang_is_in_the_way__then_it_goes_as_a_whole_or_not_at_all() -> None:
    gang = tuple(a_victim("g", node, 8, whole=True) for node in ("n0", "n1"))
    evictions = schedule(a_fleet(urgent(), victims=gang)).evictions
    assert evictions == (Eviction("g", "n0", 8, "urgent"), Eviction("g", "n1", 8, "urgent"))
    assert schedule(a_fleet(urgent(), victims=gang, may_lose=15)).evictions == ()


def test_preempt__when_a_gang_waits__then_room_is_made_for_all_of_it_or_none() -> None:
    gang = urgent(8).tasks(2).gang()
    evictions = schedule(a_fleet(gang, victims=FULL)).evictions
    assert evictions == (Eviction("a", "n0", 8, "urgent"), Eviction("b", "n1", 8, "urgent"))
    safe = (FULL[0], replace(FULL[1], priority=99))
    assert schedule(a_fleet(gang, victims=safe)).evictions == ()


def test_preempt__when_lower_and_higher_priorities_would_do__then_the_lower_go_though_they_cost_more() -> (
    None
):
    victims = (a_victim("a", "n0", 8, priority=1, cost=1), a_victim("b", "n1", 8, priority=0, cost=99))
    assert schedule(a_fleet(urgent(), victims=victims)).evictions == (Eviction("b", "n1", 1, "urgent"),)


@st.composite
def full_fleets(draw: st.DrawFn) -> Snapshot:
    victims = [
        a_victim(
            f"v{node}{at}",
            node,
            draw(st.integers(1, 2)),
            priority=draw(st.integers(-1, 3)),
            cost=draw(st.integers(0, 5)),
            account=draw(st.sampled_from(("default/a", "default/b"))),
            whole=draw(st.booleans()),
        )
        for node in ("n0", "n1")
        for at in range(draw(st.integers(1, 3)))
    ]
    snapshot = a_fleet(
        a_job().named("urgent").gpus(draw(st.integers(1, 8))).having(priority=draw(st.integers(0, 3))),
        victims=tuple(victims),
        may_lose=draw(st.integers(0, 5)),
    )
    used = Counter[str]()
    for victim in victims:
        used[victim.node] += victim.slots
    free = draw(st.integers(0, 2))
    pool = a_pool(*(a_node(name, gpus=used[name] + free, used=used[name]) for name in ("n0", "n1")))
    return replace(snapshot, providers=(a_provider("p", pool),))


@settings(max_examples=200, deadline=None)
@given(full_fleets())
def test_preempt__any_full_fleet__lower_priorities_within_limits_and_the_cheapest_set(
    snapshot: Snapshot,
) -> None:
    decisions = schedule(snapshot)
    job, victims = snapshot.jobs[0], {one.placement: one for one in snapshot.victims}
    lost = Counter[str]()
    for one in decisions.evictions:
        victim = victims[one.placement]
        assert victim.priority < job.priority
        assert one.slots <= victim.slots
        assert one.slots == victim.slots or not victim.whole
        lost[victim.account] += one.slots
    assert all(count <= dict(snapshot.may_lose)[account] for account, count in lost.items())
    if decisions.places:
        assert not decisions.evictions
        return
    ways = list(_every_way(snapshot))
    assert bool(decisions.evictions) == bool(ways)
    if ways:
        assert _cost(snapshot, {one.placement: one.slots for one in decisions.evictions}) == min(ways)


def _cost(snapshot: Snapshot, chosen: dict[str, int]) -> tuple[int, int, int]:
    victims = [one for one in snapshot.victims if chosen.get(one.placement)]
    return (
        max(one.priority for one in victims),
        sum(one.cost * chosen[one.placement] for one in victims),
        sum(chosen.values()),
    )


def _every_way(snapshot: Snapshot) -> list[tuple[int, int, int]]:
    """Return what each set of victims on one node costs that makes the job fit."""
    job = snapshot.jobs[0]
    wants = dict(job.shape.request)[GPU]
    found = []
    for node in snapshot.providers[0].pools[0].nodes:
        here = [one for one in snapshot.victims if one.node == node.name and one.priority < job.priority]
        for way in product(*((0, one.slots) if one.whole else range(one.slots + 1) for one in here)):
            chosen = {one.placement: slots for one, slots in zip(here, way, strict=True) if slots}
            lost = Counter[str]()
            for one in here:
                lost[one.account] += chosen.get(one.placement, 0)
            within = all(count <= dict(snapshot.may_lose).get(account, 0) for account, count in lost.items())
            if chosen and within and node.free[GPU] + sum(way) >= wants:
                found.append(_cost(snapshot, chosen))
    return found
