"""What is free and what may be spent, from what the view holds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fallow.hub.cycle import Cycle
from fallow.hub.holdings import Holdings
from fallow.hub.placements import Placed, most_of
from fallow.hub.slices import at_once
from fallow.hub.snapshots import Supplies, pools, purses
from fallow.hub.view import HubView
from fallow.receipts.pricing import UnitPrices
from fallow.scheduler.snapshot import Provider
from unit.hub.builders import CREATED, CREATED_UNIX, GPU, a_placement, ended, placed
from unit.hub.desks import a_desk, furnish

JSON = dict[str, Any]
PAYER = "0x" + 40 * "a"


def a_view(*objects: tuple[str, JSON]) -> HubView:
    view = HubView(decimals=6, on_lease=lambda lease: None)
    for kind, obj in objects:
        getattr(view, kind).apply(obj)
    return view


def live(name: str, **fields: Any) -> tuple[str, JSON]:
    obj = a_placement(**fields)
    obj["metadata"] |= {"name": name, "uid": f"uid-of-{name}"}
    obj["spec"]["template"] = {"spec": {"containers": [{"resources": {"limits": {GPU: 1, "cpu": "2"}}}]}}
    return "placements", obj


def a_claim(
    amount: str, *, state: str = "Pending", block: int = 0, created: str = CREATED
) -> tuple[str, JSON]:
    return "claims", {
        "metadata": {
            "name": f"claim-{amount}-{state}-{block}",
            "namespace": "provider-aurora",
            "uid": "u",
            "resourceVersion": "1",
            "creationTimestamp": created,
        },
        "spec": {
            "job": {"uid": "another"},
            "placement": {"uid": f"gone-{amount}-{state}-{block}"},
            "amount": amount,
            "terms": {
                "account": {"payer": PAYER.upper().replace("0X", "0x")},
                "accountNamespace": "default",
                "accountName": "default",
            },
        },
        "status": {"state": state, "block": block},
    }


def an_account(
    *, balance: str = "10", block: int = 5, name: str = "default", **more: Any
) -> tuple[str, JSON]:
    limits = more.pop("limits", {})
    return "accounts", {
        "metadata": {"name": name, "namespace": "default", "uid": f"a-{name}", "resourceVersion": "1"},
        "spec": {"payer": PAYER, "limits": limits},
        "status": {"balance": balance, "observedBlock": block, **more},
    }


def available(*objects: tuple[str, JSON], now: int = CREATED_UNIX) -> dict[str, int]:
    view = a_view(*objects)
    found = purses(view, view.accounts, decimals=6, now=now)
    return {purse.key: purse.available for purse in found["default/default"]}


def test_purses__balance__less_notice_reservations_and_open_claims() -> None:
    # Four tasks of 600 s at 0.001 a second are 2.4; one has run 10 s already: 1.81.
    found = available(
        an_account(underNotice="1"),
        live("p", reports=[ended(0)]),
        a_claim("0.5"),
        a_claim("0.25", state="Submitted"),
    )
    assert found == {f"payer:{PAYER}": 10_000_000 - 1_000_000 - 1_810_000 - 500_000 - 250_000}


def test_purses__settled_claim__counts_until_the_balance_is_of_its_block() -> None:
    before = available(an_account(block=5), a_claim("1", state="Settled", block=6))
    after = available(an_account(block=6), a_claim("1", state="Settled", block=6))
    assert before[f"payer:{PAYER}"] == 9_000_000
    assert after[f"payer:{PAYER}"] == 10_000_000


def test_purses__refused_claim__is_not_owed() -> None:
    assert available(an_account(), a_claim("1", state="Refused"))[f"payer:{PAYER}"] == 10_000_000


def test_purses__two_accounts_of_one_payer__share_its_newest_balance() -> None:
    found = available(an_account(balance="10", block=5), an_account(name="other", balance="4", block=7))
    assert found[f"payer:{PAYER}"] == 4_000_000


def test_purses__limits_that_the_payer_signed__are_purses_too() -> None:
    day_ago = "2025-12-31T00:00:00Z"
    found = available(
        an_account(limits={"maxTotal": "3", "maxPerDay": "2"}, settled="1"),
        a_claim("0.5"),
        a_claim("0.75", state="Settled", block=1),
        a_claim("0.8", state="Settled", block=2, created=day_ago),
    )
    assert found["total:default/default"] == 3_000_000 - 1_000_000 - 500_000
    assert found["day:default/default"] == 2_000_000 - 500_000 - 750_000


def test_purses__more_reserved_than_there_is__is_nothing_not_less() -> None:
    assert available(an_account(balance="1"), a_claim("5"))[f"payer:{PAYER}"] == 0


def test_most_of__released_tasks__reserve_nothing() -> None:
    assert most_of(placed("0-3", released="1-3")) == 600 * 1000
    assert most_of(placed("0-3", reports=[ended(0)], state="Finished")) == 10 * 1000


def a_node(name: str, **spec: Any) -> tuple[str, JSON]:
    offerable = {
        "cpuMillicores": 64_000,
        "memoryMiB": 1000,
        "ephemeralStorageMiB": 1000,
        "pods": 10,
        "accelerators": {GPU: 8},
    }
    return "nodes", {
        "metadata": {"name": name, "namespace": "provider-aurora", "uid": name, "resourceVersion": "1"},
        "spec": {"nodeName": name, "product": "H100", "offerable": offerable, **spec},
    }


PRICES = {
    "H100": UnitPrices(cpu_core_hour=0, memory_gib_hour=0),
    "A100": UnitPrices(cpu_core_hour=0, memory_gib_hour=0),
}


def test_pools__free__is_what_is_offered_less_what_slots_hold() -> None:
    view = a_view(a_node("n0"), live("p", tasks="0-5", slots=3, reports=[ended(0)]))
    (pool,) = pools(view, "aurora", PRICES, label_keys=frozenset())
    (node,) = pool.nodes
    assert node.offerable[GPU] == 8
    assert (node.free[GPU], node.free["cpu"], node.free["pods"]) == (5, 58_000, 7)


def test_pools__nodes_that_look_alike__are_one_pool_whatever_labels_nobody_asks_for() -> None:
    nodes = (
        a_node("n0", labels={"host": "n0", "rack": "a"}),
        a_node("n1", labels={"host": "n1", "rack": "b"}),
        a_node("n2", product="A100"),
    )
    view = a_view(*nodes)
    found = pools(view, "aurora", PRICES, label_keys=frozenset())
    assert [(pool.product, len(pool.nodes)) for pool in found] == [("A100", 1), ("H100", 2)]
    asked = pools(view, "aurora", PRICES, label_keys=frozenset({"rack"}))
    assert [(pool.product, pool.labels) for pool in asked] == [
        ("A100", ()),
        ("H100", (("rack", "a"),)),
        ("H100", (("rack", "b"),)),
    ]


def test_view__assumed_placement__holds_until_its_create_is_refused() -> None:
    view = a_view(a_node("n0"))
    _, obj = live("p", slots=4)
    obj["metadata"]["uid"] = "assumed:p"
    view.assume(obj)
    assert view.holdings.on_node("aurora", "n0")[GPU] == 4
    view.unassume("uid-of-job", "p")
    assert view.holdings.on_node("aurora", "n0")[GPU] == 0
    assert not view.live("uid-of-job")


def test_view__assumed_placement_answered__is_counted_once() -> None:
    view = a_view(a_node("n0"))
    _, obj = live("p", slots=4)
    view.assume({**obj, "metadata": {**obj["metadata"], "uid": "assumed:p"}})
    view.placements.apply(obj)
    assert view.holdings.on_node("aurora", "n0")[GPU] == 4
    view.unassume("uid-of-job", "p")
    assert len(list(view.live("uid-of-job"))) == 1
    view.placements.forget(obj)
    assert view.holdings.on_node("aurora", "n0")[GPU] == 0
    assert view.holdings.guests["aurora"] == 0


some_placed = st.builds(
    placed,
    st.sampled_from(("0-3", "0", "0-9")),
    slots=st.integers(1, 8),
    node=st.sampled_from(("n0", "n1")),
    reports=st.lists(st.sampled_from([ended(n) for n in range(10)]), max_size=6),
    state=st.sampled_from(("Running", "Finished")),
    released=st.sampled_from(("", "0")),
)


@given(st.lists(some_placed, max_size=8), st.randoms(use_true_random=False))
def test_holdings__added_and_removed_in_any_order__come_back_to_nothing(
    some: list[Placed], chance: Any
) -> None:
    holdings = Holdings()
    for one in some:
        holdings.add(one)
    for node in ("n0", "n1"):
        want = sum(one.slots_held().get(node, 0) for one in some)
        assert holdings.on_node("aurora", node)[GPU] == want
    chance.shuffle(some)
    for one in some:
        holdings.remove(one)
    assert not holdings.on_node("aurora", "n0")
    assert not holdings.on_node("aurora", "n1")
    assert holdings.guests["aurora"] == 0


def test_builders__created__is_the_unix_time_beside_it() -> None:
    assert datetime.fromisoformat(CREATED) == datetime.fromtimestamp(CREATED_UNIX, UTC)


def test_supplies__nothing_changed__are_the_same_values_and_follow_what_does() -> None:
    desk, _, _ = a_desk()
    furnish(desk)
    Cycle(desk).run()
    supplies = Supplies()

    def now(*labels: str) -> Provider:
        keys = frozenset(labels)
        (found,) = at_once(supplies.of(desk.view, desk.memory.standings, label_keys=keys, decimals=6))
        return found

    first = now()
    assert now() is first
    desk.view.placements.apply(live("p", slots=3)[1])
    (node,) = now().pools[0].nodes
    assert node.free[GPU] == 5
    assert now() is now()
    assert now("rack") is not now()
    desk.view.providers.forget({"metadata": {"name": "aurora", "resourceVersion": "9"}})
    assert at_once(supplies.of(desk.view, desk.memory.standings, label_keys=frozenset(), decimals=6)) == []
