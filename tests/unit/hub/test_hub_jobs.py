"""What this process keeps of a job between cycles."""

from __future__ import annotations

from fallow.hub.jobs import JobRecord, read_wish
from unit.hub.builders import GPU, a_job


def record() -> JobRecord:
    return JobRecord(read_wish(a_job(), decimals=6), next_number=0)


def test_could_not_start__again_and_again__is_avoided_for_longer_each_time_up_to_five_minutes() -> None:
    one = record()
    now = 0.0
    waits = []
    for _ in range(12):
        one.could_not_start("aurora", now)
        until = one.avoid["aurora"][1]
        waits.append(until - now)
        assert one.avoided(until - 0.1) == {"aurora"}
        assert one.avoided(until) == set()
        now = until
    assert waits == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300]


def test_could_not_start__owner_was_quicker_each_time__is_avoided_for_seconds_only() -> None:
    one = record()
    waits = []
    for _ in range(6):
        one.could_not_start("aurora", 0.0, only_late=True)
        waits.append(one.avoid["aurora"][1])
    assert waits == [2, 4, 8, 16, 16, 16]


def test_started__after_failures__the_next_one_counts_as_the_first() -> None:
    one = record()
    for _ in range(5):
        one.could_not_start("aurora", 0.0)
    one.started("aurora")
    assert one.avoided(31.0) == {"aurora"}  # what was said before still holds
    one.could_not_start("aurora", 40.0)
    assert one.avoid["aurora"] == (1, 42.0)


def test_could_not_start__after_ten_good_minutes__begins_anew() -> None:
    one = record()
    for _ in range(5):
        one.could_not_start("aurora", 0.0)
    one.could_not_start("aurora", 1000.0)
    assert one.avoid["aurora"] == (1, 1002.0)


def test_read_wish__requirements_and_budget__become_the_schedulers_shape() -> None:
    wish = read_wish(
        a_job(
            requirements={"acceleratorProducts": ["*H100*"], "nodeLabels": {"rack": "a"}, "maxProviders": 2},
            budget={"maxPricePerTaskHour": "2.5", "maxTotal": "100"},
        ),
        decimals=6,
    )
    assert wish.shape is not None
    assert dict(wish.shape.request) == {"cpu": 1000, "memory": 1024, "pods": 1, GPU: 1}
    assert wish.shape.requirements.products == ("*H100*",)
    assert wish.shape.requirements.node_labels == (("rack", "a"),)
    assert wish.shape.requirements.max_providers == 2
    assert (wish.shape.max_price, wish.max_total) == (2_500_000, 100_000_000)
    assert wish.shape.images == ("registry.example/x:1",)


def test_read_wish__refused__can_be_followed_but_not_scheduled() -> None:
    wish = read_wish(a_job(gang=True, parallelism=1), decimals=6)
    assert not wish.verdict.accepted
    assert wish.spec is not None
    assert wish.shape is None


def test_read_wish__unreadable__has_no_spec() -> None:
    wish = read_wish(a_job(tasks="many"), decimals=6)
    assert not wish.verdict.accepted
    assert wish.spec is None
