"""How long the settler takes over many claims, on the rig's API server and the rig's chain.

200 providers and 50 payers; every claim is signed by all whom it takes, and is there before the
settler starts. Twice: with a tenth of the claims, and with all of them, on a rig of its own each.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from devkit.errors import DevkitError
from devkit.rig import Rig, up
from devkit.rig import chain as chains
from devkit.rig.api import ApiServer
from devkit.rig.chain import CHAIN_ID, Chain
from devkit.rig.planes import plain_environment
from devkit.rig.ports import Ports
from fallow.kube.client import ApiServer as Server
from fallow.kube.kinds import PAYMENT_CLAIM
from fallow.receipts.epochs import claim_id
from fallow.receipts.messages import PayeeRegistration
from fallow.receipts.statements import authorization_message, sign_quote, sign_receipt, timestamp
from fallow.receipts.typed_data import sign
from fallow.receipts.words import keccak, to_hex
from fallow.resources.account import AccountSpec, Authorization
from fallow.resources.base import JobRef, PlacementRef
from fallow.resources.ended import Ended
from fallow.resources.naming import claim_name
from fallow.resources.paymentclaim import Observations
from fallow.resources.quote import AcceleratorPrice, Prices, QuoteSpec
from fallow.resources.terms import TaskRequests, Terms

PROVIDERS, PAYERS = 200, 50
API = "/apis/fallow.dev/v1alpha1"
_HUB_ID = keccak(b"settle bench")
_DEPOSIT = 10**13
_FAR = 4_000_000_000
_LIMIT_SECONDS = 6 * 3600.0
_POLL_SECONDS = 4.0
_IDLE_SECONDS = 20.0
_WRITERS, _IN_FLIGHT = 2, 8
_FALLOW = str(Path(sys.executable).with_name("fallow"))


def options(parser: argparse.ArgumentParser) -> None:
    """Declare what the bench takes."""
    parser.add_argument("--claims", type=int, default=100_000, help="how many claims; 100,000 by default")


def run(*, claims: int = 100_000) -> dict[str, Any]:
    """Settle a tenth of the claims, then all. Raises DevkitError when money is missing at the end."""
    tenth, whole = _measure(max(1, claims // 10)), _measure(claims)
    return {
        "claims": claims,
        "providers": PROVIDERS,
        "payers": PAYERS,
        **{name: whole[name] for name in ("seconds", "gas_per_claim", "peak_rss_mb")},
        **{f"tenth_{name}": tenth[name] for name in ("seconds", "gas_per_claim", "peak_rss_mb")},
        "whole": whole,
        "tenth": tenth,
        "seconds_per_claim_ratio": round(
            (whole["seconds"] / whole["claims"]) / (tenth["seconds"] / tenth["claims"]), 2
        ),
    }


@dataclass(frozen=True)
class _World:
    rig: Rig
    chain: Chain
    payers: list[tuple[LocalAccount, AccountSpec]]
    quotes: list[QuoteSpec]
    signer: LocalAccount


def _measure(claims: int) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory(prefix="fallow-bench-") as directory,
        up(Path(directory), members=[], with_fallow=False) as rig,
        Ports() as ports,
    ):
        chain = chains.start(rig, hub_id=_HUB_ID, ports=ports)
        world = _set_up(rig, chain)
        started = time.monotonic()
        _write_claims(world, claims)
        written = time.monotonic() - started
        return _settle(world, claims) | {"seconds_to_write_the_claims": round(written, 1)}


def _set_up(rig: Rig, chain: Chain) -> _World:
    seed, client, rpc = random.Random(1), rig.hub_client(), chain.rpc
    for kind in ("accounts", "paymentclaims", "settlements"):
        _until_served(client, f"{API}/{kind}")
    rpc.call("evm_setIntervalMining", 0)
    rpc.call("evm_setAutomine", True)
    lease = "/apis/coordination.k8s.io/v1/namespaces/fallow-system/leases"
    client.post(lease, {"metadata": {"name": "fallow-hub"}, "spec": {"leaseTransitions": 0}})
    signer: LocalAccount = Account.from_key(seed.randbytes(32))
    namespace_uid = client.get("/api/v1/namespaces/default")["metadata"]["uid"]
    payers = [_payer(chain, Account.from_key(seed.randbytes(32)), namespace_uid) for _ in range(PAYERS)]
    for number, (_, account) in enumerate(payers):
        client.post(
            f"{API}/namespaces/default/accounts",
            {
                "apiVersion": "fallow.dev/v1alpha1",
                "kind": "Account",
                "metadata": {"name": f"payer-{number}"},
                "spec": account.wire(),
            },
        )
    quotes = []
    for number in range(PROVIDERS):
        client.post("/api/v1/namespaces", {"metadata": {"name": f"provider-p{number}"}})
        quotes.append(_quote(chain, number, Account.from_key(seed.randbytes(32)), signer))
    rpc.call("evm_setAutomine", False)
    rpc.call("evm_setIntervalMining", chains.BLOCK_SECONDS)
    return _World(rig, chain, payers, quotes, signer)


def _until_served(client: ApiServer, path: str) -> None:
    """Wait for a kind: one that was just installed is not served at once."""
    client.until(path, lambda: "items" in client.get(path), seconds=60)


def _payer(chain: Chain, key: LocalAccount, namespace_uid: str) -> tuple[LocalAccount, AccountSpec]:
    rpc = chain.rpc
    rpc.give(key.address, ether=100)
    rpc.send(chain.owner, chain.token, "mint(address,uint256)", key.address, _DEPOSIT)
    rpc.send(key, chain.token, "approve(address,uint256)", chain.escrow, _DEPOSIT)
    rpc.send(key, chain.escrow, "deposit(address,uint96)", key.address, _DEPOSIT)
    rpc.send(key, chain.escrow, "bind(uint96,uint24)", _DEPOSIT, 0)
    given = Authorization(
        chain_id=CHAIN_ID,
        escrow=chain.escrow,
        hub_id=to_hex(_HUB_ID),
        namespace_uid=namespace_uid,
        expires_at=timestamp(_FAR),
        nonce=1,
        signature="0x00",
    )
    account = AccountSpec(payer=key.address, authorization=given)
    signature = sign(chain.domain, authorization_message(account, decimals=chains.TOKEN_DECIMALS), key=key)
    return key, account.model_copy(
        update={"authorization": given.model_copy(update={"signature": signature})}
    )


def _quote(chain: Chain, number: int, payee: LocalAccount, signer: LocalAccount) -> QuoteSpec:
    consent = PayeeRegistration(payee=payee.address, deadline=_FAR)
    signature = bytes.fromhex(sign(chain.domain, consent, key=payee).removeprefix("0x"))
    register = "registerPayee(address,uint64,bytes)"
    chain.rpc.send(chain.owner, chain.escrow, register, payee.address, _FAR, signature)
    quote = QuoteSpec(
        provider=f"p{number}",
        prices=Prices(accelerators=(AcceleratorPrice(price_per_hour="1.80"),)),
        payee=payee.address,
        signer=signer.address,
        valid_until=timestamp(_FAR),
        sequence=1,
        signature="0x00",
    )
    return sign_quote(quote, domain=chain.domain, key=signer)


def _write_claims(world: _World, count: int) -> None:
    """Write the claims as fast as the API server takes them: signing them is work for another core."""
    fork = multiprocessing.get_context("fork")
    writers = [
        fork.Process(target=_write, args=(world, range(at, count, _WRITERS)), daemon=True)
        for at in range(_WRITERS)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        if writer.exitcode != 0:
            raise DevkitError(f"a writer of claims ended with status {writer.exitcode}.")


def _write(world: _World, numbers: range) -> None:
    claims = _claims(world, numbers)

    async def post(api: Server) -> None:
        for obj in claims:  # drawn from by all
            await api.create(PAYMENT_CLAIM, obj)

    async def write() -> None:
        async with await Server.connect(world.rig.hub_kubeconfig, name="hub", timeout_seconds=60) as api:
            await asyncio.gather(*(post(api) for _ in range(_IN_FLIGHT)))

    asyncio.run(write())


def _claims(world: _World, numbers: range) -> Iterator[dict[str, Any]]:
    terms: dict[tuple[int, int], tuple[Terms, dict[str, Any]]] = {}
    for number in numbers:
        # Spread so that every provider works for every payer sooner or later.
        provider, payer = number % PROVIDERS, (number // PROVIDERS + number) % PAYERS
        if (provider, payer) not in terms:
            made = _terms(world, provider, payer)
            terms[provider, payer] = made, made.wire()
        spec = _claim(*terms[provider, payer], number, world.signer)
        yield {
            "apiVersion": "fallow.dev/v1alpha1",
            "kind": "PaymentClaim",
            "metadata": {
                "name": claim_name(spec["placement"]["uid"], 0),
                "namespace": f"provider-p{provider}",
            },
            "spec": spec,
        }


def _terms(world: _World, provider: int, payer: int) -> Terms:
    return Terms(
        hub_id=to_hex(_HUB_ID),
        chain_id=CHAIN_ID,
        escrow=world.chain.escrow,
        token=world.chain.token,
        token_decimals=chains.TOKEN_DECIMALS,
        account_namespace="default",
        account_name=f"payer-{payer}",
        account=world.payers[payer][1],
        provider=f"p{provider}",
        owner_id="owner",
        quote=world.quotes[provider],
        price_per_task_hour="1.80",
        requests=TaskRequests(accelerators={"nvidia.com/gpu": 1}),
        task_timeout_seconds=86_400,
    )


def _claim(terms: Terms, written: dict[str, Any], number: int, signer: LocalAccount) -> dict[str, Any]:
    """Return a claim's spec on these terms, which are `written` once for many claims."""
    placement, job = _uid("placement", number), _uid("job", number)
    ended = [Ended.parse("0:0:3600:S:")]
    receipt = sign_receipt(
        ended, terms=terms, job_uid=job, placement_uid=placement, previous=None,
        period=(1_800_000_000, 1_800_003_600), key=signer,
    )  # fmt: skip
    return {
        "placement": PlacementRef(name="placement", uid=placement).wire(),
        "job": JobRef(namespace="default", name="job", uid=job).wire(),
        "attempt": 0,
        "sequence": 0,
        "claimId": to_hex(claim_id(_HUB_ID, placement, 0)),
        "term": 0,
        "tasks": "0",
        "ended": [str(one) for one in ended],
        "receipt": receipt.wire(),
        "observations": Observations(
            placed_at=timestamp(1_800_000_000), finished_at=timestamp(1_800_003_600)
        ).wire(),
        "seconds": 3600,
        "amount": "1.8",
        "terms": written,
    }


