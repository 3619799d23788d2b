"""The agent's side of the hub, played by a test: the real identity, the real rights, no member behind it.

It joins (Provider by the hub admin, Quote, ProviderNodes and Lease by the agent), and reports for Placements
whatever the test says, with receipts signed as a real agent signs them.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from eth_account import Account as Key

from devkit.rig import Rig
from devkit.rig.api import ApiError, ApiServer
from devkit.rig.manifests import Manifests, of_provider
from fallow.receipts.statements import sign_quote, sign_receipt, timestamp
from fallow.receipts.typed_data import Domain
from fallow.resources.ended import Ended, Outcome
from fallow.resources.quote import AcceleratorPrice, Prices, QuoteSpec
from fallow.resources.ranges import IndexRanges, parse_optional
from fallow.resources.receipt import SignedReceipt
from fallow.resources.terms import Terms

Json = dict[str, Any]
API = "/apis/fallow.dev/v1alpha1"
HUB_ID = "0x" + 32 * "ab"
GPU = "nvidia.com/gpu"


def wait_until(what: str, done: Callable[[], Any], *, seconds: float = 20.0) -> Any:
    """Return the first true answer; fail with `what` after so long."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            answer = done()
        except ApiError as error:
            if error.status != 429:  # a kind whose storage is still being made ready
                raise
            answer = None
        if answer:
            return answer
        assert time.monotonic() < deadline, f"waited {seconds} s for {what} in vain"
        time.sleep(0.05)


