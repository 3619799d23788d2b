"""Seconds, effective requests, prices and amounts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.errors import QuantityError
from fallow.receipts.pricing import (
    UnitPrices,
    UnpricedError,
    amount_owed,
    cumulative_amount,
    price_per_task_hour,
)
from fallow.receipts.requests import Requests, effective_requests
from fallow.receipts.usage import usage_seconds

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("sentence", "elapsed_seconds", "limit_seconds", "want"),
    [
        ("a whole hour is an hour", 3600, 86_400, 3600),
        ("an instant is one second", 0, 86_400, 1),
        ("a clock that stepped back is one second", -5, 86_400, 1),
        ("beyond the limit counts the limit", 100, 60, 60),
        ("fractions are cut off", 1.9, 60, 1),
    ],
)
def test_usage__started_and_finished__charges(
    sentence: str, elapsed_seconds: float, limit_seconds: int, want: int
) -> None:
    finished = NOON + timedelta(seconds=elapsed_seconds)
    assert usage_seconds(NOON, finished, limit_seconds=limit_seconds) == want, sentence


def test_usage__time_without_zone__is_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        usage_seconds(NOON.replace(tzinfo=None), NOON, limit_seconds=5)


def _container(cpu: str | None = None, memory: str | None = None, **more: Any) -> dict[str, Any]:
    amounts = {name: value for name, value in (("cpu", cpu), ("memory", memory)) if value is not None}
    return {
        "resources": {"requests": amounts | more.pop("requests", {}), **more.pop("resources", {})},
        **more,
    }


@pytest.mark.parametrize(
    ("sentence", "pod_spec", "want"),
    [
        (
            "containers add up, memory is rounded up to MiB once",
            {"containers": [_container("500m", "1"), _container("1", "1Mi")]},
            Requests(cpu_millicores=1500, memory_mib=2),
        ),
        (
            "a request that is missing is its limit",
            {"containers": [{"resources": {"limits": {"nvidia.com/gpu": 8, "cpu": "2"}}}]},
            Requests(cpu_millicores=2000, memory_mib=0, devices={"nvidia.com/gpu": 8}),
        ),
        (
            "a larger init container counts instead of the containers",
            {"containers": [_container("1")], "initContainers": [_container("3"), _container("2")]},
            Requests(cpu_millicores=3000, memory_mib=0),
        ),
        (
            "a sidecar counts with the containers and with later init containers",
            {
                "containers": [_container("1")],
                "initContainers": [_container("1", restartPolicy="Always"), _container("3")],
            },
            Requests(cpu_millicores=4000, memory_mib=0),
        ),
        (
            "overhead is added, pod-level resources replace the sum",
            {
                "containers": [_container("1", "1Gi")],
                "overhead": {"cpu": "250m"},
                "resources": {"requests": {"cpu": "2"}},
            },
            Requests(cpu_millicores=2250, memory_mib=1024),
        ),
        ("nothing requested costs nothing", {"containers": [{}]}, Requests(cpu_millicores=0, memory_mib=0)),
        (
            "ephemeral storage is bounded, not priced",
            {"containers": [_container(requests={"ephemeral-storage": "1Gi"})]},
            Requests(cpu_millicores=0, memory_mib=0),
        ),
    ],
)
def test_effective_requests__of_a_pod__are(sentence: str, pod_spec: dict[str, Any], want: Requests) -> None:
    assert effective_requests(pod_spec) == want, sentence


@pytest.mark.parametrize("requests", [{"cpu": "-1"}, {"nvidia.com/gpu": "500m"}, {"cpu": "many"}])
def test_effective_requests__quantity_that_makes_no_sense__is_refused(requests: dict[str, str]) -> None:
    with pytest.raises(QuantityError):
        effective_requests({"containers": [{"resources": {"requests": requests}}]})


def test_price__of_many_small_parts__is_rounded_down_once() -> None:
    requests = Requests(cpu_millicores=500, memory_mib=512, devices={"nvidia.com/gpu": 2})
    prices = UnitPrices(cpu_core_hour=1, memory_gib_hour=1, device_hour={"nvidia.com/gpu": 10})
    assert price_per_task_hour(requests, prices) == 21  # 0.5 + 0.5 + 20: floors of each would give 20


def test_price__device_without_a_price__names_it() -> None:
    requests = Requests(cpu_millicores=0, memory_mib=0, devices={"rdma/hca": 1})
    with pytest.raises(UnpricedError, match="rdma/hca"):
        price_per_task_hour(requests, UnitPrices(cpu_core_hour=1, memory_gib_hour=1))


@given(st.lists(st.integers(1, 10**6), max_size=20), st.integers(0, 10**12))
def test_amounts__claimed_in_any_parts__sum_to_the_one_floor(parts: list[int], price: int) -> None:
    claimed = seconds = 0
    for part in parts:
        seconds += part
        claimed += amount_owed(total_seconds=seconds, price_per_task_hour=price, already_claimed=claimed)
    assert claimed == cumulative_amount(total_seconds=seconds, price_per_task_hour=price)


def test_amount_owed__more_was_claimed_already__is_nothing() -> None:
    assert amount_owed(total_seconds=10, price_per_task_hour=3600, already_claimed=11) == 0
