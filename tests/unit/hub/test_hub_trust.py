"""What a provider's record changes: how much it gets while it is new, and who comes first among equals."""

from __future__ import annotations

from typing import Any

import pytest

from fallow.hub import trust
from fallow.hub.records import Tally
from fallow.hub.slices import at_once
from fallow.hub.snapshots import Supplies
from fallow.scheduler.cycle import schedule
from fallow.settings import TrustSettings
from unit.hub.desks import a_desk
from unit.hub.test_hub_replication_flow import World
from unit.scheduler.builders import a_job, a_node, a_pool, a_provider, a_snapshot

CAPPED = TrustSettings(new_provider_slots=2, agreed_results=10, settled_amount="50")

CASES: dict[str, tuple[dict[str, int], int, int | None]] = {
    "nothing is known": ({}, 0, 2),
    "enough results agreed": ({"agreed": 10}, 0, None),
    "enough was settled": ({}, 50_000_000, None),
    "almost enough of either": ({"agreed": 9}, 49_999_999, 2),
    "agreed often, and contradicted": ({"agreed": 50, "disagreed": 1}, 0, 2),
}


@pytest.mark.parametrize("case", CASES)
def test_slots_allowed__table(case: str) -> None:
    record, earned, wanted = CASES[case]
    provider: dict[str, Any] = {"status": {"record": record}}
    assert trust.slots_allowed(provider, CAPPED, earned=earned, decimals=6) == wanted
    assert trust.slots_allowed(provider, TrustSettings(), earned=earned, decimals=6) is None


def test_rank__grows_with_the_share_of_contradicted_results() -> None:
    ranks = [trust.rank(Tally(agreed=a, disagreed=d)) for a, d in ((0, 0), (99, 0), (99, 1), (1, 1), (0, 3))]
    assert ranks == [0, 0, 1, 5, 10]


def test_supplies__who_was_contradicted__comes_last_and_new_ones_are_capped() -> None:
    world = World({"a": "x", "b": "x"}, copies=2)
    view, memory = world.desk.view, world.desk.memory
    world.cycle.run()
    liar = view.providers.get("a")
    assert liar is not None
    meta = {**liar["metadata"], "resourceVersion": "900"}
    view.providers.apply({**liar, "metadata": meta, "status": {"record": {"agreed": 9, "disagreed": 1}}})
    found = at_once(
        Supplies(CAPPED).of(view, memory.standings, label_keys=frozenset(), decimals=world.desk.decimals)
    )
    assert [one.name for one in found] == ["b", "a"]
    assert max(one.guests_left or 0 for one in found) <= 2


def test_schedule__among_equal_prices__the_first_in_order_gets_it() -> None:
    fleet = tuple(a_provider(name, a_pool(a_node("n"))) for name in ("good", "bad"))
    (place,) = schedule(a_snapshot(a_job().gpus(1), providers=fleet)).places
    assert place.provider == "good"


def test_schedule__job_that_asks_for_a_record__gets_only_providers_that_have_it() -> None:
    fleet = (
        a_provider("new", a_pool(a_node("n"), gpu_price=1)),
        a_provider("bad", a_pool(a_node("n"), gpu_price=2), agreed=80, disagreed=20),
        a_provider("good", a_pool(a_node("n")), agreed=80, disagreed=1),
    )
    asking = a_job().gpus(1).requires(min_agreed_results=50, max_disagreed_percent=5)
    (place,) = schedule(a_snapshot(asking, providers=fleet)).places
    assert place.provider == "good"
    wait = schedule(a_snapshot(asking, providers=fleet[:2])).waits["job"]
    assert "requirements.minAgreedResults 50 and maxDisagreedPercent 5" in wait.sentence


def test_desk__by_default__caps_nobody() -> None:
    desk, _, _ = a_desk()
    assert desk.settings.trust.new_provider_slots is None
