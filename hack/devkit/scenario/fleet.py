"""A large fleet as objects alone: providers, jobs and placements written straight into a hub's API server."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eth_account import Account as Key

from devkit.rig import ApiServer, Rig
from devkit.scenario.submitting import GROUP, JOBS, Json, a_job
from fallow.receipts.statements import sign_quote, timestamp
from fallow.receipts.typed_data import Domain
from fallow.resources import naming
from fallow.resources.quote import AcceleratorPrice, Prices, QuoteSpec

CONNECTIONS = 8
HUB_ID = "0x" + 32 * "cd"
ZERO = "0x" + 40 * "0"
GPU = "nvidia.com/gpu"
LEASES = "/apis/coordination.k8s.io/v1"
PRICE = "2.021000"


def hub_command() -> list[str]:
    """Return the command of a hub of this checkout."""
    return [str(Path(sys.executable).with_name("fallow")), "hub"]


def hub_environ(rig: Rig) -> dict[str, str]:
    """Return the environment of a hub for such a fleet."""
    kept = ("PATH", "HOME", "TMPDIR", "LANG", "VIRTUAL_ENV")
    return {key: os.environ[key] for key in kept if key in os.environ} | {
        "FALLOW_HUB_ID": HUB_ID,
        "FALLOW_KUBECONFIG": str(rig.identities["hub"]),
    }


class Fleet:
    """Writes the objects of a fleet, as the administrator, over several connections."""

    def __init__(self, rig: Rig, providers: int) -> None:
        self._client = rig.hub_client()
        self.names = [f"p{number:04}" for number in range(providers)]
        self._key = Key.create()
        self._account: Json = {"payer": Key.create().address}
        self._quotes = {name: self._quote(name) for name in self.names}

    def fill(self, jobs: int, placements: int) -> set[str]:
        """Write providers, jobs and placements; return the UIDs of jobs with a placement."""
        # The dead hub's Lease, which it gave back: without one the policy on terms refuses every placement.
        self._client.post(
            f"{LEASES}/namespaces/{naming.SYSTEM_NAMESPACE}/leases",
            {"metadata": {"name": "fallow-hub"}, "spec": {"leaseDurationSeconds": 15, "leaseTransitions": 1}},
        )
        self._fund()
        self._each(self.names, self._provider)
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
        client.post(f"{inside}/providernodes", _thing("ProviderNode", f"{name}-0", _node(name, gpus=8)))
        lease = {
            "metadata": {"name": "agent"},
            "spec": {"leaseDurationSeconds": 20, "renewTime": _micro_now()},
        }
        client.post(f"{LEASES}/namespaces/{namespace}/leases", lease)

    def beat(self) -> None:
        """Renew every agent's Lease once."""

        def renew(client: ApiServer, name: str) -> None:
            path = f"{LEASES}/namespaces/{naming.provider_namespace(name)}/leases/agent"
            client.merge(path, {"spec": {"renewTime": _micro_now()}})

        self._each(self.names, renew)

    def grow(self, name: str, *, gpus: int) -> None:
        """Let a provider's node offer so many accelerators."""
        path = f"{GROUP}/namespaces/{naming.provider_namespace(name)}/providernodes/{name}-0"
        self._client.merge(path, {"spec": _node(name, gpus=gpus)})

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
        provider = self.names[number % len(self.names)]
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


def _node(name: str, *, gpus: int) -> Json:
    offerable = {
        "cpuMillicores": 64_000,
        "memoryMiB": 524_288,
        "ephemeralStorageMiB": 1_000_000,
        "pods": 110,
        "accelerators": {GPU: gpus},
    }
    return {"nodeName": f"{name}-0", "product": "NVIDIA-H100-80GB-HBM3", "offerable": offerable}


def _micro_now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _thing(kind: str, name: str, spec: Json) -> Json:
    return {
        "apiVersion": "fallow.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }
