"""A holder trusts its lease less long than others do, whatever happens to its clock or process."""

from __future__ import annotations

from typing import Any

from fallow.kube.lease import Term


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def lease(version: int, *, holder: str = "other", seconds: int = 15) -> dict[str, Any]:
    spec = {"holderIdentity": holder, "leaseDurationSeconds": seconds, "leaseTransitions": 3}
    return {"metadata": {"resourceVersion": str(version)}, "spec": spec}


def test_may_write__never_held__no() -> None:
    assert not Term(duration_seconds=15, steady=Clock()).may_write()


def test_may_write__process_frozen_past_its_deadline__no_although_it_was_told_nothing() -> None:
    clock = Clock()
    term = Term(duration_seconds=15, steady=clock)
    term.held(4, asked_at=clock.now)
    clock.now += 14.9
    assert term.may_write()
    clock.now += 0.1
    assert not term.may_write()
    assert term.number == 4


def test_may_write__slow_answer_to_a_renewal__counts_from_when_it_was_sent() -> None:
    clock = Clock()
    term = Term(duration_seconds=15, steady=clock)
    asked_at = clock.now
    clock.now += 10  # the answer took this long; the server may have written at once
    term.held(4, asked_at=asked_at)
    clock.now += 5
    assert not term.may_write()


def test_may_write__lost__no_at_once() -> None:
    clock = Clock()
    term = Term(duration_seconds=15, steady=clock)
    term.held(4, asked_at=clock.now)
    term.lost()
    assert not term.may_write()


def test_expired__just_seen__no_however_old_its_own_times_are() -> None:
    assert not Term(duration_seconds=15, steady=Clock()).expired(lease(1))


def test_expired__unchanged_for_its_whole_duration__yes() -> None:
    clock = Clock()
    term = Term(duration_seconds=15, steady=clock)
    assert not term.expired(lease(1, seconds=20))
    clock.now += 19.9  # the lease's own duration counts, not what this process would announce
    assert not term.expired(lease(1, seconds=20))
    clock.now += 0.1
    assert term.expired(lease(1, seconds=20))


def test_expired__renewed_meanwhile__counts_anew() -> None:
    clock = Clock()
    term = Term(duration_seconds=15, steady=clock)
    term.expired(lease(1))
    clock.now += 14
    assert not term.expired(lease(2))
    clock.now += 14
    assert not term.expired(lease(2))


def test_expired__given_back__yes_at_once() -> None:
    assert Term(duration_seconds=15, steady=Clock()).expired(lease(1, holder=""))


def test_two_processes__one_freezes__never_may_both_write() -> None:
    clock = Clock()
    old, new = (Term(duration_seconds=15, steady=clock) for _ in range(2))
    both = []
    for tenth in range(400):
        clock.now = 100 + tenth / 10
        if tenth % 30 == 0 and tenth <= 60:  # renews at 0, 3 and 6 s, then it is frozen
            old.held(1, asked_at=clock.now)
        version = min(tenth, 60) // 30
        if not new.may_write() and new.expired(lease(version, holder="old")):
            new.held(2, asked_at=clock.now)
        both.append((old.may_write(), new.may_write()))
    assert (True, True) not in both
    assert (False, True) in both
    assert (True, False) in both
