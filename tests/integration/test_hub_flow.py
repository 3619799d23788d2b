"""The hub's whole path of a job against a real API server, with the agent's side played by the test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devkit.rig import Rig
from fallow.resources.ended import Outcome
from integration.hub_process import HubProcess
from integration.scripted_agent import API, GPU, ScriptedAgent, tasks_of, wait_until

Json = dict[str, Any]


@pytest.fixture(scope="module")
def hub(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub process for the module, with short times."""
    log = tmp_path_factory.mktemp("hub") / "hub.log"
    with HubProcess(
        rig,
        log,
        FALLOW_SILENCE__SILENT_SECONDS="3",
    ) as hub:
        yield hub


@pytest.fixture
def agent(rig: Rig, tmp_path: Path) -> Iterator[ScriptedAgent]:
    with ScriptedAgent(rig, f"hub-{uuid.uuid4().hex[:6]}", tmp_path) as agent:
        yield agent


@pytest.fixture
def account(rig: Rig, hub_namespace: str) -> str:
    """A funded ledger account `default` in the test's namespace: spec by the admin, status by the settler."""
    fund(rig, hub_namespace)
    return hub_namespace


def fund(rig: Rig, namespace: str, *, balance: str = "1000", bound: bool = True) -> None:
    path = f"{API}/namespaces/{namespace}/accounts"
    rig.client("hub_admin").post(
        path,
        {
            "apiVersion": "fallow.dev/v1alpha1",
            "kind": "Account",
            "metadata": {"name": "default", "namespace": namespace},
            "spec": {"payer": "0x" + uuid.uuid4().hex + 8 * "0"},
        },
    )
    now = "2026-01-01T00:00:00Z"
    conditions = [
        {
            "type": kind,
            "status": str(bound),
            "reason": "Test",
            "lastTransitionTime": now,
            "message": "said so",
        }
        for kind in ("Bound", "Funded")
    ]
    rig.client("settler").merge(
        f"{path}/default/status", {"status": {"balance": balance, "conditions": conditions}}
    )


class Jobs:
    """What a submitter does and sees in one namespace."""

    def __init__(self, rig: Rig, namespace: str) -> None:
        self._client = rig.client("submitter")
        self._path = f"{API}/namespaces/{namespace}/computejobs"
        self._namespace = namespace

    def submit(self, tasks: int, *, provider: str, gpus: int = 1, **spec: Any) -> str:
        name = f"job-{uuid.uuid4().hex[:8]}"
        resources: Json = {"requests": {"cpu": "1", "memory": "1Gi"}}
        if gpus:
            resources["limits"] = {GPU: gpus}
        container = {"name": "main", "image": "registry.example/x:1", "resources": resources}
        self._client.post(
            self._path,
            {
                "apiVersion": "fallow.dev/v1alpha1",
                "kind": "ComputeJob",
                "metadata": {"name": name, "namespace": self._namespace},
                "spec": {
                    "tasks": tasks,
                    "taskTimeoutSeconds": 600,
                    "requirements": {"providers": [provider]},
                    "template": {"spec": {"containers": [container]}},
                    **spec,
                },
            },
        )
        return name

    def get(self, name: str) -> Json:
        return self._client.get(f"{self._path}/{name}")

    def delete(self, name: str) -> None:
        self._client.delete(f"{self._path}/{name}")

    def change(self, name: str, spec: Json) -> None:
        self._client.merge(f"{self._path}/{name}", {"spec": spec})

    def count(self, name: str, what: str) -> int:
        """Return a count of the status; 0 where the hub has not said anything yet."""
        return int(self.get(name).get("status", {}).get("counts", {}).get(what, 0))

    def condition(self, name: str, kind: str) -> str:
        found = self.get(name).get("status", {}).get("conditions", [])
        return next((str(one["status"]) for one in found if one["type"] == kind), "")

    def message(self, name: str) -> str:
        return str(self.get(name).get("status", {}).get("message", ""))


@pytest.fixture
def jobs(rig: Rig, hub: HubProcess, account: str) -> Jobs:
    return Jobs(rig, account)


def settle(rig: Rig, agent: ScriptedAgent) -> None:
    """Mark all claims of a provider settled, as the settler would."""
    client = rig.client("settler")
    for claim in agent.claims():
        path = f"{API}/namespaces/{agent.namespace}/paymentclaims/{claim['metadata']['name']}/status"
        client.merge(path, {"status": {"state": "Settled", "epoch": 1, "block": 0}})


def test_job__runs_and_succeeds__is_claimed_absorbed_and_settled(
    rig: Rig, agent: ScriptedAgent, jobs: Jobs
) -> None:
    name = jobs.submit(20, provider=agent.name)
    (placement,) = wait_until("a placement", agent.placements)
    # 16 GPUs, so 16 slots; four tasks wait behind them in the same placement.
    assert sum(one["slots"] for one in placement["spec"]["assignments"]) == 16
    assert str(tasks_of(placement)) == "0-19"
    assert all(one["slots"] <= 8 for one in placement["spec"]["assignments"])
    agent.run(placement, running=16)
    wait_until("running", lambda: jobs.count(name, "running") == 16)
    assert jobs.condition(name, "Scheduled") == "True"

    agent.end(agent.placements()[0], seconds=2)
    wait_until("success", lambda: jobs.condition(name, "Succeeded") == "True")
    wait_until("the placement to be absorbed", lambda: not agent.placements())
    (claim,) = agent.claims()
    assert claim["spec"]["seconds"] == 40
    assert len(claim["spec"]["ended"]) == 20
    # 2.00 a GPU, 0.01 a core and 0.001 a GiB: 2.011 an hour, for 40 seconds, rounded down.
    assert claim["spec"]["amount"] == "0.022344"
    wait_until("the job to wait for money", lambda: jobs.condition(name, "Settled") == "False")
    settle(rig, agent)
    wait_until("settled", lambda: jobs.condition(name, "Settled") == "True")
    status = jobs.get(name)["status"]
    assert status["succeededTasks"] == "0-19"
    assert status["cost"] == "0.022344"
    assert status["folded"]["placements"] == "0"
    assert status["counts"] == {"pending": 0, "placed": 0, "running": 0, "succeeded": 20, "failed": 0}
    assert "All 20 tasks succeeded" in status["message"]


def test_tasks__fail_and_are_reclaimed__are_tried_again_elsewhere_in_another_placement(
    agent: ScriptedAgent, jobs: Jobs
) -> None:
    name = jobs.submit(3, provider=agent.name, backoffLimitPerTask=1)
    (first,) = wait_until("a placement", agent.placements)
    agent.end(first, Outcome.FAILED, indexes=[0])
    again = wait_until(
        "task 0 in a placement of its own",
        lambda: [one for one in agent.placements() if one["spec"]["attempt"] == 1],
    )[0]
    assert str(tasks_of(again)) == "0"
    agent.end(again, Outcome.FAILED, words="out of memory")
    # Reclaimed is no failure of the job: however often it happens, it runs again.
    agent.end(agent.placements()[0], Outcome.RECLAIMED, indexes=[1])
    third = wait_until(
        "task 1 in a third placement",
        lambda: [one for one in agent.placements() if one["spec"]["attempt"] == 2],
    )[0]
    agent.end(third)
    first = next(one for one in agent.placements() if one["spec"]["attempt"] == 0)
    agent.end(first)
    wait_until("the end", lambda: jobs.condition(name, "Failed") == "True")
    wait_until("absorption", lambda: not agent.placements())
    wait_until("the status", lambda: jobs.get(name)["status"]["folded"].get("placements") == "0-2")
    status = jobs.get(name)["status"]
    assert status["failedTasks"] == "0"
    assert status["succeededTasks"] == "1-2"
    assert status["failuresByCount"] == [{"count": 2, "tasks": "0"}]
    failed = next(one for one in status["conditions"] if one["type"] == "Failed")
    assert "out of memory" in failed["message"]
    # Both failures of task 0 are paid, the reclaimed attempt is not.
    paid = sorted(text for claim in agent.claims() for text in claim["spec"]["ended"])
    assert paid == ["0:0:1:F:", "0:1:1:F:", "1:2:1:S:", "2:0:1:S:"]
    reasons = {part["reason"] for claim in agent.claims() for part in claim["spec"]["disallowed"]}
    assert reasons == {"Reclaimed"}


def test_job_deleted__placement_runs__is_stopped_and_claimed_up_to_then(
    agent: ScriptedAgent, jobs: Jobs
) -> None:
    name = jobs.submit(2, provider=agent.name)
    (placement,) = wait_until("a placement", agent.placements)
    jobs.delete(name)
    wait_until("Stop", lambda: agent.placements()[0]["spec"]["desired"] == "Stop")
    assert agent.placements()[0]["spec"]["stopReason"] == "JobDeleted"
    agent.end(placement, Outcome.CANCELLED, seconds=1)
    wait_until("the placement to go", lambda: not agent.placements())
    (claim,) = agent.claims()
    assert claim["spec"]["ended"] == ["0:0:1:C:", "1:0:1:C:"]


