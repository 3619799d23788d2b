"""A Placement's work, read back from the record of it."""

from __future__ import annotations

from typing import Any

import pytest

from fallow.agent.record_writes import guest_set_spec
from fallow.agent.work import read_guest_set
from unit.agent.some_work import some_work


@pytest.mark.parametrize("kept_as", ["text", "placement"])
def test_record__of_this_agent_or_one_before__gives_the_work_back(kept_as: str) -> None:
    work = some_work({"n1": (2, "0-3"), "n2": (1, "4")})
    spec: dict[str, Any] = guest_set_spec(work, gone_at=None)
    assert "placement" not in spec
    if kept_as == "placement":
        del spec["text"]
        spec["placement"] = {**work.spec.wire(), "template": work.spec.template.wire()}
    found = read_guest_set({"metadata": {"creationTimestamp": "2026-01-31T12:00:00Z"}, "spec": spec})
    assert (found.uid, found.tasks, found.spec) == (work.uid, work.tasks, work.spec)
