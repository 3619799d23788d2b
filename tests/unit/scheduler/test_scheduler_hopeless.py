"""Jobs without hope are taken out early, and that changes nothing but the time it takes."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

from hypothesis import given, settings

from fallow.scheduler.cycle import schedule
from fallow.scheduler.hopeless import Hopeless
from fallow.scheduler.snapshot import Snapshot
from unit.scheduler.test_scheduler_properties import snapshots


@settings(max_examples=150, deadline=None)
@given(snapshots())
def test_schedule__with_and_without_looking_for_hopeless_jobs__decides_and_says_the_same(
    snapshot: Snapshot,
) -> None:
    # One account: with several, who else waits decides how large a turn is, and the hopeless do not wait.
    snapshot = replace(snapshot, jobs=tuple(replace(job, account="") for job in snapshot.jobs))
    with patch.object(Hopeless, "takes", lambda _self, _job: False):
        slowly = schedule(snapshot)
    assert schedule(snapshot) == slowly
