"""The next step of a placement, for every circumstance."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.hub.fates import Circumstances, Fate, Step, fate
from fallow.hub.placements import Placed
from unit.hub.builders import ended, placed, ranges

PRESENT = Circumstances(job="Present")
RUNNING = placed("0-3", reports=[ended(0)])
FINISHED = placed("0", reports=[ended(0)], state="Finished")

CASES: dict[str, tuple[Placed, Circumstances, Fate]] = {
    "runs and nothing is the matter": (RUNNING, PRESENT, Fate(Step.NONE)),
    "finished and owed: claim first": (FINISHED, replace(PRESENT, owes=True), Fate(Step.CLAIM)),
    "claimed: absorb": (FINISHED, replace(PRESENT, owes=True, claimed=True), Fate(Step.ABSORB)),
    "nothing owed: absorb": (FINISHED, PRESENT, Fate(Step.ABSORB)),
    "inline results: copied before absorption": (
        FINISHED,
        replace(PRESENT, has_results=True),
        Fate(Step.RESULTS),
    ),
    "inline results of a job that is gone: nobody reads them": (
        FINISHED,
        Circumstances(job="Gone", has_results=True),
        Fate(Step.DELETE),
    ),
    "absorbed: delete": (FINISHED, replace(PRESENT, absorbed=True), Fate(Step.DELETE)),
    "job gone: stop": (RUNNING, Circumstances(job="Gone"), Fate(Step.STOP, stop_reason="JobDeleted")),
    "job gone, stopped already: wait": (
        placed(desired="Stop", stop_reason="JobDeleted"),
        Circumstances(job="Gone"),
        Fate(Step.NONE),
    ),
    "job gone, finished, owed: still claimed": (
        FINISHED,
        Circumstances(job="Gone", owes=True),
        Fate(Step.CLAIM),
    ),
    "job gone, finished, claimed: delete, there is nothing to absorb into": (
        FINISHED,
        Circumstances(job="Gone", owes=True, claimed=True),
        Fate(Step.DELETE),
    ),
    "suspended: stop": (
        RUNNING,
        Circumstances(job="Suspended"),
        Fate(Step.STOP, stop_reason="JobSuspended"),
    ),
    "complete elsewhere: stop": (
        RUNNING,
        Circumstances(job="Complete"),
        Fate(Step.STOP, stop_reason="JobFinished"),
    ),
    "complete, and all that is open was taken away before: the agent stops it anyway": (
        placed("0-1", released="0-1"),
        Circumstances(job="Complete"),
        Fate(Step.NONE),
    ),
    "provider lost: take the unfinished away": (
        RUNNING,
        replace(PRESENT, provider_lost=True),
        Fate(Step.RELEASE, tasks=ranges("1-3")),
    ),
    "provider lost, taken away already: wait for its return": (
        placed("0-1", released="0-1"),
        replace(PRESENT, provider_lost=True, provider_silent=True),
        Fate(Step.NONE),
    ),
    "gang at a lost provider: whole": (
        placed("0-3", gang=True, reports=[ended(0)]),
        replace(PRESENT, provider_lost=True),
        Fate(Step.RELEASE, tasks=ranges("0-3")),
    ),
    "provider removed: take the unfinished away": (
        RUNNING,
        replace(PRESENT, provider_removed=True, provider_silent=True),
        Fate(Step.RELEASE, tasks=ranges("1-3")),
    ),
    "provider removed and silent: claim what its last receipt covers": (
        placed("0-3", reports=[ended(0)], released="1-3"),
        replace(PRESENT, provider_removed=True, provider_silent=True, owes=True),
        Fate(Step.CLAIM),
    ),
    "provider removed but heard: wait for its own report": (
        placed("0-3", reports=[ended(0)], released="1-3"),
        replace(PRESENT, provider_removed=True, owes=True),
        Fate(Step.NONE),
    ),
    "provider and job gone: no longer waited for": (
        placed("0-3", desired="Stop", stop_reason="JobDeleted"),
        Circumstances(job="Gone", provider_removed=True, provider_silent=True),
        Fate(Step.DELETE),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_fate(case: str) -> None:
    one, given_, want = CASES[case]
    assert fate(one, given_) == want


circumstances = st.builds(
    Circumstances,
    job=st.sampled_from(("Present", "Suspended", "Complete", "Gone")),
    provider_lost=st.booleans(),
    provider_removed=st.booleans(),
    provider_silent=st.booleans(),
    owes=st.booleans(),
    claimed=st.booleans(),
    absorbed=st.booleans(),
    has_results=st.booleans(),
)
some_placed = st.builds(
    placed,
    st.just("0-3"),
    reports=st.lists(st.sampled_from([ended(n, o) for n in range(4) for o in "SFRC"]), max_size=4),
    released=st.sampled_from(("", "0", "1-3", "0-3")),
    state=st.sampled_from(("Running", "Finished")),
    gang=st.booleans(),
)


@given(some_placed, circumstances)
def test_fate__anything__is_never_deleted_while_something_is_owed_or_not_absorbed(
    one: Placed, given_: Circumstances
) -> None:
    step = fate(one, given_).step
    if step is Step.DELETE:
        assert given_.claimed or not given_.owes
        assert given_.absorbed or given_.job == "Gone"
    if step is Step.ABSORB:
        assert given_.claimed or not given_.owes


@given(some_placed, circumstances)
def test_fate__release__takes_only_what_has_not_ended(one: Placed, given_: Circumstances) -> None:
    decided = fate(one, given_)
    if decided.step is Step.RELEASE and not one.gang:
        assert not decided.tasks & one.gone
        assert not decided.tasks & one.released
