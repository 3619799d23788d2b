"""Who is gone and who only seems so: many at once, a planned restart, clocks that disagree."""

from __future__ import annotations

import functools
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devkit.rig import Rig
from integration.hub_process import HubProcess
from integration.scripted_agent import API, ScriptedAgent, tasks_of, wait_until
from integration.test_hub_flow import Jobs, fund

HOLD_SECONDS = 12
"""How long the hub of these tests moves nothing when it suspects itself."""


@pytest.fixture(scope="module")
def hub(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    log = tmp_path_factory.mktemp("hub") / "hub.log"
    with HubProcess(
        rig,
        log,
        FALLOW_SILENCE__SILENT_SECONDS="3",
        FALLOW_SILENCE__MASS_SILENCE_HOLD_SECONDS=str(HOLD_SECONDS),
    ) as hub:
        yield hub


@pytest.fixture
def jobs(rig: Rig, hub: HubProcess, hub_namespace: str) -> Jobs:
    fund(rig, hub_namespace)
    return Jobs(rig, hub_namespace)


def an_agent(rig: Rig, into: Path, **more: Any) -> ScriptedAgent:
    return ScriptedAgent(rig, f"hub-{uuid.uuid4().hex[:6]}", into, **more)


def reachable(rig: Rig, agent: ScriptedAgent) -> dict[str, str]:
    status = rig.hub_client().get(f"{API}/providers/{agent.name}").get("status") or {}
    return next((one for one in status.get("conditions") or () if one["type"] == "Reachable"), {})


def _is_heard(rig: Rig, agent: ScriptedAgent) -> bool:
    return reachable(rig, agent).get("status") == "True"


def test_mass_silence__two_of_three_at_once__moves_nothing_for_the_hold_and_then_as_usual(
    rig: Rig, jobs: Jobs, tmp_path: Path
) -> None:
    with (
        an_agent(rig, tmp_path) as first,
        an_agent(rig, tmp_path, gpu_price="5") as second,
        an_agent(rig, tmp_path, gpu_price="9") as third,
    ):
        for one in (second, third):
            heard = functools.partial(_is_heard, rig, one)
            wait_until("the others to be heard", heard)
        name = jobs.submit(
            1,
            provider=first.name,
            requirements={"providers": [first.name, third.name]},
            unreachableSeconds=5,
        )
        (placement,) = wait_until("a placement at the cheapest", first.placements)
        first.run(placement, running=1)
        fell_silent = time.monotonic()
        first.fall_silent()
        second.fall_silent()
        wait_until(
            "the hub to suspect itself",
            lambda: "suspects itself" in reachable(rig, first).get("message", ""),
            seconds=60,
        )
        assert not first.placements()[0]["spec"].get("released")
        (moved,) = wait_until("the task at the third", third.placements, seconds=90)
        assert time.monotonic() - fell_silent >= HOLD_SECONDS, "moved although the hub suspected itself"
        assert first.placements()[0]["spec"]["released"] == "0"
        assert str(tasks_of(moved)) == "0"
        third.end(moved)
        wait_until("success", lambda: jobs.condition(name, "Succeeded") == "True")


def test_planned_restart__announced_with_the_last_heartbeat__is_no_silence(
    rig: Rig, jobs: Jobs, tmp_path: Path
) -> None:
    with an_agent(rig, tmp_path) as planned, an_agent(rig, tmp_path) as crashed:
        names = {}
        for agent in (planned, crashed):
            names[agent] = jobs.submit(1, provider=agent.name, unreachableSeconds=5)
            (placement,) = wait_until("a placement", agent.placements)
            agent.run(placement, running=1)
        planned.announce(120)
        crashed.fall_silent()
        wait_until(
            "the crashed one's task to be taken away",
            lambda: crashed.placements()[0]["spec"].get("released") == "0",
            seconds=60,
        )
        assert reachable(rig, crashed)["status"] == "False"
        assert reachable(rig, planned)["status"] == "True"
        assert not planned.placements()[0]["spec"].get("released")
        planned.speak_again()
        planned.end(planned.placements()[0])
        wait_until("success", lambda: jobs.condition(names[planned], "Succeeded") == "True")


@pytest.mark.parametrize("ahead", [-1800, 1800])
def test_clock__of_a_member_half_an_hour_off__nobody_is_silent_for_it_and_work_is_paid(
    rig: Rig, jobs: Jobs, tmp_path: Path, ahead: int
) -> None:
    with an_agent(rig, tmp_path, clock_ahead_seconds=ahead) as agent:
        name = jobs.submit(2, provider=agent.name)
        (placement,) = wait_until("a placement", agent.placements)
        assert reachable(rig, agent).get("status") == "True"
        agent.end(placement)
        wait_until("success", lambda: jobs.condition(name, "Succeeded") == "True")
        claims = wait_until("a claim", agent.claims)
        assert [claim["spec"]["ended"] for claim in claims] == [["0:0:1:S:", "1:0:1:S:"]]