class ScriptedAgent:
    """One provider of `nodes` nodes with 8 GPUs each, with a heartbeat while it is a context manager."""

    def __init__(
        self,
        rig: Rig,
        name: str,
        into: Path,
        *,
        nodes: int = 2,
        gpu_price: str = "2",
        clock_ahead_seconds: int = 0,
    ) -> None:
        self.name = name
        self._clock_ahead_seconds = clock_ahead_seconds
        self.namespace = f"provider-{name}"
        self.key = Key.create()
        self.payee = Key.create().address
        self._rig = rig
        self._nodes = nodes
        self._gpu_price = gpu_price
        self._sequence = 1
        admin = rig.hub_client()
        Manifests(admin).apply(of_provider(name))
        token = admin.post(
            f"/api/v1/namespaces/{self.namespace}/serviceaccounts/agent/token",
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}},
        )["status"]["token"]
        config = json.loads(rig.hub_kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token}
        kubeconfig = into / f"{name}.kubeconfig"
        kubeconfig.write_text(json.dumps(config))
        self.client = ApiServer.from_kubeconfig(kubeconfig)
        self._stop = threading.Event()
        self._silent = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> ScriptedAgent:
        self._rig.client("hub_admin").post(
            f"{API}/providers",
            {
                "apiVersion": "fallow.dev/v1alpha1",
                "kind": "Provider",
                "metadata": {"name": self.name},
                "spec": {
                    "accepted": True,
                    "ownerId": f"owner-{self.name}",
                    "region": "eu",
                    "payee": self.payee,
                    "signer": self.key.address,
                },
            },
        )
        self.client.post(
            f"{API}/namespaces/{self.namespace}/quotes", self._object("Quote", "quote", self.quote())
        )
        for at in range(self._nodes):
            spec = {
                "nodeName": f"{self.name}-{at}",
                "product": "NVIDIA-H100-80GB-HBM3",
                "acceleratorMemoryMiB": 81_559,
                "interconnect": "NVLink",
                "offerable": {
                    "cpuMillicores": 64_000,
                    "memoryMiB": 524_288,
                    "ephemeralStorageMiB": 1_000_000,
                    "pods": 110,
                    "accelerators": {GPU: 8},
                },
            }
            self.client.post(
                f"{API}/namespaces/{self.namespace}/providernodes",
                self._object("ProviderNode", f"{self.name}-{at}", spec),
            )
        self._heart.start()
        # A rig that has just come up still prepares their storage.
        wait_until("placements and claims to be served", lambda: (self.placements(), self.claims()))
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._heart.join(timeout=10)
        admin = self._rig.hub_client()
        admin.delete(f"{API}/providers/{self.name}")
        admin.delete(f"/api/v1/namespaces/{self.namespace}")

    def quote(self, *, closed: bool = False) -> Json:
        """Return this provider's signed terms."""
        spec = QuoteSpec(
            provider=self.name,
            prices=Prices(
                accelerators=(AcceleratorPrice(resource=GPU, price_per_hour=self._gpu_price),),
                cpu_core_hour="0.01",
                memory_gib_hour="0.001",
            ),
            closed=closed,
            image_patterns=("*",),
            accounts_allowed=("*",),
            payee=self.payee,
            signer=self.key.address,
            agent_version="test",
            valid_until=timestamp(self._now() + 3600),
            sequence=self._sequence,
            signature="0x00",
        )
        domain = Domain.of_ledger(bytes.fromhex(HUB_ID[2:]))
        return sign_quote(spec, domain=domain, key=self.key).wire()

    def close(self) -> None:
        """Close the offer with one write."""
        self._sequence += 1
        self.client.merge(
            f"{API}/namespaces/{self.namespace}/quotes/quote", {"spec": self.quote(closed=True)}
        )

    def fall_silent(self) -> None:
        """Stop the heartbeat, as a cut network does."""
        self._silent.set()

    def announce(self, seconds: int) -> None:
        """Say with one last heartbeat that the next may take so long, as before a planned restart."""
        self._silent.set()
        path = f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases/agent"
        self.client.merge(path, {"spec": {"leaseDurationSeconds": seconds, "renewTime": self._micro_now()}})

    def speak_again(self) -> None:
        """Go on with the heartbeat."""
        self._silent.clear()

    def placements(self) -> list[Json]:
        """Return this provider's placements, oldest number first."""
        found = self.client.get(f"{API}/namespaces/{self.namespace}/placements")["items"]
        return sorted(found, key=lambda one: int(one["spec"]["attempt"]))

    def claims(self) -> list[Json]:
        """Return this provider's claims."""
        items: list[Json] = self.client.get(f"{API}/namespaces/{self.namespace}/paymentclaims")["items"]
        return items

    def run(self, placement: Json, *, running: int) -> None:
        """Report that guests run."""
        self._report(placement, {"state": "Running", "running": running})

    def end(
        self,
        placement: Json,
        outcome: Outcome = Outcome.SUCCEEDED,
        *,
        indexes: Iterable[int] | None = None,
        seconds: int = 1,
        words: str = "",
        results: Mapping[int, str] | None = None,
    ) -> Json:
        """Report tasks (by default all that are left) as ended, with a receipt; the last one finishes."""
        number = placement["spec"]["attempt"]
        tasks = tasks_of(placement)
        texts = list((placement.get("status") or {}).get("ended") or ())
        known = {Ended.parse(text).index for text in texts}
        ending = [index for index in (tasks if indexes is None else indexes) if index not in known]
        texts += [str(Ended(index, number, seconds, outcome)) for index in ending]
        status: Json = {
            "ended": texts,
            "running": 0,
            "receipt": self._receipt(placement, texts),
            "state": "Finished" if len(texts) == len(tasks) else "Running",
        }
        if results:
            status["results"] = [{"index": index, "value": value} for index, value in results.items()]
        if words:
            status["lastWords"] = [
                {"index": ending[-1], "outcome": outcome.word, "exitCode": 1, "message": words}
            ]
        return self._report(placement, status)

    def hand_back(self, placement: Json, reason: str) -> None:
        """Hand all tasks back unstarted."""
        back = [{"tasks": str(tasks_of(placement)), "reason": reason}]
        self._report(placement, {"handedBack": back, "state": "Finished"})

    def _receipt(self, placement: Json, texts: list[str]) -> Json:
        before = (placement.get("status") or {}).get("receipt")
        now = self._now()
        return sign_receipt(
            [Ended.parse(text) for text in texts],
            terms=Terms.model_validate(placement["spec"]["terms"]),
            job_uid=placement["spec"]["job"]["uid"],
            placement_uid=placement["metadata"]["uid"],
            previous=SignedReceipt.model_validate(before) if before else None,
            period=(now - 1, now),
            key=self.key,
        ).wire()

    def _report(self, placement: Json, status: Json) -> Json:
        name = placement["metadata"]["name"]
        path = f"{API}/namespaces/{self.namespace}/placements/{name}/status"
        return self.client.merge(path, {"status": status})

    def _beat(self) -> None:
        path = f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases"
        lease: Json = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": "agent", "namespace": self.namespace},
            "spec": {"holderIdentity": self.name, "leaseDurationSeconds": 20, "renewTime": self._micro_now()},
        }
        self.client.post(path, lease)
        while not self._stop.wait(0.5):
            if not self._silent.is_set():
                self.client.merge(f"{path}/agent", {"spec": {"renewTime": self._micro_now()}})

    def _now(self) -> int:
        return int(time.time()) + self._clock_ahead_seconds

    def _micro_now(self) -> str:
        now = datetime.now(UTC) + timedelta(seconds=self._clock_ahead_seconds)
        return now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def _object(self, kind: str, name: str, spec: Json) -> Json:
        return {
            "apiVersion": "fallow.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": spec,
        }


def tasks_of(placement: Json) -> IndexRanges:
    """Return all tasks of a placement."""
    tasks = IndexRanges()
    for one in placement["spec"]["assignments"]:
        tasks |= parse_optional(one["tasks"])
    return tasks
