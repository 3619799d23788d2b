"""A bad agent floods the hub, or fills its namespace: nobody else notices.

The hub's API server has few seats here and deals them out by priority and fairness (as after
`hack/rig up --fairness`). The flood is made with the credentials of aurora's agent, while that agent is dead.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from devkit.rig import ApiError, ApiServer, Rig, default_members, up
from devkit.rig.manifests import Manifests, of_provider
from devkit.scenario.submitting import GROUP, Json, a_job, condition, submit, wait_for

FLOODERS = 60
"""Connections that all send at once: as many as the API server has seats for everybody."""
LEASE = "/apis/coordination.k8s.io/v1/namespaces/fallow-system/leases/fallow-hub"
INSIDE = f"{GROUP}/namespaces/provider-aurora"
QUOTA = "/api/v1/namespaces/provider-aurora/resourcequotas/fallow-agent"
NODES = "count/providernodes.fallow.dev"


@pytest.fixture(scope="module")
def fair_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Two members in ledger mode; aurora's agent is killed once all is up."""
    members = default_members(2, nodes=2, gpus_per_node=8)
    with up(tmp_path_factory.mktemp("fair"), members=members, payments="ledger", fairness=True) as rig:
        rig.processes.kill(rig.fallow["agent-aurora"])
        yield rig


def _bad_agent(rig: Rig) -> ApiServer:
    return ApiServer.from_kubeconfig(rig.members["aurora"].agent_hub_kubeconfig)


def _a_node(name: str) -> Json:
    return {
        "apiVersion": "fallow.dev/v1alpha1",
        "kind": "ProviderNode",
        "metadata": {"name": name},
        "spec": {"nodeName": name, "product": "H100", "offerable": {"pods": 1}},
    }


@contextmanager
def _flood(rig: Rig, send: Callable[[ApiServer, int], None]) -> Iterator[list[int]]:
    """Send as fast as answers come, over many connections; yields what was answered so far, by status."""
    over, answers = threading.Event(), [0, 0]

    def sender(number: int) -> None:
        while not over.is_set():
            try:
                with _bad_agent(rig).kept_open() as client:
                    while not over.is_set():
                        try:
                            send(client, number)
                            answers[0] += 1
                        except ApiError:
                            answers[1] += 1
            except (OSError, http.client.HTTPException):
                continue

    threads = [threading.Thread(target=sender, args=(number,)) for number in range(FLOODERS)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _a_job_for_borealis(rig: Rig) -> Json:
    return submit(rig, a_job(8, run_seconds=1, requirements={"providers": ["borealis"]}))


def _succeeds(rig: Rig, job: Json) -> Json:
    done = lambda now: condition(now, "Succeeded") == "True"  # noqa: E731
    return wait_for(rig, job, done, seconds=120, what="to succeed in spite of the flood")


FLOODS: dict[str, Callable[[ApiServer, int], None]] = {
    "its own quote written again and again": lambda client, number: _ignore(
        client.merge(f"{INSIDE}/quotes/quote", {"metadata": {"annotations": {f"f{number}": "x" * 2000}}})
    ),
    "its lease renewed without a pause": lambda client, number: _ignore(
        client.merge(
            "/apis/coordination.k8s.io/v1/namespaces/provider-aurora/leases/agent",
            {"spec": {"holderIdentity": f"flooder-{number}"}},
        )
    ),
    "lists of everything it may see": lambda client, _: _ignore(client.get(f"{INSIDE}/providernodes")),
}


def _ignore(_answer: object) -> None:
    pass


@pytest.mark.parametrize("kind", FLOODS)
def test_flood__an_agent_sends_as_fast_as_it_can__then_others_jobs_finish_and_no_lease_is_lost(
    fair_rig: Rig, kind: str
) -> None:
    rig = fair_rig
    admin = rig.hub_client()
    before = admin.get(LEASE)["spec"]
    with _flood(rig, FLOODS[kind]) as answers:
        admin.until("the flood", lambda: sum(answers) > 200, seconds=60)
        job = _succeeds(rig, _a_job_for_borealis(rig))
    after = admin.get(LEASE)["spec"]
    assert (after["holderIdentity"], after["leaseTransitions"]) == (
        before["holderIdentity"],
        before["leaseTransitions"],
    ), "the hub lost its lease"
    assert after["renewTime"] > before["renewTime"]
    assert job["status"].get("failuresByCount", []) == []
    log = rig.processes.log_of(rig.fallow["hub"]).read_text()
    silent = [line for line in log.splitlines() if "provider is silent" in line and "borealis" in line]
    assert not silent, "an honest agent's heartbeat did not land"


def _counted(admin: ApiServer, what: str) -> str | None:
    status = admin.get(QUOTA).get("status") or {}
    return (status.get(what) or {}).get(NODES)


def test_quota__an_agent_creates_object_after_object__then_it_is_stopped_and_others_are_unhurt(
    fair_rig: Rig,
) -> None:
    rig = fair_rig
    admin, bad = rig.hub_client(), _bad_agent(rig)
    there = len(bad.get(f"{INSIDE}/providernodes")["items"])
    Manifests(rig.client("hub_admin")).apply(of_provider("aurora", quota=True))
    rig.client("hub_admin").merge(QUOTA, {"spec": {"hard": {NODES: str(there + 3)}}})
    # The quota controller learns of a new kind only now and then.
    admin.until(
        "the quota to be counted",
        lambda: (_counted(admin, "hard"), _counted(admin, "used")) == (str(there + 3), str(there)),
        seconds=300,
    )
    refused = []
    for number in range(6):
        try:
            bad.post(f"{INSIDE}/providernodes", _a_node(f"made-up-{number}"))
        except ApiError as error:
            refused.append((error.status, "exceeded quota" in str(error)))
    assert refused == [(403, True)] * 3
    with pytest.raises(ApiError, match="an agent has one Lease"):
        bad.post(
            "/apis/coordination.k8s.io/v1/namespaces/provider-aurora/leases",
            {"metadata": {"name": "one-more"}, "spec": {}},
        )
    _succeeds(rig, _a_job_for_borealis(rig))
