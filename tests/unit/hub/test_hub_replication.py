"""Replicated jobs from placements: what is opened, judged, paid and counted, and in which order."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fallow.hub import claims, records
from fallow.hub.fates import Circumstances, Fate, Step, fate
from fallow.hub.folding import Folded, Paid, absorb, read_folded, standing, write_folded
from fallow.hub.openings import fingerprint
from fallow.hub.placements import Placed, read
from fallow.hub.replication import judged, standing_of, undecided_in
from fallow.resources.ended import Ended, Outcome
from fallow.resources.ranges import EMPTY, IndexRanges
from fallow.resources.reveal import Reveal
from fallow.scheduler.replication import Rules
from unit.hub.builders import CREATED_UNIX, GPU, a_placement, ended, ranges

RULES = Rules(copies=3, extra=2, owners=3)
TRUTH, LIE = b"t" * 32, b"l" * 32


def a_copy(
    number: int,
    *,
    owner: str,
    tasks: str = "0-1",
    results: dict[int, bytes] | None = None,
    asked: str = "",
    opens: dict[int, bytes] | None = None,
    state: str = "Running",
    more: tuple[str, ...] = (),
    **fields: Any,
) -> Placed:
    """A placement of one copy: `results` it committed to, `opens` what it says of them when asked."""
    obj = a_placement(tasks, number=number, provider=owner, state=state, **fields)
    uid = obj["metadata"]["uid"] = f"00000000-0000-0000-0000-{number:012d}"
    done = []
    for index, digest in (results or {}).items():
        commitment = Reveal(index, b"s" * 16, digest).commitment(uid) if digest else b""
        done.append(Ended(index, number, 10, Outcome.SUCCEEDED, commitment))
    obj["status"]["ended"] = [*(str(one) for one in done), *more]
    told = {index: digest for index, digest in (results or {}).items() if index in ranges(asked)}
    told |= opens or {}
    obj["status"]["reveals"] = [str(Reveal(index, b"s" * 16, digest)) for index, digest in told.items()]
    obj["spec"]["reveal"] = asked
    obj["spec"]["commitments"] = fingerprint(done, ranges(asked))
    obj["spec"]["terms"] |= {"replicas": 5, "replica": number, "ownerId": f"owner-{owner}"}
    return read(obj, request=((GPU, 1), ("pods", 1)))


def where(live: list[Placed], folded: Folded | None = None) -> Any:
    folded = folded or Folded()
    plain = standing(folded, [(one, Paid()) for one in live], tasks=2, backoff_limit=2)
    after = judged(folded, live, RULES, tasks=ranges("0-1"), failed=plain.failed)
    return after, standing_of(plain, after, live, RULES, tasks=ranges("0-1"))


def all_three(asked: str = "", **results: dict[int, bytes]) -> list[Placed]:
    said = {"a": {0: TRUTH, 1: TRUTH}, "b": {0: TRUTH, 1: TRUTH}, "c": {0: TRUTH, 1: TRUTH}} | results
    return [a_copy(n, owner=owner, results=said[owner], asked=asked) for n, owner in enumerate("abc")]


def test_standing__when_results_are_sealed__then_nothing_is_done_and_all_may_be_opened() -> None:
    _, now = where(all_three())
    assert now.held == ranges("0-1")
    assert not now.succeeded
    assert now.opening == {0: ranges("0-1"), 1: ranges("0-1"), 2: ranges("0-1")}
    assert not now.wants


def test_standing__when_a_copy_is_missing__then_nothing_may_be_opened_and_it_is_wanted() -> None:
    _, now = where(all_three()[:2])
    assert not now.opening
    assert [(want.lane, str(want.tasks), want.owners) for want in now.wants] == [
        (2, "0-1", frozenset({"owner-a", "owner-b"}))
    ]


def test_judged__when_all_opened_the_same__then_all_have_succeeded() -> None:
    folded, now = where(all_three(asked="0-1"))
    assert folded.succeeded == now.succeeded == ranges("0-1")
    assert now.complete


def test_judged__when_one_says_otherwise__then_it_dissents() -> None:
    folded, _ = where(all_three(asked="0-1", c={0: TRUTH, 1: LIE}))
    assert folded.succeeded == ranges("0-1")
    assert folded.dissent == {2: ranges("1")}


def test_judged__when_there_is_no_majority__then_the_task_has_failed_and_stays_so() -> None:
    folded, now = where(all_three(asked="0-1", b={0: TRUTH, 1: LIE}, c={0: TRUTH, 1: b"x" * 32}))
    assert folded.split == ranges("1")
    assert (now.succeeded, now.failed, now.complete) == (ranges("0"), ranges("1"), True)


def test_votes__when_the_opening_does_not_fit__then_it_is_a_vote_for_nothing() -> None:
    liar = a_copy(2, owner="c", results={0: TRUTH, 1: TRUTH}, asked="0-1", opens={1: LIE})
    assert liar.votes == {0: TRUTH, 1: b""}
    folded, _ = where([*all_three(asked="0-1")[:2], liar])
    assert folded.dissent == {2: ranges("1")}


def test_votes__when_a_commitment_was_exchanged_after_the_hub_asked__then_none_of_it_counts() -> None:
    obj = a_placement("0", state="Running")
    uid = obj["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000"
    first, second = (Reveal(0, b"s" * 16, digest) for digest in (LIE, TRUTH))
    pinned = fingerprint([Ended(0, 0, 10, Outcome.SUCCEEDED, first.commitment(uid))], ranges("0"))
    obj["spec"] |= {"reveal": "0", "commitments": pinned}
    obj["spec"]["terms"] |= {"replicas": 3}
    obj["status"]["ended"] = [str(Ended(0, 0, 10, Outcome.SUCCEEDED, second.commitment(uid)))]
    obj["status"]["reveals"] = [str(second)]
    assert read(obj, request=()).votes == {0: b""}


def test_votes__when_the_agent_finished_without_opening__then_it_voted_for_nothing() -> None:
    done = a_copy(0, owner="a", results={0: TRUTH}, tasks="0", state="Finished")
    assert done.votes == {0: b""}
    assert not done.held


def test_verdicts__written_and_read_back__are_the_same() -> None:
    folded, _ = where(all_three(asked="0-1", b={0: TRUTH, 1: LIE}, c={0: LIE, 1: b"x" * 32}))
    status = {"folded": write_folded(folded, settled_claims=0, decimals=6)}
    assert read_folded(status, decimals=6) == folded


def test_fate__when_finished_and_undecided__then_waits_for_the_verdict_to_be_written() -> None:
    done = all_three(asked="0-1")[0]
    assert undecided_in(done, Folded(), EMPTY) == ranges("0-1")
    over = a_copy(0, owner="a", results={0: TRUTH}, tasks="0", asked="0", state="Finished")
    assert fate(over, Circumstances("Present", owes=True, undecided=True)) == Fate(Step.NONE)
    assert fate(over, Circumstances("Present", owes=True)).step is Step.CLAIM


def test_fate__when_all_have_committed__then_asks_once_to_open() -> None:
    sealed = all_three()[0]
    assert fate(sealed, Circumstances("Present", opening=ranges("0-1"))) == Fate(
        Step.REVEAL, tasks=ranges("0-1")
    )
    asked = a_copy(0, owner="a", results={0: TRUTH, 1: TRUTH}, asked="0-1")
    assert fate(asked, Circumstances("Present", opening=ranges("0-1"))) == Fate(Step.NONE)


def test_fate__when_a_result_is_withheld__then_the_task_is_taken_away() -> None:
    sealed = all_three()[0]
    assert fate(sealed, Circumstances("Present", withheld=ranges("1"))) == Fate(
        Step.RELEASE, tasks=ranges("1")
    )


def test_assess__when_a_copy_dissents__then_that_task_is_not_paid() -> None:
    liar = a_copy(2, owner="c", results={0: TRUTH, 1: LIE}, asked="0-1", state="Finished")
    found = claims.assess(
        liar,
        now=CREATED_UNIX + 60,
        failure_seconds_left=0,
        elsewhere=claims.Elsewhere(disagreed=ranges("1")),
    )
    assert [one.index for one in found.paid] == [0]
    assert [one.index for one in found.disallowed["Disagreed"]] == [1]


def test_absorb__of_a_copy__then_adds_no_success_of_its_own() -> None:
    done = a_copy(0, owner="a", results={0: TRUTH, 1: TRUTH}, asked="0-1", state="Finished")
    folded = absorb(Folded(succeeded=ranges("0"), dissent={0: EMPTY}), done, Paid())
    assert folded.succeeded == ranges("0")
    assert folded.shares["a"].succeeded == 1


def test_tally__of_a_copy__then_counts_what_was_confirmed_and_contradicted() -> None:
    done = a_copy(
        2, owner="c", tasks="0-3", results={0: TRUTH, 1: LIE}, asked="0-1", more=(ended(2, "R", attempt=2),)
    )
    found = records.tally(done, Folded(succeeded=ranges("0-1"), dissent={2: ranges("1")}))
    assert (found.agreed, found.disagreed, found.reclaimed) == (1, 1, 1)


def test_records__when_a_placement_is_counted_twice__then_it_is_in_the_record_once() -> None:
    desk, found = records.Records(), records.Tally(disagreed=2)
    liar = a_copy(2, owner="c", results={0: LIE}, asked="0")
    provider: dict[str, Any] = {"status": {}}
    for _ in range(2):
        assert not desk.counted(liar.provider, liar.name, found, provider)
    record = desk.next_record("c", provider["status"], is_there=lambda name: True)
    provider["status"]["record"] = record
    assert (record["disagreed"], record["counted"]) == (2, [liar.name])
    again = records.Records()  # another process, before the placement is deleted
    assert again.counted(liar.provider, liar.name, found, provider)
    after = again.next_record("c", provider["status"], is_there=lambda name: False)
    assert (after["disagreed"], "counted" in after) == (2, False)


@given(st.lists(st.sampled_from([TRUTH, LIE, b""]), min_size=3, max_size=3), st.permutations([0, 1, 2]))
def test_judged__whatever_they_say__then_only_a_majority_succeeds_and_order_is_no_matter(
    said: list[bytes], order: list[int]
) -> None:
    live = [a_copy(n, owner="abc"[n], tasks="0", results={0: said[n]}, asked="0") for n in order]
    plain = standing(Folded(), [(one, Paid()) for one in live], tasks=1, backoff_limit=2)
    folded = judged(Folded(), live, RULES, tasks=ranges("0"), failed=plain.failed)
    agree = max((said.count(one) for one in said if one), default=0)
    assert (folded.succeeded == ranges("0")) == (agree >= 2)
    assert folded.succeeded | folded.split == IndexRanges.span(0, 1)
    assert judged(folded, live, RULES, tasks=ranges("0"), failed=EMPTY) == folded, "a verdict is for good"
