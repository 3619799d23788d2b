"""A hub played by hand: a real agent process on a real member, and Placements written as the hub would.

The agent's tests need to say exactly what a hub says, when it says it, and to look at the member's API server
rather than at the agent's word. Nothing of `fallow.hub` runs here.
"""

from __future__ import annotations

import itertools
import os
import secrets
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from devkit.rig import Rig
from devkit.rig.api import ApiError, Json
from devkit.rig.keys import new_key, new_key_file
from fallow.receipts.pricing import price_per_task_hour
from fallow.receipts.requests import effective_requests
from fallow.receipts.statements import check_receipt, unit_prices
from fallow.resources.account import AccountSpec
from fallow.resources.base import JobRef
from fallow.resources.ended import Ended
from fallow.resources.money import format_amount
from fallow.resources.naming import placement_name, uid16
from fallow.resources.offer import CAGE_CHECKS, OfferSpec
from fallow.resources.placement import Assignment, PlacementSpec
from fallow.resources.quote import AcceleratorPrice, Prices, QuoteSpec
from fallow.resources.ranges import IndexRanges
from fallow.resources.receipt import SignedReceipt
from fallow.resources.template import Template
from fallow.resources.terms import TaskRequests, Terms

API = "/apis/fallow.dev/v1alpha1"
ZERO_ADDRESS = "0x" + 40 * "0"
DECIMALS = 6


