"""Everything has its turn, and no cycle has to carry all of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fallow.hub.retention import Turns


def test_turns__first_call__deals_everything() -> None:
    assert Turns(lambda: range(5), seconds=30).due(100.0) == [0, 1, 2, 3, 4]


@given(st.integers(0, 50), st.lists(st.floats(0.01, 12), min_size=1, max_size=60))
def test_turns__whatever_the_steps__each_thing_comes_once_per_round(count: int, steps: list[float]) -> None:
    turns = Turns(lambda: range(count), seconds=30)
    now = 0.0
    turns.due(now)
    dealt: list[int] = []
    for step in steps:
        now += step
        dealt += turns.due(now)
    wanted = [number for _ in range(len(dealt) // max(1, count) + 1) for number in range(count)]
    assert dealt == wanted[: len(dealt)]
    if now <= 30:
        assert len(dealt) == int(count * min(1.0, now / 30))


def test_turns__steady_steps__deal_even_shares() -> None:
    turns = Turns(lambda: range(300), seconds=30)
    turns.due(0)
    shares = [len(turns.due(second)) for second in range(1, 31)]
    assert sum(shares) == 300
    assert set(shares) <= {9, 10, 11}
