"""When the last tasks are moved off a slow place, and when they are left alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fallow.scheduler.slowness import Patience, Progress, room_elsewhere
from unit.scheduler.builders import a_job, a_node, a_pool, a_provider

LAST = Progress(tasks=100, held=3, waiting=0, succeeded=97, seconds=97 * 50)

CASES: dict[str, tuple[Progress, float | None]] = {
    "the last few tasks": (LAST, 100.0),
    "tasks still wait for a place": (replace(LAST, waiting=1), None),
    "many tasks are left": (replace(LAST, held=21, succeeded=79), None),
    "too few have succeeded to know what is usual": (replace(LAST, succeeded=2), None),
    "tasks are very short": (replace(LAST, seconds=97), 60.0),
    "the one task of many that is left": (Progress(4, 1, 0, 3, 300), 200.0),
}


@pytest.mark.parametrize("case", CASES)
def test_slow_after__table(case: str) -> None:
    progress, wanted = CASES[case]
    assert Patience().slow_after(progress) == wanted


def test_room_elsewhere__counts_open_nodes_of_others_at_no_more_than_the_price() -> None:
    shape = a_job().gpus(2).build().shape
    slow = a_provider("slow", a_pool(a_node("s", gpus=8)))
    fleet = (
        slow,
        a_provider("open", a_pool(a_node("a", gpus=8, used=3), a_node("b", gpus=8, used=8))),
        a_provider("dear", a_pool(a_node("c", gpus=8), gpu_price=9_000_000)),
        a_provider("closed", a_pool(a_node("d", gpus=8)), refuses="Closed"),
        a_provider("small", a_pool(a_node("e", gpus=8)), guests_left=1),
    )
    room = room_elsewhere(shape, fleet, but=frozenset({"slow"}), most_price=5_000_000)
    assert room == 2 + 1
    assert room_elsewhere(shape, (slow,), but=frozenset({"slow"}), most_price=None) == 0