def _uid(what: str, number: int) -> str:
    # NB: names are made of a UID's first half, so that has to differ too.
    return str(uuid.UUID(bytes=keccak(f"{what} {number}".encode())[:16]))


def _settle(world: _World, claims: int) -> dict[str, Any]:
    rig, chain = world.rig, world.chain
    salt = rig.state / "keys" / "salt"
    salt.write_text(keccak(b"salt").hex())
    environ = {
        **plain_environment(),
        "FALLOW_HUB_ID": to_hex(_HUB_ID),
        "FALLOW_KUBECONFIG": str(rig.identities["settler"]),
        "FALLOW_PAYMENTS__MODE": "chain",
        "FALLOW_PAYMENTS__CHAIN_ID": str(CHAIN_ID),
        "FALLOW_PAYMENTS__ESCROW": chain.escrow,
        "FALLOW_PAYMENTS__TOKEN": chain.token,
        "FALLOW_CHAIN__RPC_URLS": chain.rpc.url,
        "FALLOW_CHAIN__CONFIRMATIONS": "2",
        "FALLOW_EPOCHS__MAX_AGE_SECONDS": "0",
        "FALLOW_EPOCHS__POLL_SECONDS": "0.5",
        "FALLOW_OPERATOR__KEYSTORE": str(chain.operator.keystore),
        "FALLOW_OPERATOR__PASSWORD_FILE": str(chain.operator.password_file),
        "FALLOW_SALT_KEY_FILE": str(salt),
        "FALLOW_ARCHIVE_DIRECTORY": str(rig.state / "archive"),
        "FALLOW_LEASE__ENABLED": "false",
        "FALLOW_METRICS_ADDRESS": "off",
    }
    started = time.monotonic()
    pid = rig.processes.start("settler", [_FALLOW, "settler"], environ=environ)
    client = rig.hub_client()
    settlements: list[dict[str, Any]] = []
    while sum(_names(each) for each in settlements) < claims:
        if time.monotonic() > started + _LIMIT_SECONDS:
            raise DevkitError(f"not settled after {_LIMIT_SECONDS} s")
        rig.processes.check("settler")
        time.sleep(_POLL_SECONDS)
        # NB: by epochs, not by claims: a list of those would cost the API server more than settling.
        found = client.get(f"{API}/settlements")["items"]
        settlements = [each for each in found if (each.get("status") or {}).get("state") == "Confirmed"]
    seconds = time.monotonic() - started
    busy = _cpu_seconds(pid)
    time.sleep(_IDLE_SECONDS)
    idle = _cpu_seconds(pid) - busy
    status = Path(f"/proc/{pid}/status").read_text()
    peak_kb = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
    gas = sum(int(each["status"]["gasUsed"]) for each in settlements)
    _check(world, claims)
    return {
        "claims": claims,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(busy, 1),
        "idle_cpu_ms_per_second": round(1000 * idle / _IDLE_SECONDS, 1),
        "gas_per_claim": round(gas / claims, 1),
        "peak_rss_mb": round(peak_kb / 1024, 1),
        "epochs": len(settlements),
        "lines": sum(len(each["spec"]["lines"]) for each in settlements),
    }


def _cpu_seconds(pid: int) -> float:
    cpu = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(cpu[11]) + int(cpu[12])) / os.sysconf("SC_CLK_TCK")


def _check(world: _World, claims: int) -> None:
    """Raise DevkitError unless the payers were debited exactly what was claimed."""
    left = 0
    for key, _ in world.payers:
        types = "(uint96,uint96,uint40,uint24)"
        left += world.chain.rpc.read(world.chain.escrow, "payerOf(address)", types, key.address)[0]
    owed = PAYERS * _DEPOSIT - left
    if owed != claims * 1_800_000:
        raise DevkitError(f"{owed} was debited for {claims} claims of 1.80.")


def _names(settlement: dict[str, Any]) -> int:
    return sum(len(part["claims"]) for part in settlement["spec"]["claims"])