def test_job_suspended__and_resumed__stops_and_runs_the_rest_again(agent: ScriptedAgent, jobs: Jobs) -> None:
    name = jobs.submit(2, provider=agent.name)
    (placement,) = wait_until("a placement", agent.placements)
    jobs.change(name, {"suspend": True})
    wait_until("Stop", lambda: agent.placements()[0]["spec"]["desired"] == "Stop")
    agent.end(placement, Outcome.CANCELLED)
    wait_until("absorption", lambda: not agent.placements())
    assert "Suspended" in wait_until("the message", lambda: jobs.message(name))
    jobs.change(name, {"suspend": False})
    (placement,) = wait_until("another placement", agent.placements)
    assert placement["spec"]["attempt"] == 1
    agent.end(placement)
    wait_until("success", lambda: jobs.condition(name, "Succeeded") == "True")
    assert jobs.get(name)["status"]["failuresByCount"] == []


def test_provider_silent__for_unreachable_seconds__tasks_run_elsewhere_and_late_results_do_not_count(
    rig: Rig, agent: ScriptedAgent, jobs: Jobs, tmp_path: Path
) -> None:
    with ScriptedAgent(rig, f"hub-{uuid.uuid4().hex[:6]}", tmp_path, gpu_price="9") as other:
        name = jobs.submit(
            2,
            provider=agent.name,
            requirements={"providers": [agent.name, other.name]},
            unreachableSeconds=5,
        )
        (placement,) = wait_until("a placement at the cheaper one", agent.placements)
        agent.run(placement, running=2)
        agent.end(agent.placements()[0], indexes=[0])
        agent.fall_silent()
        (moved,) = wait_until("the unfinished task at the other", other.placements, seconds=30)
        assert str(tasks_of(moved)) == "1"
        assert agent.placements()[0]["spec"]["released"] == "1"
        agent.speak_again()
        # The silent one had finished it all the same: too late, it neither counts nor is paid.
        agent.end(agent.placements()[0], indexes=[1])
        other.end(moved)
        wait_until("success", lambda: jobs.condition(name, "Succeeded") == "True")
        wait_until("absorption", lambda: not agent.placements() and not other.placements())
        assert [claim["spec"]["ended"] for claim in agent.claims()] == [["0:0:1:S:"]]
        assert [claim["spec"]["ended"] for claim in other.claims()] == [["1:1:1:S:"]]


def test_tasks_handed_back__job_keeps_off_the_provider_for_a_while_and_then_tries_again(
    agent: ScriptedAgent, jobs: Jobs
) -> None:
    name = jobs.submit(1, provider=agent.name)
    (placement,) = wait_until("a placement", agent.placements)
    agent.hand_back(placement, "NoRoom")
    wait_until("the reason", lambda: "could not start its tasks" in jobs.message(name))
    again = wait_until(
        "another try", lambda: [one for one in agent.placements() if one["spec"]["attempt"] == 1]
    )[0]
    assert not agent.claims()
    agent.end(again)
    wait_until("success", lambda: jobs.condition(name, "Succeeded") == "True")


def test_provider_removed_and_silent__work_moves_and_what_it_signed_for_is_claimed(
    rig: Rig, agent: ScriptedAgent, jobs: Jobs, tmp_path: Path
) -> None:
    with ScriptedAgent(rig, f"hub-{uuid.uuid4().hex[:6]}", tmp_path, gpu_price="9") as other:
        both = {"providers": [agent.name, other.name]}
        name = jobs.submit(3, provider=agent.name, requirements=both, unreachableSeconds=600)
        (placement,) = wait_until("a placement at the cheaper one", agent.placements)
        agent.end(placement, indexes=[0])
        agent.fall_silent()
        rig.client("hub_admin").merge(f"{API}/providers/{agent.name}", {"spec": {"desired": "Removed"}})
        (moved,) = wait_until("the rest at the other", other.placements)
        assert str(tasks_of(moved)) == "1-2"
        wait_until("the placement there to go", lambda: not agent.placements())
        assert [claim["spec"]["ended"] for claim in agent.claims()] == [["0:0:1:S:"]]
        other.end(moved)
        wait_until("success", lambda: jobs.condition(name, "Succeeded") == "True")


def test_results_inline__are_copied_to_the_jobs_namespace(
    rig: Rig, agent: ScriptedAgent, jobs: Jobs, account: str
) -> None:
    name = jobs.submit(2, provider=agent.name, results="Inline")
    (placement,) = wait_until("a placement", agent.placements)
    agent.end(placement, results={0: "zero", 1: "one"})
    wait_until("absorption", lambda: not agent.placements())
    found = rig.hub_client().get(f"/api/v1/namespaces/{account}/configmaps/{name}-results-0")
    assert found["data"] == {"0": "zero", "1": "one"}
    assert found["metadata"]["ownerReferences"][0]["name"] == name


def test_receipt_of_another_key__is_not_paid(agent: ScriptedAgent, jobs: Jobs) -> None:
    from eth_account import Account as Key

    name = jobs.submit(1, provider=agent.name)
    (placement,) = wait_until("a placement", agent.placements)
    agent.key = Key.create()
    agent.end(placement)
    wait_until("success", lambda: jobs.condition(name, "Succeeded") == "True")
    wait_until("absorption", lambda: not agent.placements())
    assert agent.claims() == []


def test_provider_closed__gets_no_new_work__and_says_so(rig: Rig, agent: ScriptedAgent, jobs: Jobs) -> None:
    agent.close()
    path = f"{API}/providers/{agent.name}"

    def reason() -> str:
        found = rig.hub_client().get(path).get("status", {}).get("conditions", [])
        return next((str(one["reason"]) for one in found if one["type"] == "Schedulable"), "")

    wait_until("Closed", lambda: reason() == "Closed")
    name = jobs.submit(1, provider=agent.name)
    wait_until("the sentence", lambda: "closed" in jobs.message(name))
    assert agent.placements() == []


def test_hub_killed__while_tasks_run__goes_on_without_placing_anything_twice(
    hub: HubProcess, agent: ScriptedAgent, jobs: Jobs
) -> None:
    name = jobs.submit(4, provider=agent.name)
    (placement,) = wait_until("a placement", agent.placements)
    agent.run(placement, running=4)
    hub.kill()
    agent.end(agent.placements()[0], indexes=[0, 1])
    hub.start()
    wait_until("the new hub to follow", lambda: jobs.count(name, "succeeded") == 2, seconds=30)
    assert len(agent.placements()) == 1
    agent.end(agent.placements()[0])
    wait_until("success", lambda: jobs.condition(name, "Succeeded") == "True")
    wait_until("absorption", lambda: not agent.placements())
    assert len(agent.claims()) == 1


def test_account__appears_later__job_is_accepted_then(
    rig: Rig, hub: HubProcess, hub_namespace: str, agent: ScriptedAgent
) -> None:
    jobs = Jobs(rig, hub_namespace)
    name = jobs.submit(1, provider=agent.name)
    wait_until("refusal", lambda: "does not exist" in jobs.message(name))
    assert jobs.condition(name, "Accepted") == "False"
    fund(rig, hub_namespace)
    wait_until("a placement", agent.placements)
    # Written beside it, in the same cycle.
    wait_until("the condition", lambda: jobs.condition(name, "Accepted") == "True")


def test_hub_frozen__longer_than_its_lease__another_leads_and_the_first_follows_when_it_wakes(
    rig: Rig, hub: HubProcess, agent: ScriptedAgent, jobs: Jobs, tmp_path: Path
) -> None:
    path = "/apis/coordination.k8s.io/v1/namespaces/fallow-system/leases/fallow-hub"
    client = rig.hub_client()

    def holder() -> str:
        return str(client.get(path)["spec"].get("holderIdentity") or "")

    first = wait_until("a leader", holder)
    name = jobs.submit(2, provider=agent.name)
    (placement,) = wait_until("a placement", agent.placements)
    with HubProcess(rig, tmp_path / "second.log") as second:
        hub.freeze()
        try:
            wait_until("another leader", lambda: holder() not in ("", first), seconds=30)
            agent.end(placement, indexes=[0])
            wait_until("the second to follow", lambda: jobs.count(name, "succeeded") == 1)
        finally:
            hub.thaw()
        # The first must not act on what it remembers; when the second goes, it leads again.
        other = jobs.submit(1, provider=agent.name)
        wait_until("the other job's placement", lambda: len(agent.placements()) == 2)
        assert second.stop() == 0
    wait_until("a leader", lambda: holder() != "", seconds=30)
    for left in agent.placements():
        agent.end(left)
    wait_until("success", lambda: {jobs.condition(one, "Succeeded") for one in (name, other)} == {"True"})
    wait_until("absorption", lambda: not agent.placements())
    assert len(agent.claims()) == 2


def test_hub__told_to_stop__ends_cleanly_and_gives_its_lease_back(rig: Rig, hub: HubProcess) -> None:
    path = "/apis/coordination.k8s.io/v1/namespaces/fallow-system/leases/fallow-hub"
    client = rig.hub_client()
    wait_until("a leader", lambda: client.get(path)["spec"].get("holderIdentity"), seconds=30)
    assert hub.stop() == 0
    assert not client.get(path)["spec"].get("holderIdentity")
    hub.start()
