"""A view takes the newest of what lists, events and answers bring, in whatever order they come."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from fallow.kube.client import Listing
from fallow.kube.kinds import CONFIG_MAP
from fallow.kube.view import View


def thing(name: str, version: int, *, uid: str = "u1", **data: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": "ns", "resourceVersion": str(version), "uid": uid}
    return {"metadata": meta, "data": data}


class Watched:
    """A view that notes its changes, with a clock of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.changes: list[tuple[str, str]] = []
        self.view = View(
            CONFIG_MAP,
            on_change=lambda change, obj: self.changes.append((change, obj["metadata"]["name"])),
            monotonic=lambda: self.now,
        )

    def version(self, name: str) -> int | None:
        obj = self.view.get(name, namespace="ns")
        return None if obj is None else int(obj["metadata"]["resourceVersion"])


def test_apply__older_event_after_the_answer_to_a_write__is_dropped() -> None:
    it = Watched()
    assert it.view.apply(thing("a", 9))
    it.view.dirty.clear()
    assert not it.view.apply(thing("a", 8))
    assert not it.view.apply(thing("a", 9))
    assert it.version("a") == 9
    assert not it.view.dirty.is_set()


def test_apply__versions_of_different_length__are_compared_as_numbers() -> None:
    it = Watched()
    it.view.apply(thing("a", 99))
    assert it.view.apply(thing("a", 100))
    assert it.changes == [("ADDED", "a"), ("MODIFIED", "a")]


def test_apply__late_answer_after_the_deletion__stays_dead_until_created_again() -> None:
    it = Watched()
    it.view.apply(thing("a", 5))
    assert it.view.forget(thing("a", 8))
    assert not it.view.apply(thing("a", 7))
    assert it.version("a") is None
    assert it.view.apply(thing("a", 9, uid="u2"))
    assert it.version("a") == 9


def test_apply__tombstone_after_two_turns__is_forgotten() -> None:
    it = Watched()
    for moment, name in ((0.0, "a"), (61.0, "b"), (122.0, "c")):
        it.now = moment
        it.view.forget(thing(name, 8))
    assert not it.view.apply(thing("b", 7))  # buried less than two minutes ago
    assert it.view.apply(thing("a", 7))


def test_forget__older_than_what_is_known__is_dropped() -> None:
    it = Watched()
    it.view.apply(thing("a", 9, uid="u2"))
    assert not it.view.forget(thing("a", 8))
    assert it.version("a") == 9


def test_forget__object_left_the_selector_by_our_own_write__goes_although_versions_are_equal() -> None:
    it = Watched()
    it.view.apply(thing("a", 9))
    assert it.view.forget(thing("a", 9))
    assert it.version("a") is None


def test_apply__same_name_other_uid__was_deleted_in_between() -> None:
    it = Watched()
    it.view.apply(thing("a", 5))
    it.view.apply(thing("a", 9, uid="u2"))
    assert it.changes == [("ADDED", "a"), ("DELETED", "a"), ("ADDED", "a")]


def test_replace__object_missing_from_the_list__is_deleted_but_a_newer_one_stays() -> None:
    it = Watched()
    it.view.apply(thing("vanished", 5))
    it.view.apply(thing("just created here", 21))
    it.view.replace(Listing([thing("listed", 7)], "20"), newest_before=5)
    assert it.version("vanished") is None
    assert it.version("listed") == 7
    assert it.version("just created here") == 21
    assert ("DELETED", "vanished") in it.changes
    assert not it.view.apply(thing("vanished", 19))  # a late answer from before the list


def test_replace__empty_list__is_synced_and_wakes_the_cycle() -> None:
    it = Watched()
    assert not it.view.synced.is_set()
    it.view.replace(Listing([], "20"), newest_before=0)
    assert it.view.synced.is_set()
    assert it.view.dirty.is_set()


def test_replace__store_set_back_by_a_backup__starts_afresh() -> None:
    it = Watched()
    it.view.apply(thing("a", 90))
    it.view.apply(thing("lost with the backup", 95))
    it.view.forget(thing("deleted after the backup", 99))
    listing = Listing([thing("a", 40), thing("deleted after the backup", 41)], "50")
    it.view.replace(listing, newest_before=it.view.newest)
    assert it.version("a") == 40
    assert it.version("deleted after the backup") == 41
    assert it.version("lost with the backup") is None
    assert it.view.newest == 50


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_view__whatever_the_order_of_news__ends_with_the_newest(order: tuple[int, ...]) -> None:
    it = Watched()
    news = [
        lambda: it.view.apply(thing("a", 3)),
        lambda: it.view.apply(thing("a", 4)),
        lambda: it.view.forget(thing("a", 6)),
        lambda: it.view.apply(thing("a", 8, uid="u2")),
    ]
    for index in order:
        news[index]()
    assert it.version("a") == 8


def test_apply__what_servers_note_of_writers__is_not_kept() -> None:
    it = Watched()
    obj = thing("a", 1)
    obj["metadata"]["managedFields"] = [{"manager": "somebody"}]
    assert it.view.apply(obj)
    kept = it.view.get("a", namespace="ns")
    assert kept is not None
    assert "managedFields" not in kept["metadata"]
