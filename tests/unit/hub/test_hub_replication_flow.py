"""A replicated job through whole cycles of the hub, against the agents' own code, without any server."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import pytest

from fallow.agent.outcomes import Ending
from fallow.agent.reporting import recorded, report
from fallow.agent.work import read_placement
from fallow.hub.carrying import claim_key, job_key, provider_key
from fallow.hub.cycle import Cycle
from fallow.receipts.statements import timestamp
from fallow.resources.ended import Ended, Outcome
from fallow.resources.placement import Progress
from fallow.resources.quote import AcceleratorPrice, Prices
from unit.hub.builders import CREATED, CREATED_UNIX, GPU, a_job
from unit.hub.desks import a_desk, a_lease, an_account, answer
from unit.hub.test_hub_providers import KEY, a_provider, a_quote

JSON = dict[str, Any]
UID = "0f0f0f0f-0000-4000-8000-000000000000"


class World:
    """Providers, a job, and agents that end every task with the result that their owner gives it."""

    def __init__(self, results: dict[str, str], *, copies: int) -> None:
        self.results = results
        self.desk, self.outbox, self.time = a_desk()
        self.records: dict[str, Progress] = {}
        self.version = 100
        self.desk.view.accounts.apply(an_account())
        for name in results:
            self._join(name)
        self.cycle = Cycle(self.desk)
        self.job = a_job(tasks=2, verification={"type": "Replicate", "copies": copies})
        self.job["metadata"]["uid"] = UID
        self.desk.view.jobs.apply(self.job)
        self.told: set[str] = set()
        self.claimed: list[JSON] = []

    def _join(self, name: str) -> None:
        view, namespace = self.desk.view, f"provider-{name}"
        provider = a_provider(ownerId=f"owner-{name}")
        provider["metadata"] = {"name": name, "uid": name, "resourceVersion": "5", "generation": 1}
        view.providers.apply(provider)
        quote = a_quote(
            provider=name,
            prices=Prices(accelerators=(AcceleratorPrice(price_per_hour="2"),)),
            image_patterns=("*",),
            accounts_allowed=("*",),
            valid_until=timestamp(CREATED_UNIX + 10_000),
            replicate=True,
        )
        quote["metadata"] |= {"name": "quote", "namespace": namespace, "uid": f"q-{name}"}
        view.quotes.apply(quote)
        offerable = {"cpuMillicores": 64_000, "memoryMiB": 64_000, "ephemeralStorageMiB": 64_000, "pods": 10}
        node = {"nodeName": "n0", "product": "H100", "offerable": {**offerable, "accelerators": {GPU: 8}}}
        meta = {"name": "n0", "namespace": namespace, "uid": f"n-{name}", "resourceVersion": "5"}
        view.nodes.apply({"metadata": meta, "spec": node})
        lease = a_lease("5")
        lease["metadata"] |= {"namespace": namespace, "uid": f"l-{name}"}
        view.leases.apply(lease)

    def run(self, steps: int = 24) -> JSON:
        """Let everybody take their turns; returns the job as it is then."""
        for step in range(steps):
            self.time.passed = step * 2.0
            self._heartbeats()
            self.cycle.run()
            self._answer_the_hub()
            self._agents()
        return self.job

    def _heartbeats(self) -> None:
        for name in self.results:
            lease = a_lease(self._next())
            lease["metadata"] |= {"namespace": f"provider-{name}", "uid": f"l-{name}"}
            self.desk.view.leases.apply(lease)

    def _answer_the_hub(self) -> None:
        view, outbox = self.desk.view, self.outbox
        for obj in outbox.placements:
            number = obj["spec"]["attempt"]
            meta = {
                **obj["metadata"],
                "uid": f"{number:08d}-0000-4000-8000-000000000000",
                "creationTimestamp": CREATED,
                "generation": 1,
                "resourceVersion": self._next(),
            }
            view.placements.apply({**obj, "metadata": meta, "status": {}})
        outbox.placements.clear()
        for claim in outbox.claims:
            outbox.under_way.discard(claim_key(claim["spec"]["placement"]["uid"]))
            meta = {**claim["metadata"], "uid": claim["metadata"]["name"], "resourceVersion": self._next()}
            meta["creationTimestamp"] = CREATED
            view.claims.apply({**claim, "metadata": meta, "status": {"state": "Settled", "block": 1}})
            self.claimed.append(claim)
        outbox.claims.clear()
        if job_key(UID) in outbox.under_way:
            self.job = answer(self.desk, outbox, self.job, outbox.jobs[-1], key=job_key(UID), view="jobs")
        for name in self.results:
            if provider_key(name) in outbox.under_way:
                key, before = provider_key(name), view.providers.get(name)
                assert before is not None
                answer(self.desk, outbox, before, outbox.of_provider[name], key=key, view="providers")
        for placed, change in outbox.changes:
            known = view.placements.get(placed.name, namespace=placed.namespace)
            assert known is not None
            meta = {**known["metadata"], "resourceVersion": self._next()}
            meta["generation"] += 1
            view.placements.apply({**known, "metadata": meta, "spec": {**known["spec"], **change}})
        outbox.changes.clear()
        for name in outbox.deleted:
            for obj in [one for one in view.placements if one["metadata"]["name"] == name]:
                view.placements.forget(obj)
        outbox.deleted.clear()
        outbox.under_way.clear()

    def _agents(self) -> None:
        view = self.desk.view
        for obj in list(view.placements):
            work = read_placement({**obj, "spec": {**obj["spec"]}})
            record = self.records.get(work.uid)
            if record is None:
                provider = work.namespace.removeprefix("provider-")
                record = recorded(
                    Progress(),
                    endings=[self._ending(index, work.spec.attempt, provider) for index in work.tasks],
                    returned=(),
                    work=work,
                    key=KEY,
                )
                self.records[work.uid] = record
            now = datetime.fromtimestamp(CREATED_UNIX + int(self.time.passed), UTC)
            before = obj.get("status") or {}
            status = report(work, record, running=0, waiting=0, refusal=None, before=before, now=now)
            if status != before:
                meta = {**obj["metadata"], "resourceVersion": self._next()}
                view.placements.apply({**obj, "metadata": meta, "status": status})

    def _ending(self, index: int, attempt: int, provider: str) -> Ending:
        result = self.results[provider]
        digest = hashlib.sha256(f"{result} {index}".encode()).digest() if result else b""
        began = datetime.fromtimestamp(CREATED_UNIX, UTC)
        return Ending(
            ended=Ended(index, attempt, 3, Outcome.SUCCEEDED, digest),
            began_at=began,
            ended_at=began,
            result=result,
        )

    def _next(self) -> str:
        self.version += 1
        return str(self.version)

    def paid(self) -> dict[int, set[str]]:
        """Return by index the owners of paid successes."""
        owners: dict[int, set[str]] = {}
        for claim in self.claimed:
            for one in map(Ended.parse, claim["spec"]["ended"]):
                owner = claim["spec"]["terms"]["ownerId"].removeprefix("owner-")
                assert owner not in owners.setdefault(one.index, set()), "an owner is paid twice for an index"
                owners[one.index].add(owner)
        return owners


def conditions(job: JSON) -> dict[str, str]:
    return {one["type"]: one["status"] for one in job["status"]["conditions"]}


def test_flow__when_all_agree__then_each_owner_is_paid_once_and_nothing_is_left() -> None:
    world = World({"a": "yes", "b": "yes", "c": "yes"}, copies=3)
    job = world.run()
    assert conditions(job)["Succeeded"] == "True"
    assert conditions(job)["Settled"] == "True"
    assert world.paid() == {0: {"a", "b", "c"}, 1: {"a", "b", "c"}}
    assert list(world.desk.view.placements) == []
    record = world.desk.view.providers.get("a")["status"]["record"]  # type: ignore[index]
    assert (record["agreed"], record["disagreed"]) == (2, 0)


def test_flow__when_one_of_two_lies__then_a_third_decides_and_the_lie_is_recorded_and_not_paid() -> None:
    world = World({"a": "no", "b": "yes", "c": "yes"}, copies=2)
    job = world.run()
    assert job["status"]["succeededTasks"] == "0-1"
    assert world.paid() == {0: {"b", "c"}, 1: {"b", "c"}}
    record = world.desk.view.providers.get("a")["status"]["record"]  # type: ignore[index]
    assert (record["agreed"], record["disagreed"]) == (0, 2)


@pytest.mark.parametrize("results", [{"a": "x", "b": "y", "c": "z"}, {"a": "", "b": "", "c": ""}])
def test_flow__when_there_is_no_majority__then_all_are_paid_and_the_job_says_so(
    results: dict[str, str],
) -> None:
    world = World(results, copies=3)
    job = world.run()
    assert conditions(job)["NonDeterministic"] == "True"
    assert conditions(job)["Failed"] == "True"
    assert job["status"]["failedTasks"] == "0-1"
    assert world.paid() == {0: {"a", "b", "c"}, 1: {"a", "b", "c"}}


def test_flow__when_there_are_too_few_owners__then_nothing_starts_and_it_says_why() -> None:
    world = World({"a": "yes", "b": "yes"}, copies=3)
    job = world.run(steps=5)
    assert job["status"]["counts"]["pending"] == 2
    assert "3 more copies need as many owners; 2 others take part" in job["status"]["message"]
    assert world.records == {}
