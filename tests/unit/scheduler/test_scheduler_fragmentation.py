"""Among equally cheap places, the one whose loss hurts the usual work least."""

from __future__ import annotations

from dataclasses import replace

from fallow.scheduler.cycle import schedule
from fallow.scheduler.fragmentation import Kind, Worth
from fallow.scheduler.snapshot import Shape, Snapshot
from unit.scheduler.builders import JobBuilder, a_job, a_node, a_pool, a_provider, a_snapshot


def shape(builder: JobBuilder) -> Shape:
    return builder.build().shape


def nodes_of(snapshot: Snapshot) -> list[str]:
    return [a.node for place in schedule(snapshot).places for a in place.assignments]


def test_schedule__rare_kind_that_others_need__is_left_to_them() -> None:
    # Both would do; but half of all work can run on the one T4 node only.
    fleet = (
        a_provider("a", a_pool(a_node("rare"), product="T4")),
        a_provider("b", a_pool(a_node("common1"), a_node("common2"), product="G2")),
    )
    anywhere, only_t4 = a_job().gpus(1), a_job().gpus(1).requires(products=("T4",))
    snapshot = a_snapshot(anywhere.tasks(4), providers=fleet)
    workload = ((shape(anywhere), 50), (shape(only_t4), 50))
    assert set(nodes_of(replace(snapshot, workload=workload))) <= {"common1", "common2"}


def test_schedule__task_with_much_cpu__goes_where_no_accelerator_is_stranded_by_it() -> None:
    # With 8 cores a GPU as usual, 64 cores serve 8 GPUs; a task of 40 cores leaves GPUs without on "lean".
    pool = a_pool(a_node("lean", cpu=64_000), a_node("rich", cpu=128_000))
    snapshot = a_snapshot(a_job().cpu(40_000).gpus(1), providers=(a_provider("aurora", pool),))
    usual = shape(a_job().cpu(8_000).gpus(1))
    assert nodes_of(replace(snapshot, workload=((usual, 1),))) == ["rich"]


def test_schedule__workload_asks_for_whole_nodes__small_tasks_share_a_broken_one() -> None:
    pool = a_pool(a_node("a-whole"), a_node("broken", used=1))
    snapshot = a_snapshot(a_job().gpus(1).tasks(3), providers=(a_provider("aurora", pool),))
    usual = shape(a_job().gpus(8))
    assert nodes_of(replace(snapshot, workload=((usual, 1),))) == ["broken"]


def test_schedule__workload_of_unknown_accelerators__is_no_reason_to_fail() -> None:
    gone = Shape(request=(("example.com/tpu", 4), ("pods", 1)))
    snapshot = a_snapshot(a_job().gpus(1), providers=(a_provider("aurora", a_pool(a_node("n"))),))
    assert nodes_of(replace(snapshot, workload=((gone, 10),))) == ["n"]


def test_worth__copies_end_where_the_first_resource_does() -> None:
    one = Worth([Kind(accelerator=0, count=1, cpu=10, memory=1, weight=1.0)])
    assert one.of(80, 100, (8,)) > one.of(40, 100, (8,)) > one.of(9, 100, (8,)) == 0
    assert one.of(80, 100, (8,)) == 8 * one.of(10, 1, (1,))
    assert one.of(80, 100, (0,)) == 0
