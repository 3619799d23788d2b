"""Claims on the shelf: held as little, told apart by uid and digest, forgotten when they are done."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

import money_terms as money
from fallow.kube.client import Listing
from fallow.receipts.statements import timestamp
from fallow.settler.claim_checks import check_claim
from fallow.settler.shelf import Shelf
from unit.settler.epochs import DOMAIN, MONEY

JSON = dict[str, Any]


def _shelf() -> Shelf:
    return Shelf(lambda obj: check_claim(obj, money=MONEY), dirty=asyncio.Event())


def _claim(name: str = "one", *, version: int = 1, uid: str = "uid-1", **more: Any) -> JSON:
    spec = money.a_claim(
        ["0:0:3600:S:"], terms=money.some_terms(DOMAIN), placement_uid=str(uuid.UUID(int=7)), **more
    )
    meta = {
        "namespace": "provider-aurora",
        "name": name,
        "uid": uid,
        "resourceVersion": str(version),
        "generation": 1,
        "creationTimestamp": timestamp(1_800_000_000),
    }
    return {"metadata": meta, "spec": spec.wire()}


KEY = ("provider-aurora", "one")


def test_claim__seen__is_held_as_what_it_counts_as_and_nothing_of_its_spec() -> None:
    shelf = _shelf()
    assert shelf.apply(_claim())
    (held,) = shelf
    assert (held.paid_as.amount, held.payee, held.state) == (1_800_000, money.address("payee"), "Pending")
    assert not hasattr(held, "spec")
    assert not shelf.apply(_claim()), "the same version is no news"


def test_claim__that_never_can_be_paid__is_held_with_the_reason() -> None:
    shelf = _shelf()
    shelf.apply(_claim(signer="stranger"))
    (held,) = shelf
    assert held.counted is None
    assert held.refusal is not None


def test_claim__read_again__is_the_same_only_with_uid_and_spec() -> None:
    shelf = _shelf()
    obj = _claim()
    shelf.apply(obj)
    (held,) = shelf
    assert not held.says_other_than(_claim(version=9))
    assert held.says_other_than(_claim(uid="uid-2"))
    changed = _claim()
    changed["spec"]["amount"] = "9"
    assert held.says_other_than(changed)


@pytest.mark.parametrize(("state", "stays"), [("Submitted", True), ("Settled", False), ("Refused", False)])
def test_told__a_claim_that_is_done__leaves_and_others_stay(state: str, stays: bool) -> None:
    shelf = _shelf()
    shelf.apply(_claim())
    (held,) = shelf
    changes = shelf.changes
    shelf.told(held, version=2, status={"state": state})
    assert (shelf.get(KEY) is not None) == stays
    assert shelf.changes == changes, "what we say ourselves is no news"
    if stays:
        assert held.as_read()["status"] == {"state": state}
        assert held.as_read()["metadata"]["resourceVersion"] == "2"


def test_forget__of_an_older_version__changes_nothing() -> None:
    shelf = _shelf()
    shelf.apply(_claim(version=5))
    assert not shelf.forget(_claim(version=4))
    assert shelf.forget(_claim(version=5))
    assert len(shelf) == 0


def test_list__that_is_complete__drops_what_it_lacks_and_takes_another_of_the_same_name() -> None:
    shelf = _shelf()
    shelf.apply(_claim(version=1))
    shelf.apply(_claim("two", version=2))
    shelf.apply(_claim(version=3, uid="uid-2"))
    shelf.complete({KEY}, at=4)
    assert [held.uid for held in shelf] == ["uid-2"]
    assert shelf.get(KEY, uid="uid-1") is None
    assert shelf.synced.is_set()


def test_list__of_a_store_that_was_set_back__counts_alone() -> None:
    shelf = _shelf()
    shelf.apply(_claim(version=100))
    shelf.replace(Listing([_claim("two", version=7)], "8"), newest_before=100)
    assert [held.name for held in shelf] == ["two"]
    assert shelf.newest == 8
