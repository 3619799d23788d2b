"""Bounds on what a guest may write."""

from __future__ import annotations

from typing import Any

import pytest

from fallow.agent.storage import STORAGE, bound, too_much_storage

MOST = 1000


def a_pod(*resources: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"containers": [{"name": f"c{i}", "resources": r} for i, r in enumerate(resources)], **more}


def limits(pod: dict[str, Any]) -> list[str]:
    return [c["resources"]["limits"][STORAGE] for c in pod["containers"]]


@pytest.mark.parametrize(
    ("resources", "want"),
    [
        pytest.param([{}], ["1000Mi"], id="all of it"),
        pytest.param([{}, {}], ["500Mi", "500Mi"], id="shared"),
        pytest.param([{"limits": {STORAGE: "300Mi"}}, {}], ["300Mi", "700Mi"], id="what one leaves"),
        pytest.param([{"requests": {STORAGE: "200Mi"}}], ["200Mi"], id="a request is a limit, too"),
    ],
)
def test_bound__containers__together_have_the_offers_limit(
    resources: list[dict[str, Any]], want: list[str]
) -> None:
    pod = a_pod(*resources)
    bound(pod, most_mib=MOST)
    assert limits(pod) == want


def test_bound__no_request__reserves_no_disk() -> None:
    pod = a_pod({})
    bound(pod, most_mib=MOST)
    assert pod["containers"][0]["resources"]["requests"][STORAGE] == "0"


@pytest.mark.parametrize(
    ("empty_dir", "want"),
    [
        ({}, "1000Mi"),
        ({"sizeLimit": "10Mi"}, "10Mi"),
        ({"sizeLimit": "10Gi"}, "1000Mi"),
        ({"medium": "Memory"}, "512Mi"),
        ({"medium": "Memory", "sizeLimit": "9Gi"}, "512Mi"),
    ],
)
def test_bound__volumes__have_limits(empty_dir: dict[str, Any], want: str) -> None:
    pod = a_pod({"requests": {"memory": "512Mi"}}, volumes=[{"name": "v", "emptyDir": empty_dir}])
    bound(pod, most_mib=MOST)
    assert pod["volumes"][0]["emptyDir"]["sizeLimit"] == want


def test_bound__no_volumes__none_is_added() -> None:
    pod = a_pod({"limits": {"memory": "4Gi"}})
    bound(pod, most_mib=MOST)
    assert "volumes" not in pod


@pytest.mark.parametrize(("asked", "refused"), [("1000Mi", False), ("1001Mi", True), ("1Gi", True)])
def test_too_much_storage__limits__are_compared_with_the_offers(asked: str, refused: bool) -> None:
    assert bool(too_much_storage(a_pod({"limits": {STORAGE: asked}}), most_mib=MOST)) is refused
