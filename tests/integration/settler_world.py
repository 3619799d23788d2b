"""One hub's money for the settler's tests: a chain (or a ledger), an escrow, a settler, its claims."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import anvil_chain
import money_terms as money
from devkit.rig import Rig
from devkit.rig.api import ApiError, ApiServer
from fallow.receipts.typed_data import Domain
from fallow.receipts.words import keccak
from fallow.resources.account import AccountLimits
from fallow.resources.money import parse_amount
from fallow.resources.naming import claim_name
from fallow.resources.terms import Terms
from fallow.settler.escrow import Escrow
from fallow.settler.rpc import Rpc
from integration.settler_process import SettlerProcess, claim_object

API = "/apis/fallow.dev/v1alpha1"
NAMESPACE = "provider-aurora"
DEPOSIT = 1_000_000_000
PRICE_OF_ONE = 1_800_000


@dataclass
class World:
    """One hub's money: the settler, its claims and accounts, and what can be read back."""

    rig: Rig
    settler: SettlerProcess
    domain: Domain
    terms: Terms
    balances: Callable[[], tuple[int, int]]
    """(payer's balance, payee's credits) from the chain, or from the ledger's Settlements."""
    rpc_url: str = ""
    chain_pid: int = 0

    def on_chain(self, do: Callable[[Escrow], Awaitable[Any]]) -> Any:
        """Do something on the escrow, as somebody other than the settler."""

        async def connected() -> Any:
            async with Rpc(self.rpc_url) as rpc:
                return await do(Escrow(rpc, self.domain.escrow))

        return asyncio.run(connected())

    def claim(self, *, index: int = 0, attempt: int = 0, job_uid: str | None = None, **changes: Any) -> str:
        """Let the hub claim one successful hour; returns the claim's name."""
        placement = str(uuid.uuid4())
        spec = money.a_claim(
            [f"{index}:{attempt}:3600:S:"],
            terms=changes.pop("terms", self.terms),
            placement_uid=placement,
            job_uid=job_uid or str(uuid.uuid4()),
            attempt=attempt,
            **changes,
        )
        name = claim_name(placement, 0)
        self.rig.hub_client().post(
            f"{API}/namespaces/{NAMESPACE}/paymentclaims",
            claim_object(spec, name=name, namespace=NAMESPACE),
        )
        return name

    def status(self, claim: str) -> dict[str, Any]:
        path = f"{API}/namespaces/{NAMESPACE}/paymentclaims/{claim}"
        return dict(self.rig.hub_client().get(path).get("status") or {})

    def condition(self, claim: str, kind: str) -> dict[str, Any]:
        found = [each for each in self.status(claim).get("conditions") or () if each["type"] == kind]
        return dict(found[0]) if found else {}

    def until(self, what: str, done: Callable[[], Any], *, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, f"waited in vain for {what}:\n{self.settler.said()}"
            time.sleep(0.05)

    def until_settled(self, *claims: str, seconds: float = 120) -> None:
        left = set(claims)

        def done() -> bool:
            left.difference_update({each for each in left if self.status(each).get("state") == "Settled"})
            return not left

        self.until(f"claims {claims} Settled", done, seconds=seconds)

    def dies_before_settling(self, claim: str) -> bool:
        """Wait until the settler has ended, or a while past the settling of `claim`."""
        settled_at: list[float] = []

        def over() -> bool:
            if not settled_at and self.status(claim).get("state") == "Settled":
                settled_at.append(time.monotonic())
            return self.settler.ended is not None or bool(settled_at and time.monotonic() > settled_at[0] + 1)

        self.until(f"the settler's end, or claim {claim} Settled", over)
        return self.settler.ended is not None

    def settlements(self) -> list[dict[str, Any]]:
        hub_id = "0x" + self.domain.hub_id.hex()
        items = self.rig.hub_client().get(f"{API}/settlements")["items"]
        return [obj for obj in items if obj["spec"]["hubId"] == hub_id]

    def account(self, name: str = "default") -> dict[str, Any]:
        path = f"{API}/namespaces/{self.terms.account_namespace}/accounts/{name}"
        return dict(self.rig.hub_client().get(path))


def make_account(rig: Rig, namespace: str, spec: Any, *, name: str = "default") -> None:
    rig.hub_client().post(
        f"{API}/namespaces/{namespace}/accounts",
        {
            "apiVersion": "fallow.dev/v1alpha1",
            "kind": "Account",
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec.wire(),
        },
    )


def _until_served(client: ApiServer, path: str) -> None:
    client.until(path, lambda: "items" in client.get(path), seconds=120)


@pytest.fixture(scope="module")
def hub_lease(rig: Rig) -> None:
    """The hub's Lease, whose term an admission policy compares creates with; nobody holds it."""
    client = rig.hub_client()
    for kind in ("accounts", "paymentclaims", "settlements"):  # just installed: not served at once
        _until_served(client, f"{API}/{kind}")
    path = "/apis/coordination.k8s.io/v1/namespaces/fallow-system/leases"
    try:
        rig.hub_client().post(path, {"metadata": {"name": "fallow-hub"}, "spec": {"leaseTransitions": 0}})
    except ApiError as error:
        if error.status != 409:
            raise


@pytest.fixture
def chain_world(rig: Rig, hub_lease: None, hub_namespace: str, tmp_path: Path) -> Iterator[World]:
    with anvil_chain.anvil(tmp_path / "anvil.log", "--block-time", "0.2") as chain:
        yield from chain_world_on(chain, rig, hub_namespace, tmp_path)


@contextmanager
def world_on(
    chain: anvil_chain.Anvil,
    rig: Rig,
    hub_namespace: str,
    tmp_path: Path,
    *,
    disputes: bool = False,
    operator: str = money.address("operator"),
) -> Iterator[World]:
    """A world on a chain that a test started itself."""
    yield from chain_world_on(chain, rig, hub_namespace, tmp_path, disputes=disputes, operator=operator)


def chain_world_on(
    chain: anvil_chain.Anvil,
    rig: Rig,
    hub_namespace: str,
    tmp_path: Path,
    *,
    disputes: bool = False,
    operator: str = money.address("operator"),
) -> Iterator[World]:
    """A world on a chain that runs; with `disputes` credits rest for days, and can be disputed."""

    async def prepare() -> anvil_chain.Deployment:
        async with Rpc(chain.url) as rpc:
            made = await anvil_chain.deploy(
                rpc,
                hub_id=keccak(hub_namespace.encode()),
                operator=operator,
                dispute_window_seconds=86_400 if disputes else 1,
            )
            if disputes:
                await anvil_chain.attach_disputes(rpc, made)
            await anvil_chain.fund(rpc, made, money.key("payer"), DEPOSIT)
            await made.escrow.register_payee(money.key("payee"), sender=anvil_chain.DEPLOYER)
            return made

    deployment = asyncio.run(prepare())

    def balances() -> tuple[int, int]:
        async def read() -> tuple[int, int]:
            async with Rpc(chain.url) as rpc:
                escrow = Escrow(rpc, deployment.escrow.address)
                payer = await escrow.payer(money.address("payer"))
                return payer.balance, (await escrow.credits_of(money.address("payee"))).owed

        return asyncio.run(read())

    uid = rig.hub_client().get(f"/api/v1/namespaces/{hub_namespace}")["metadata"]["uid"]
    account = money.an_account(deployment.domain, namespace_uid=uid)
    make_account(rig, hub_namespace, account)
    terms = money.some_terms(
        deployment.domain,
        token=deployment.token.address,
        account=account,
        account_namespace=hub_namespace,
    )
    settler = SettlerProcess(
        rig,
        tmp_path / "settler",
        deployment.domain,
        token=deployment.token.address,
        rpc_url=chain.url,
    )
    with settler:
        yield World(rig, settler, deployment.domain, terms, balances, chain.url, chain.pid)


@pytest.fixture
def ledger_world(rig: Rig, hub_lease: None, hub_namespace: str, tmp_path: Path) -> Iterator[World]:
    # NB: a ledger's Settlements are named by number alone, so each test needs the hub to itself.
    for old in rig.hub_client().get(f"{API}/settlements")["items"]:
        rig.hub_client().delete(f"{API}/settlements/{old['metadata']['name']}")
    domain = Domain.of_ledger(keccak(hub_namespace.encode()))
    account = money.an_account(domain, limits=AccountLimits(max_total="1000"))
    make_account(rig, hub_namespace, account)
    terms = money.some_terms(domain, account=account, account_namespace=hub_namespace)
    settler = SettlerProcess(rig, tmp_path / "settler", domain)
    world = World(rig, settler, domain, terms, lambda: (0, 0))

    def balances() -> tuple[int, int]:
        amounts = [
            parse_amount(line["amount"], decimals=money.DECIMALS)
            for settlement in world.settlements()
            for line in settlement["spec"]["lines"]
        ]
        return DEPOSIT - sum(amounts), sum(amounts)

    world.balances = balances
    with settler:
        yield world