class ByHand:
    """The hub's side and the owner's side of one member, and its agent's process."""

    def __init__(self, rig: Rig, member: str, state: Path) -> None:
        self.rig = rig
        self.member_name = member
        self.hub = rig.hub_client()
        self.member = rig.members[member].client()
        self.namespace = f"{API}/namespaces/provider-{member}"
        self.hub_id = "0x" + secrets.token_hex(32)
        self.signer = new_key_file(state, "signer")
        self.payee = new_key().address
        self.payer = new_key().address
        self.log = state / "agent.log"
        self._numbers = itertools.count()
        self._agent: subprocess.Popen[bytes] | None = None
        # The policy on terms looks at the hub's Lease; no leader here ever changes it.
        self.hub.apply(
            "/apis/coordination.k8s.io/v1/namespaces/fallow-system/leases/fallow-hub",
            {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": "fallow-hub"},
                "spec": {"leaseTransitions": 0},
            },
        )

    # ------------------------------------------------------------ the agent's process

    def start_agent(self, **settings: str) -> None:
        """Start the agent; its quote and nodes are waited for by who needs them."""
        plane = self.rig.members[self.member_name]
        kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "TMPDIR", "LANG", "VIRTUAL_ENV")}
        environ = {
            **kept,
            "FALLOW_HUB_ID": self.hub_id,
            "FALLOW_KUBECONFIG": str(plane.agent_kubeconfig),
            "FALLOW_HUB_KUBECONFIG": str(plane.agent_hub_kubeconfig),
            "FALLOW_PROVIDER": self.member_name,
            "FALLOW_PAYEE": self.payee,
            "FALLOW_SIGNER__KEYSTORE": str(self.signer.keystore),
            "FALLOW_SIGNER__PASSWORD_FILE": str(self.signer.password_file),
            "FALLOW_LOG_FORMAT": "console",
            **settings,
        }
        command = [str(Path(sys.executable).with_name("fallow")), "agent"]
        with self.log.open("ab") as log:
            self._agent = subprocess.Popen(command, env=environ, stdout=log, stderr=log)

    def kill_agent(self) -> None:
        """End the agent at whatever instruction it is."""
        assert self._agent is not None
        self._agent.send_signal(signal.SIGKILL)
        self._agent.wait(timeout=10)
        self._agent = None

    def stop_agent(self) -> int:
        """End the agent as a planned restart does; returns its exit status."""
        if self._agent is None:
            return 0
        self._agent.send_signal(signal.SIGTERM)
        status = self._agent.wait(timeout=30)
        self._agent = None
        return status

    @property
    def agent_runs(self) -> bool:
        """Whether the agent's process is there."""
        return self._agent is not None and self._agent.poll() is None

    # ------------------------------------------------------------ the owner

    def offer(self, **fields: Any) -> None:
        """Make the Offer say this: everything to everybody, but for `fields`."""
        spec = OfferSpec(
            **{
                "prices": Prices(accelerators=(AcceleratorPrice(price_per_hour="2"),), cpu_core_hour="0.01"),
                "images": ("*",),
                "accounts_allowed": ("*",),
                "accept_unproven": CAGE_CHECKS,
                **fields,
            }
        ).wire()
        try:
            self.member.get(f"{API}/offers/default")
        except ApiError:
            self.member.post(
                f"{API}/offers",
                {
                    "apiVersion": "fallow.dev/v1alpha1",
                    "kind": "Offer",
                    "metadata": {"name": "default"},
                    "spec": spec,
                },
            )
        else:
            self.member.merge(f"{API}/offers/default", {"spec": spec})

    def quote(self) -> QuoteSpec:
        """Return the agent's Quote as it stands."""
        return QuoteSpec.model_validate(self.hub.get(f"{self.namespace}/quotes/quote")["spec"])

    def until_quoted(self, wanted: Callable[[QuoteSpec], bool] = lambda quote: not quote.closed) -> QuoteSpec:
        """Wait for a Quote that satisfies `wanted`."""
        until("the Quote", lambda: wanted(self.quote()), missing_ok=True)
        return self.quote()

    # ------------------------------------------------------------ the hub

    def place(
        self,
        assignments: Mapping[str, tuple[int, str]],
        *,
        gpus: int = 1,
        annotations: Mapping[str, str] | None = None,
        timeout_seconds: int = 3600,
        attempt: int | None = None,
        terms: Mapping[str, Any] | None = None,
        **spec: Any,
    ) -> str:
        """Create a Placement: node → (slots, tasks); returns its name. `terms` replaces fields of them."""
        number = next(self._numbers) if attempt is None else attempt
        job_uid = str(uuid.uuid4())
        container: Json = {"name": "main", "image": "registry.example/task:1"}
        if gpus:
            container["resources"] = {"limits": {"nvidia.com/gpu": str(gpus)}}
        template = Template.model_validate(
            {"metadata": {"annotations": dict(annotations or {})}, "spec": {"containers": [container]}}
        )
        name = placement_name(job_uid, number)
        wanted = PlacementSpec(
            job=JobRef(namespace="default", name="by-hand", uid=job_uid),
            attempt=number,
            term=0,
            template=template,
            assignments=tuple(
                Assignment(node=node, slots=slots, tasks=tasks)
                for node, (slots, tasks) in assignments.items()
            ),
            terms=self._terms(template, timeout_seconds, terms or {}),
            **spec,
        )
        wire = wanted.wire()
        wire["template"] = template.wire()
        self.hub.post(
            f"{self.namespace}/placements",
            {
                "apiVersion": "fallow.dev/v1alpha1",
                "kind": "Placement",
                "metadata": {"name": name},
                "spec": wire,
            },
        )
        return name

    def _terms(self, template: Template, timeout_seconds: int, changes: Mapping[str, Any]) -> Terms:
        quote = self.until_quoted()
        requests = effective_requests(template.wire()["spec"])
        prices = unit_prices(
            quote.prices, resources=requests.devices, product="NVIDIA-H100-80GB-HBM3", decimals=DECIMALS
        )
        fields: dict[str, Any] = {
            "hub_id": self.hub_id,
            "chain_id": 0,
            "escrow": ZERO_ADDRESS,
            "token": ZERO_ADDRESS,
            "token_decimals": DECIMALS,
            "account_namespace": "default",
            "account_name": "default",
            "account": AccountSpec(payer=self.payer),
            "provider": self.member_name,
            "owner_id": "owner",
            "quote": quote,
            "price_per_task_hour": format_amount(price_per_task_hour(requests, prices), decimals=DECIMALS),
            "requests": TaskRequests(
                cpu_millicores=requests.cpu_millicores,
                memory_mib=requests.memory_mib,
                accelerators=dict(requests.devices),
            ),
            "product": "NVIDIA-H100-80GB-HBM3",
            "task_timeout_seconds": timeout_seconds,
        }
        return Terms(**(fields | dict(changes)))

    def placements(self) -> list[str]:
        """Return the names of all Placements."""
        return [p["metadata"]["name"] for p in self.hub.get(f"{self.namespace}/placements")["items"]]

    def offered(self) -> int:
        """Return the accelerators that all ProviderNodes offer."""
        nodes = self.hub.get(f"{self.namespace}/providernodes")["items"]
        return sum(n["spec"]["offerable"]["accelerators"].get("nvidia.com/gpu", 0) for n in nodes)

    def placement(self, name: str) -> Json:
        """Return a Placement."""
        return self.hub.get(f"{self.namespace}/placements/{name}")

    def change(self, name: str, **spec: Any) -> None:
        """Change fields of a Placement's spec, in their wire names."""
        self.hub.merge(f"{self.namespace}/placements/{name}", {"spec": spec})

    def delete(self, name: str) -> None:
        """Delete a Placement."""
        self.hub.delete(f"{self.namespace}/placements/{name}")

    def status(self, name: str) -> Json:
        """Return a Placement's status; {} before the first report."""
        found: Json = self.placement(name).get("status") or {}
        return found

    def until_finished(self, name: str, *, seconds: float = 30) -> Json:
        """Wait until a placement is Finished, check its arithmetic and receipt, and return its status."""
        until(
            f"placement {name}",
            lambda: self.status(name).get("state") == "Finished",
            seconds=seconds,
            told=lambda: str(self.status(name)) + self.log_tail(),
        )
        self.check(name)
        return self.status(name)

    def check(self, name: str) -> None:
        """Check that each task is settled exactly once, and that the receipt covers what ended."""
        placement = self.placement(name)
        spec = PlacementSpec.model_validate(placement["spec"])
        status = placement["status"]
        ended = [Ended.parse(text) for text in status.get("ended") or ()]
        indexes = [each.index for each in ended]
        for entry in status.get("handedBack") or ():
            indexes += list(IndexRanges.parse(entry["tasks"]))
        tasks = sorted(i for a in spec.assignments for i in IndexRanges.parse(a.tasks))
        assert sorted(indexes) == tasks
        assert all(each.attempt == spec.attempt for each in ended)
        if ended:
            check_receipt(
                SignedReceipt.model_validate(status["receipt"]),
                ended,
                terms=spec.terms,
                job_uid=spec.job.uid,
                placement_uid=placement["metadata"]["uid"],
            )

    def outcomes(self, name: str) -> dict[int, str]:
        """Return the letter of each ended task."""
        ended = (Ended.parse(text) for text in self.status(name).get("ended") or ())
        return {each.index: each.outcome.value for each in ended}

    # ------------------------------------------------------------ the member, by its own API server

    def pods(self, placement: str | None = None) -> list[Json]:
        """Return guest pods, of one placement (by name) or all."""
        selector = {}
        if placement is not None:
            uid = self.placement(placement)["metadata"]["uid"]
            selector = {"labelSelector": f"fallow.dev/placement-uid={uid}"}
        found: list[Json] = self.member.get("/api/v1/namespaces/fallow-guests/pods", **selector)["items"]
        return found

    def running(self, placement: str | None = None) -> list[Json]:
        """Return guest pods that run."""
        return [p for p in self.pods(placement) if p["status"].get("phase") == "Running"]

    def guest_set(self, placement: str) -> Json:
        """Return a placement's GuestSet."""
        uid = self.placement(placement)["metadata"]["uid"]
        return self.member.get(f"{API}/namespaces/fallow-guests/guestsets/{uid16(uid)}")

    def nodes(self) -> list[str]:
        """Return the member's nodes in order."""
        return sorted(n["metadata"]["name"] for n in self.member.get("/api/v1/nodes")["items"])

    def lose_node(self, node: str, *, lost: bool = True) -> None:
        """Make a node's kubelet report trouble, or not any more."""
        note = {"rig.fallow.dev/not-ready": "true" if lost else None}
        self.member.merge(f"/api/v1/nodes/{node}", {"metadata": {"annotations": note}})

    def log_tail(self) -> str:
        """Return the end of the agent's log, for a failure's message."""
        return "\n" + self.log.read_text()[-3000:] if self.log.exists() else ""


def until(
    what: str,
    condition: Callable[[], object],
    *,
    seconds: float = 30,
    missing_ok: bool = False,
    told: Callable[[], str] = lambda: "",
) -> None:
    """Wait until a condition holds; a NotFound while looking counts as not yet where `missing_ok`.

    So does a 429 always: an API server that was just started says it while a kind's cache fills.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except ApiError as error:
            if error.status != 429 and not (missing_ok and error.status == 404):
                raise
        assert time.monotonic() < end, f"{what}: not within {seconds} s. {told()}"
        time.sleep(0.05)


def indexes(pods: Iterable[Json]) -> list[int]:
    """Return the task indexes of pods, ascending."""
    return sorted(int(p["metadata"]["labels"]["fallow.dev/index"]) for p in pods)
