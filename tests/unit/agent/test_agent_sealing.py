"""Results of replicated tasks: what is committed to, what is told before the hub asks, what after."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from fallow.agent.reporting import recorded, report
from fallow.agent.work import Work
from fallow.errors import EndedError
from fallow.receipts.statements import check_receipt
from fallow.resources.ended import Ended
from fallow.resources.placement import PlacementStatus, Progress
from fallow.resources.reveal import Reveal
from unit.agent.guest_pods import UID, at
from unit.agent.some_work import KEY, some_work
from unit.agent.test_agent_reporting import an_ending

DIGEST = hashlib.sha256(b"42").digest()


def work_of(**fields: Any) -> Work:
    return some_work({"n1": (2, "0-1")}, terms={"replicas": 3, "replica": 1}, **fields)


def a_record(work: Work) -> Progress:
    endings = [an_ending(0, message="42"), an_ending(1, code=1, message="broken")]
    return recorded(Progress(), endings=endings, returned=(), work=work, key=KEY)


def told(work: Work, progress: Progress) -> PlacementStatus:
    said = report(work, progress, running=0, waiting=0, refusal=None, before={}, now=at(60))
    return PlacementStatus.model_validate({k: v for k, v in said.items() if k != "conditions"})


def test_recorded__when_replicated__then_says_a_commitment_and_keeps_what_opens_it() -> None:
    work = work_of()
    progress = a_record(work)
    said = Ended.parse(progress.ended[0])
    assert said.digest not in (DIGEST, b"")
    (reveal,) = map(Reveal.parse, progress.reveals)
    assert reveal.digest == DIGEST
    assert reveal.commitment(UID) == said.digest
    assert Ended.parse(progress.ended[1]).digest == hashlib.sha256(b"broken").digest(), "failures do not vote"


def test_recorded__when_replicated__then_the_receipt_covers_the_commitment() -> None:
    work = work_of()
    progress = a_record(work)
    assert progress.receipt is not None
    ended = [Ended.parse(text) for text in progress.ended]
    check_receipt(
        progress.receipt, ended, terms=work.spec.terms, job_uid=work.spec.job.uid, placement_uid=work.uid
    )


def test_recorded__when_done_twice_by_two_processes__then_the_commitment_is_the_same() -> None:
    assert a_record(work_of()).ended == a_record(work_of()).ended


def test_report__before_the_hub_asks__then_hides_the_result_and_is_not_finished() -> None:
    status = told(work_of(results="Inline"), a_record(work_of(results="Inline")))
    assert status.reveals == ()
    assert status.results == ()
    assert status.state == "Running"


def test_report__when_the_hub_asked__then_opens_and_is_finished() -> None:
    work = work_of(reveal="0", results="Inline")
    status = told(work, a_record(work))
    assert Reveal.parse(status.reveals[0]).digest == DIGEST
    assert [one.value for one in status.results] == ["42"]
    assert status.state == "Finished"


def test_report__when_the_task_was_released__then_nobody_will_ask_and_it_is_finished() -> None:
    work = work_of(released="0")
    assert told(work, a_record(work)).state == "Finished"


def test_report__when_not_replicated__then_is_finished_as_ever() -> None:
    work = some_work({"n1": (2, "0-1")})
    progress = a_record(work)
    assert progress.reveals == ()
    assert told(work, progress).state == "Finished"


def test_commitment__of_another_placement_or_index__is_another() -> None:
    reveal = Reveal(3, b"s" * 16, DIGEST)
    other = "11111111-2222-3333-4444-555555555555"
    same = {reveal.commitment(UID), reveal.commitment(other), Reveal(4, b"s" * 16, DIGEST).commitment(UID)}
    assert len(same) == 3


def test_reveal__largest__fits_its_bound_and_comes_back() -> None:
    text = str(Reveal(2**31 - 1, b"\xff" * 16, b"\xff" * 32))
    assert len(text) <= 80
    assert str(Reveal.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "0:short:short", "01:" + 22 * "A" + ":" + 43 * "A", "0:" + 22 * "_" + ":" + 43 * "A"]
)
def test_reveal__what_is_not_canonical__is_refused(text: str) -> None:
    with pytest.raises(EndedError):
        Reveal.parse(text)
