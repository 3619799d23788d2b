"""The hub dies at each of its writes, before and after the server had it: the job ends as if it had not.

The hub runs in this process with a client that cuts the line at the n-th write; from the server's side that
is a killed process: no further request comes. A second life then has to bring the job to its end.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devkit.rig import Rig
from fallow.errors import Unavailable
from fallow.hub.app import Hub
from fallow.hub.metrics import HubMetrics
from fallow.kube.client import JSON, ApiServer
from fallow.resources.ended import Ended, Outcome
from fallow.resources.money import format_amount, parse_amount
from fallow.settings import HubSettings
from fallow.telemetry import Telemetry
from integration.scripted_agent import API, HUB_ID, ScriptedAgent, tasks_of
from integration.test_hub_flow import Jobs, fund

DEATHS = tuple(
    (write, number, after)
    for write, most in (
        ("patch computejobs", 2),
        ("create placements", 2),
        ("create paymentclaims", 2),
        ("delete placements", 2),
    )
    for number in range(1, most + 1)
    for after in (False, True)
)
"""At which of its writes a life ends, and whether the server still gets it."""


class MortalApi(ApiServer):
    """A client that dies at the `number`-th write of a kind: nothing gets out after that."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.write, self.number, self.after = "", 0, False
        self.writes = 0
        self.dead = asyncio.Event()

    async def _send(self, method: str, verb: str, resource: Any, path: str, **options: Any) -> Any:
        if self.dead.is_set():
            raise Unavailable("the process is dead")
        counts = f"{verb} {resource.plural}" == self.write
        self.writes += int(counts)
        fatal = counts and self.writes == self.number
        if fatal and not self.after:
            self._die()
        answer = await super()._send(method, verb, resource, path, **options)
        if fatal:
            self._die()
        return answer

    def _die(self) -> None:
        self.dead.set()
        raise Unavailable("the process is dead")


async def live(rig: Rig, *, until: asyncio.Event, death: tuple[str, int, bool] = ("", 0, False)) -> bool:
    """Run one hub until it dies or `until` is set; return whether it died."""
    settings = HubSettings(
        hub_id=HUB_ID,
        kubeconfig=rig.identities["hub"],
        lease={"duration_seconds": 2, "renew_seconds": 0.5},
    )
    async with await MortalApi.connect(settings.kubeconfig, name="hub") as api:
        api.write, api.number, api.after = death
        telemetry = Telemetry("hub")
        hub = Hub(settings, telemetry, HubMetrics(telemetry.registry))
        life = asyncio.create_task(hub.lead_and_follow(api))
        ends = [asyncio.create_task(event.wait()) for event in (api.dead, until)]
        await asyncio.wait([life, *ends], return_when=asyncio.FIRST_COMPLETED, timeout=60)
        for task in (life, *ends):
            task.cancel()
        await asyncio.gather(life, *ends, return_exceptions=True)
        # What the dead leave half open is collected here, not in the middle of something else.
        gc.collect()
        return api.dead.is_set()


class Willing(threading.Thread):
    """An agent that runs whatever it gets: index 0 fails at its first attempt, the rest succeeds."""

    def __init__(self, agent: ScriptedAgent) -> None:
        super().__init__(daemon=True)
        self.agent = agent
        self.stop = threading.Event()
        self.ran: Counter[tuple[str, int, int]] = Counter()

    def run(self) -> None:
        while not self.stop.wait(0.05):
            for placement in self.agent.placements():
                if (placement.get("status") or {}).get("state") == "Finished":
                    continue
                uid, number = placement["spec"]["job"]["uid"], placement["spec"]["attempt"]
                first = not any(job == uid for job, _, _ in self.ran)
                for index in tasks_of(placement):
                    self.ran[(uid, index, number)] += 1
                if first:
                    placement = self.agent.end(placement, Outcome.FAILED, indexes=[0])
                self.agent.end(placement)


@pytest.fixture
def willing(rig: Rig, tmp_path: Path) -> Iterator[Willing]:
    with ScriptedAgent(rig, f"hub-{uuid.uuid4().hex[:6]}", tmp_path) as agent:
        thread = Willing(agent)
        thread.start()
        yield thread
        thread.stop.set()
        thread.join(timeout=10)


def settled_by_hand(rig: Rig, agent: ScriptedAgent) -> None:
    for claim in agent.claims():
        if (claim.get("status") or {}).get("state") != "Settled":
            path = f"{API}/namespaces/{agent.namespace}/paymentclaims/{claim['metadata']['name']}/status"
            rig.client("settler").merge(path, {"status": {"state": "Settled", "block": 0}})


def give_lease_back(rig: Rig) -> None:
    """Spare the next life the wait for the dead one's lease: what it may write is not what is tested here."""
    path = "/apis/coordination.k8s.io/v1/namespaces/fallow-system/leases/fallow-hub"
    rig.hub_client().merge(path, {"spec": {"holderIdentity": ""}})


async def run_to_the_end(rig: Rig, jobs: Jobs, name: str, agent: ScriptedAgent, done: asyncio.Event) -> None:
    while not done.is_set():
        await asyncio.to_thread(settled_by_hand, rig, agent)
        settled = await asyncio.to_thread(jobs.condition, name, "Settled")
        if settled == "True" and not await asyncio.to_thread(agent.placements):
            done.set()
        await asyncio.sleep(0.05)


async def test_hub__dies_at_each_write_in_turn__every_task_runs_and_is_paid_as_if_it_had_not(
    rig: Rig, hub_namespace: str, willing: Willing
) -> None:
    await asyncio.to_thread(fund, rig, hub_namespace)
    jobs = Jobs(rig, hub_namespace)
    agent = willing.agent
    for death in DEATHS:
        name = await asyncio.to_thread(jobs.submit, 4, provider=agent.name)
        done = asyncio.Event()
        watching = asyncio.create_task(run_to_the_end(rig, jobs, name, agent, done))
        assert await live(rig, death=death, until=done), f"it never came to {death}"
        await asyncio.to_thread(give_lease_back, rig)
        await live(rig, until=done)
        assert done.is_set(), f"the job did not end after the hub died: {death}"
        await watching
        await asyncio.to_thread(check, jobs, name, willing)
        await asyncio.to_thread(give_lease_back, rig)


def check(jobs: Jobs, name: str, willing: Willing) -> None:
    job = jobs.get(name)
    uid, status = job["metadata"]["uid"], job["status"]
    assert status["succeededTasks"] == "0-3"
    assert status["failuresByCount"] == [{"count": 1, "tasks": "0"}]
    # I1: each attempt is paid once, each index has one paid success; nothing was run that did not need to.
    claims = [claim for claim in willing.agent.claims() if claim["spec"]["job"]["uid"] == uid]
    ended = [Ended.parse(text) for claim in claims for text in claim["spec"]["ended"]]
    attempts = [(one.index, one.attempt) for one in ended]
    assert len(attempts) == len(set(attempts)) == 5
    assert sorted(one.index for one in ended if one.outcome is Outcome.SUCCEEDED) == [0, 1, 2, 3]
    runs = Counter(index for (job_uid, index, _) in willing.ran if job_uid == uid)
    assert runs == {0: 2, 1: 1, 2: 1, 3: 1}
    assert status["folded"]["claims"] == len(claims) == 2
    assert status["cost"] == _sum(claims)


def _sum(claims: list[JSON]) -> str:
    return format_amount(
        sum(parse_amount(claim["spec"]["amount"], decimals=6) for claim in claims), decimals=6
    )
