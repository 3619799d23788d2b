"""Device memory between two tenants."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fallow.agent.devices import Devices
from fallow.agent.guests import Guest
from fallow.agent.leftovers import PATIENCE_SECONDS, UNKNOWN, WHY, Leftovers
from fallow.agent.nodes import Node
from fallow.agent.offering import offering
from fallow.agent.running import decide
from fallow.agent.site import Record
from unit.agent.guest_pods import UID, a_pod
from unit.agent.some_work import a_node, a_site, an_offer, some_room, some_work

OTHER = "22222222-0000-0000-0000-000000000000"


def used_by(*users: str) -> Node:
    """A node with one device in use, by these pods."""
    return replace(a_node("n1"), devices=Devices(users=(frozenset(users),)))


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


@pytest.fixture
def book(clock: list[float]) -> Leftovers:
    return Leftovers(monotonic=lambda: clock[0])


def guest(*, finished: bool = False) -> Guest:
    one = a_pod().running().guest()
    return replace(one, uid="pod-a", phase="Succeeded" if finished else "Running")


def test_look__guest_runs__its_device_is_no_leftover(book: Leftovers) -> None:
    assert book.look([used_by("pod-a")], [guest()]) == {}


def test_look__guest_has_ended_and_memory_is_held__belongs_to_its_placement(
    book: Leftovers,
) -> None:
    book.look([used_by("pod-a")], [guest()])
    assert book.look([used_by("pod-a")], [guest(finished=True)]) == {"n1": {UID}}
    assert book.look([used_by("pod-a")], []) == {"n1": {UID}}
    assert book.look([replace(a_node("n1"), devices=Devices())], []) == {}


def test_look__memory_is_held_and_nobody_is_there__belongs_to_nobody_known(book: Leftovers) -> None:
    assert book.look([used_by()], []) == {"n1": {UNKNOWN}}


def test_look__a_pod_of_the_owners__holds_its_device_by_right(book: Leftovers) -> None:
    assert book.look([used_by("owners")], []) == {}


def test_closed__not_clear_for_a_minute__node_is_closed_and_reopens(
    book: Leftovers, clock: list[float]
) -> None:
    book.look([used_by()], [])
    clock[0] = PATIENCE_SECONDS - 1
    assert book.closed() == {}
    clock[0] = PATIENCE_SECONDS
    assert book.closed() == {"n1": WHY}
    offered = offering([used_by()], [], an_offer(), token_decimals=6, barred=book.closed())
    assert (offered.nodes["n1"].closed, offered.nodes["n1"].vacate) == (WHY, False)
    book.look([a_node("n1")], [])
    assert book.closed() == {}


@pytest.mark.parametrize("gang", [False, True])
@pytest.mark.parametrize(
    ("left", "starts"),
    [
        (frozenset[str](), True),
        (frozenset({UID}), True),
        (frozenset({OTHER}), False),
        (frozenset({UNKNOWN}), False),
    ],
)
def test_decide__leftovers_of_another__wait_and_are_not_handed_back(
    left: frozenset[str], starts: bool, gang: bool
) -> None:
    work = some_work({"n1": (2, "0-1")}, gang=gang)
    decisions = decide(work, Record(), [], a_site(unclear={"n1": left}), room=some_room())
    assert bool(decisions.start) is starts
    assert decisions.handed_back == ()
