"""A hub starts where 10,000 jobs, 1000 providers and 5,000 placements already are, and has to decide.

The bench writes all of that straight into the hub's API server, as if a hub had died in the middle of work:
half of the jobs run (one placement each, by the dead hub), the other half waits, and each provider has a node
of eight accelerators. Then one hub starts. Its first decision is the first new placement in the API server;
what ran before must be left alone. Nobody renews the agents' leases, so the look ends before their silence
would mean anything.
FALLOW_BENCH_JOBS, FALLOW_BENCH_PROVIDERS and FALLOW_BENCH_PLACEMENTS change the sizes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eth_account import Account as Key

from devkit.errors import DevkitError
from devkit.rig import ApiServer, Rig, default_members, up
from devkit.scenario.submitting import GROUP, JOBS, Json, a_job
from fallow.receipts.statements import sign_quote, timestamp
from fallow.receipts.typed_data import Domain
from fallow.resources import naming
from fallow.resources.quote import AcceleratorPrice, Prices, QuoteSpec

CONNECTIONS = 8
WATCHED_SECONDS = 15.0
"""How long the hub is looked at after its first decision: less than the silence that means something."""
LIMIT_SECONDS = 300.0
HUB_ID = "0x" + 32 * "cd"
ZERO = "0x" + 40 * "0"
GPU = "nvidia.com/gpu"
LEASES = "/apis/coordination.k8s.io/v1"
PRICE = "2.021000"


def run() -> dict[str, Any]:
    """Fill a hub's API server, start a hub, and look."""
    jobs = int(os.environ.get("FALLOW_BENCH_JOBS") or 10_000)
    providers = int(os.environ.get("FALLOW_BENCH_PROVIDERS") or max(1, jobs // 10))
    placements = int(os.environ.get("FALLOW_BENCH_PLACEMENTS") or jobs // 2)
    members = default_members(1, nodes=1, gpus_per_node=1)
    with (
        tempfile.TemporaryDirectory(prefix="fallow-bench-") as directory,
        up(Path(directory), members=members, with_fallow=False) as rig,
    ):
        started = time.monotonic()
        running = _Fleet(rig, providers).fill(jobs, placements)
        filled = time.monotonic() - started
        return {
            "jobs": jobs,
            "providers": providers,
            "placements": placements,
            "seconds_to_fill": round(filled, 1),
            **_measure(rig, running),
        }


def _measure(rig: Rig, running: set[str]) -> dict[str, Any]:
    """Start a hub and watch what it does; `running` are the UIDs of jobs with a placement."""
    client = rig.hub_client()
    path = f"{GROUP}/placements"
    position = client.get(path, limit="1")["metadata"]["resourceVersion"]
    log = rig.state / "logs" / "restarted-hub.log"
    with log.open("wb") as out:
        started = time.monotonic()
        hub = subprocess.Popen(
            [str(Path(sys.executable).with_name("fallow")), "hub"],
            env=_environ(rig),
            stdout=out,
            stderr=out,
        )
        try:
            decided = _first_new(client, path, position, hub) - started
            time.sleep(WATCHED_SECONDS)
            status = Path(f"/proc/{hub.pid}/status").read_text()
            fields = Path(f"/proc/{hub.pid}/stat").read_text().rpartition(")")[2].split()
            cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        finally:
            hub.kill()
            hub.wait()
    peak = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    assert peak is not None
    seen = client.get(path)["items"]
    again = [one for one in seen if one["spec"]["attempt"] > 0 and one["spec"]["job"]["uid"] in running]
    moved = [one for one in seen if one["spec"].get("released") or one["spec"]["desired"] != "Run"]
    return {
        "seconds_to_first_decision": round(decided, 2),
        "peak_rss_mb": round(int(peak[1]) / 1024, 1),
        "redispatched_tasks": len(again) + len(moved),
        "placed_in_the_first_seconds": len(seen) - len(running),
        "cpu_seconds": round(cpu, 2),
    }


def _first_new(client: ApiServer, path: str, position: str, hub: subprocess.Popen[bytes]) -> float:
    """Return when the first new placement was seen."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        for event in client.watch(path, resourceVersion=position, timeoutSeconds="20"):
            position = event["object"]["metadata"]["resourceVersion"]
            if event["type"] == "ADDED":
                return time.monotonic()
        if hub.poll() is not None:
            raise DevkitError(f"The hub ended with status {hub.returncode}.")
    raise DevkitError(f"The hub decided nothing in {LIMIT_SECONDS:.0f} s.")


def _environ(rig: Rig) -> dict[str, str]:
    kept = ("PATH", "HOME", "TMPDIR", "LANG", "VIRTUAL_ENV")
    return {key: os.environ[key] for key in kept if key in os.environ} | {
        "FALLOW_HUB_ID": HUB_ID,
        "FALLOW_KUBECONFIG": str(rig.identities["hub"]),
    }


class _Fleet:
    """Writes the objects, as the administrator, over several connections."""

    def __init__(self, rig: Rig, providers: int) -> None:
        self._client = rig.hub_client()
        self._names = [f"p{number:04}" for number in range(providers)]
        self._key = Key.create()
        self._account: Json = {"payer": Key.create().address}
        self._quotes = {name: self._quote(name) for name in self._names}

    def fill(self, jobs: int, placements: int) -> set[str]:
        """Write providers, jobs and placements; return the UIDs of jobs with a placement."""
        # The dead hub's Lease, which it gave back: without one the policy on terms refuses every placement.
        self._client.post(
            f"{LEASES}/namespaces/{naming.SYSTEM_NAMESPACE}/leases",
            {"metadata": {"name": "fallow-hub"}, "spec": {"leaseDurationSeconds": 15, "leaseTransitions": 1}},
        )
        self._fund()
        self._each(self._names, self._provider)
        uids: dict[int, str] = {}

        def submit(client: ApiServer, number: int) -> None:
            job = a_job(1, run_seconds=3600)
            job["metadata"]["name"] = f"job-{number:05}"
            uids[number] = client.post(JOBS, job)["metadata"]["uid"]

        self._each(range(jobs), submit)
        self._each(range(placements), lambda client, number: self._placement(client, number, uids[number]))
        return {uids[number] for number in range(placements)}

    def _each(self, items: Sequence[Any], act: Callable[[ApiServer, Any], None]) -> None:
        def share(first: int) -> None:
            with self._client.kept_open() as client:
                for item in items[first::CONNECTIONS]:
                    act(client, item)

        with ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(share, range(CONNECTIONS)))

    def _fund(self) -> None:
        path = f"{GROUP}/namespaces/default/accounts/default"
        self._client.apply(path, _thing("Account", "default", self._account))
        now = timestamp(int(time.time()))
        conditions = [
            {"type": kind, "status": "True", "reason": "Bench", "message": "", "lastTransitionTime": now}
            for kind in ("Bound", "Funded")
        ]
        self._client.merge(f"{path}/status", {"status": {"balance": "1000000000", "conditions": conditions}})

    def _provider(self, client: ApiServer, name: str) -> None:
        namespace = naming.provider_namespace(name)
        client.post("/api/v1/namespaces", {"metadata": {"name": namespace}})
        spec = {
            "accepted": True,
            "ownerId": f"owner-{name}",
            "region": "eu",
            "payee": self._key.address,
            "signer": self._key.address,
        }
        client.post(f"{GROUP}/providers", _thing("Provider", name, spec))
        inside = f"{GROUP}/namespaces/{namespace}"
        client.post(f"{inside}/quotes", _thing("Quote", "quote", self._quotes[name]))
        offerable = {
            "cpuMillicores": 64_000,
            "memoryMiB": 524_288,
            "ephemeralStorageMiB": 1_000_000,
            "pods": 110,
            "accelerators": {GPU: 8},
        }
        node = {"nodeName": f"{name}-0", "product": "NVIDIA-H100-80GB-HBM3", "offerable": offerable}
        client.post(f"{inside}/providernodes", _thing("ProviderNode", f"{name}-0", node))
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        lease = {"metadata": {"name": "agent"}, "spec": {"leaseDurationSeconds": 20, "renewTime": now}}
        client.post(f"{LEASES}/namespaces/{namespace}/leases", lease)

    def _quote(self, name: str) -> Json:
        spec = QuoteSpec(
            provider=name,
            prices=Prices(
                accelerators=(AcceleratorPrice(resource=GPU, price_per_hour="2"),),
                cpu_core_hour="0.01",
                memory_gib_hour="0.001",
            ),
            image_patterns=("*",),
            accounts_allowed=("*",),
            payee=self._key.address,
            signer=self._key.address,
            valid_until=timestamp(int(time.time()) + 36_000),
            sequence=1,
            signature="0x00",
        )
        domain = Domain.of_ledger(bytes.fromhex(HUB_ID[2:]))
        return sign_quote(spec, domain=domain, key=self._key).wire()

    def _placement(self, client: ApiServer, number: int, uid: str) -> None:
        """Write a running placement of job `number`, and its job's status, as a hub before left them."""
        provider = self._names[number % len(self._names)]
        name, namespace = f"job-{number:05}", naming.provider_namespace(provider)
        placed = _thing("Placement", naming.placement_name(uid, 0), self._terms(provider, name, uid))
        placed["metadata"]["labels"] = {
            naming.LABEL_JOB_UID: uid,
            naming.LABEL_JOB_NAME: name,
            naming.LABEL_JOB_NAMESPACE: "default",
        }
        path = f"{GROUP}/namespaces/{namespace}/placements"
        client.post(path, placed)
        client.merge(
            f"{path}/{placed['metadata']['name']}/status", {"status": {"state": "Running", "running": 1}}
        )
        accepted = {
            "type": "Accepted",
            "status": "True",
            "reason": "Accepted",
            "message": "The hub takes this job.",
            "lastTransitionTime": timestamp(int(time.time())),
        }
        client.merge(
            f"{JOBS}/{name}/status", {"status": {"placementsReserved": 65, "conditions": [accepted]}}
        )

    def _terms(self, provider: str, name: str, uid: str) -> Json:
        return {
            "job": {"namespace": "default", "name": name, "uid": uid},
            "attempt": 0,
            "term": 1,
            "template": a_job(1, run_seconds=3600)["spec"]["template"],
            "assignments": [{"node": f"{provider}-0", "slots": 1, "tasks": "0"}],
            "desired": "Run",
            "results": "Digest",
            "terms": {
                "hubId": HUB_ID,
                "chainId": 0,
                "escrow": ZERO,
                "token": ZERO,
                "tokenDecimals": 6,
                "accountNamespace": "default",
                "accountName": "default",
                "account": self._account,
                "provider": provider,
                "ownerId": f"owner-{provider}",
                "quote": self._quotes[provider],
                "pricePerTaskHour": PRICE,
                "billing": "PerTask",
                "taskTimeoutSeconds": 600,
                "replicas": 1,
                "backoffLimitPerTask": 0,
                "paidFailureSeconds": 0,
            },
        }


def _thing(kind: str, name: str, spec: Json) -> Json:
    return {
        "apiVersion": "fallow.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }
