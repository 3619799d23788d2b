"""Fallow on a rig: hub, settler and an agent per member as detached processes, ready for a first job.

The rig plays the people: the hub admin who accepts providers, the owners who open their Offers, the payer
who signs for the namespace `default`. Each acts with its own credentials.
"""

import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from eth_account import Account

from devkit.errors import RigError
from devkit.rig import chain as chains
from devkit.rig.api import Json
from devkit.rig.certificates import write_private
from devkit.rig.chain import Chain
from devkit.rig.keys import KeyFile, new_key, new_key_file
from devkit.rig.members import Member
from devkit.rig.ports import Ports
from devkit.rig.real.images import PYTHON
from devkit.rig.record import Rig
from fallow.receipts.messages import AccountAuthorization
from fallow.receipts.statements import timestamp
from fallow.receipts.typed_data import Domain, sign
from fallow.receipts.words import from_hex
from fallow.resources.account import AccountLimits, AccountSpec, Authorization
from fallow.resources.base import Model
from fallow.resources.offer import CAGE_CHECKS, OfferSpec
from fallow.resources.provider import ProviderSpec
from fallow.resources.quote import AcceleratorPrice, Prices

API = "/apis/fallow.dev/v1alpha1"
READY_SECONDS = 90.0
REAL_READY_SECONDS = 240.0
"""Where canary guests prove a real member's cage first."""
LEDGER_CREDIT = "1000000"
"""Credit limit of the account in ledger mode, in whole tokens."""


def start(
    rig: Rig,
    *,
    payments: str,
    ports: Ports,
    say: Callable[[str], None],
    hub_settings: Mapping[str, str] | None = None,
) -> None:
    """Start the chain (unless payments are a ledger's) and Fallow; return once a job could run.

    Raises RigError when a program ends, or what it should make ready stays unready.
    """
    hub_id = secrets.token_bytes(32)
    chain = None
    if payments == "chain":
        say("Starting the chain: anvil, token, escrow, payer, payees")
        chain = chains.start(rig, hub_id=hub_id, ports=ports)
        rig.chain = chain.record()
    rig.archive = rig.state / "archive"
    rig.archive.mkdir()
    say("Starting Fallow: hub, settler, agents")
    signers = {name: new_key_file(rig.state / "keys", f"agent-{name}") for name in rig.members}
    payees: dict[str, str] = {
        name: (chain.payees[name] if chain else new_key()).address for name in rig.members
    }
    _people(rig, chain, signers, payees)
    common = _common(hub_id, chain)
    _start_hub(rig, common, ports, hub_settings or {})
    _start_settler(rig, common, chain, ports)
    for name in rig.members:
        _start_agent(rig, common, name, payees[name], signers[name], ports)
    _wait(rig)


# ---------------------------------------------------------------- people


def _people(rig: Rig, chain: Chain | None, signers: dict[str, KeyFile], payees: dict[str, str]) -> None:
    """Do what people do: accept providers, open offers, bind the account.

    By apply, not create: an API server makes whoever creates the first object of a new CRD wait 2 s.
    """
    admin = rig.client("hub_admin")
    for name, member in rig.members.items():
        signer = signers[name].account.address
        admin.apply(f"{API}/providers/{name}", provider(member.spec, payee=payees[name], signer=signer))
        member.client().apply(f"{API}/offers/default", offer(member.spec))
    if chain is None:
        payer, spec = (
            admin,
            AccountSpec(payer=new_key().address, limits=AccountLimits(max_total=LEDGER_CREDIT)),
        )
    else:
        uid = rig.hub_client().get("/api/v1/namespaces/default")["metadata"]["uid"]
        payer, spec = rig.client("submitter"), authorized(chain.record(), uid)
    payer.apply(f"{API}/namespaces/default/accounts/default", _thing("Account", "default", spec))


def open_namespace(rig: Rig, name: str, *, nonce: int) -> None:
    """Create a namespace with an Account `default` that the chain's payer signed for, and wait for that.

    `nonce` is one that the payer has not signed with before: the rig itself uses 1.
    """
    assert rig.chain is not None
    client = rig.hub_client()
    uid = client.post("/api/v1/namespaces", {"metadata": {"name": name}})["metadata"]["uid"]
    spec = authorized(rig.chain, uid, nonce=nonce)
    client.apply(f"{API}/namespaces/{name}/accounts/default", _thing("Account", "default", spec))

    def pays() -> bool:
        account = client.get(f"{API}/namespaces/{name}/accounts/default")
        conditions = (account.get("status") or {}).get("conditions") or []
        return {"Bound", "Funded"} <= {one["type"] for one in conditions if one["status"] == "True"}

    client.until(f"the account of {name}", pays, seconds=READY_SECONDS)


def provider(member: Member, *, payee: str, signer: str) -> Json:
    """Return the Provider by which a hub admin accepts `member`; its owner is called after it."""
    spec = ProviderSpec(
        accepted=True, owner_id=f"owner-of-{member.name}", region=member.region, payee=payee, signer=signer
    )
    return _thing("Provider", member.name, spec)


def offer(member: Member) -> Json:
    """Return an Offer of everything to everybody at `member`'s prices.

    Simulated nodes can prove no check of the cage, so their owner waives each by name; a real one's owner
    waives nothing.
    """
    prices = Prices(
        accelerators=(AcceleratorPrice(price_per_hour=member.prices["gpu"]),),
        cpu_core_hour=member.prices["cpu"],
        memory_gib_hour=member.prices["memory_gib"],
    )
    spec = OfferSpec(
        prices=prices,
        images=("*",),
        accounts_allowed=("*",),
        replicate=True,
        accept_unproven=() if member.real else CAGE_CHECKS,
    )
    return _thing("Offer", "default", spec)


def authorized(chain: Mapping[str, Any], namespace_uid: str, *, nonce: int = 1) -> AccountSpec:
    """Return the spec of an Account that lets a namespace charge a payer for 30 days.

    `chain` is as in rig.json, and its payer signs.
    """
    expiry = int(time.time()) + 30 * 86_400
    payer = Account.from_key(chain["payer_key"])
    hub_id = from_hex(chain["hub_id"])
    consent = AccountAuthorization(
        hub_id=hub_id,
        namespace_uid=namespace_uid,
        payer=payer.address,
        expiry=expiry,
        nonce=nonce,
    )
    domain = Domain(chain_id=chains.CHAIN_ID, escrow=chain["escrow"], hub_id=hub_id)
    authorization = Authorization(
        chain_id=chains.CHAIN_ID,
        escrow=chain["escrow"],
        hub_id=chain["hub_id"],
        namespace_uid=namespace_uid,
        expires_at=timestamp(expiry),
        nonce=nonce,
        signature=sign(domain, consent, key=payer),
    )
    return AccountSpec(payer=payer.address, authorization=authorization)


def _thing(kind: str, name: str, spec: Model) -> Json:
    return {
        "apiVersion": "fallow.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec.wire(),
    }


# ---------------------------------------------------------------- programs


def _common(hub_id: bytes, chain: Chain | None) -> dict[str, str]:
    """Return the environment that all programs share."""
    kept = ("PATH", "HOME", "TMPDIR", "LANG", "VIRTUAL_ENV")
    environ = {key: os.environ[key] for key in kept if key in os.environ}
    environ |= {
        "PYTHONUNBUFFERED": "1",
        "FALLOW_HUB_ID": "0x" + hub_id.hex(),
        "FALLOW_PAYMENTS__MODE": "chain" if chain else "ledger",
        "FALLOW_PAYMENTS__TOKEN_SYMBOL": chains.TOKEN_SYMBOL,
        "FALLOW_PAYMENTS__TOKEN_DECIMALS": str(chains.TOKEN_DECIMALS),
    }
    if chain:
        environ |= {
            "FALLOW_PAYMENTS__CHAIN_ID": str(chains.CHAIN_ID),
            "FALLOW_PAYMENTS__ESCROW": chain.escrow,
            "FALLOW_PAYMENTS__TOKEN": chain.token,
        }
    return environ


def _start_hub(rig: Rig, common: dict[str, str], ports: Ports, settings: Mapping[str, str]) -> None:
    own = {f"FALLOW_{name}": value for name, value in settings.items()}
    more = {
        "FALLOW_KUBECONFIG": str(rig.identities["hub"]),
        "FALLOW_JOBS__INTERVAL_SECONDS_MIN": "5",  # simulated tasks are short
    }
    _start(rig, "hub", "hub", {**common, **more, **own}, ports)


def _start_settler(rig: Rig, common: dict[str, str], chain: Chain | None, ports: Ports) -> None:
    keys = rig.state / "keys"
    operator = chain.operator if chain else new_key_file(keys, "operator")
    salt_key = write_private(keys / "salt", f"{secrets.token_hex(32)}\n".encode())
    assert rig.archive is not None
    environ = {
        **common,
        "FALLOW_KUBECONFIG": str(rig.identities["settler"]),
        "FALLOW_OPERATOR__KEYSTORE": str(operator.keystore),
        "FALLOW_OPERATOR__PASSWORD_FILE": str(operator.password_file),
        "FALLOW_SALT_KEY_FILE": str(salt_key),
        "FALLOW_ARCHIVE_DIRECTORY": str(rig.archive),
        # Paid while somebody watches: the defaults suit a chain with costs and reorganisations.
        "FALLOW_EPOCHS__MAX_AGE_SECONDS": "3",
        "FALLOW_EPOCHS__POLL_SECONDS": "0.5",
        "FALLOW_CHAIN__CONFIRMATIONS": "2",
    }
    if chain:
        environ["FALLOW_CHAIN__RPC_URLS"] = chain.rpc.url
        environ["FALLOW_DISPUTES__REVEALER__KEYSTORE"] = str(chain.revealer.keystore)
        environ["FALLOW_DISPUTES__REVEALER__PASSWORD_FILE"] = str(chain.revealer.password_file)
        environ["FALLOW_DISPUTES__POLL_SECONDS"] = "1"
    _start(rig, "settler", "settler", environ, ports)


def _start_agent(
    rig: Rig, common: dict[str, str], name: str, payee: str, signer: KeyFile, ports: Ports
) -> None:
    member = rig.members[name]
    environ = {
        **common,
        "FALLOW_KUBECONFIG": str(member.agent_kubeconfig),
        "FALLOW_PROVIDER": name,
        "FALLOW_HUB_KUBECONFIG": str(member.agent_hub_kubeconfig),
        "FALLOW_PAYEE": payee,
        "FALLOW_SIGNER__KEYSTORE": str(signer.keystore),
        "FALLOW_SIGNER__PASSWORD_FILE": str(signer.password_file),
    }
    if member.node:
        environ["FALLOW_CANARY__IMAGE"] = PYTHON
    _start(rig, "agent", f"agent-{name}", environ, ports)


def _start(rig: Rig, program: str, role: str, environ: dict[str, str], ports: Ports) -> None:
    port = ports.hold()
    address = f"127.0.0.1:{port}"
    command = [str(Path(sys.executable).with_name("fallow")), program]
    ports.release(port)
    name = f"fallow.{role}"
    rig.processes.start(name, command, environ={**environ, "FALLOW_METRICS_ADDRESS": address})
    rig.fallow[role] = name
    rig.metrics[role] = address


# ---------------------------------------------------------------- readiness


def _wait(rig: Rig) -> None:
    """Return once the account can pay and every provider can be scheduled on."""
    client = rig.hub_client()
    real = any(member.node for member in rig.members.values())
    seconds = REAL_READY_SECONDS if real else READY_SECONDS

    def alive() -> None:
        for name in rig.fallow.values():
            rig.processes.check(name)

    def ready(path: str, *types: str) -> None:
        seen: list[Any] = []

        def done() -> bool:
            conditions = (client.get(path).get("status") or {}).get("conditions") or []
            seen[:] = conditions
            return set(types) <= {c["type"] for c in conditions if c["status"] == "True"}

        try:
            client.until(path, done, seconds=seconds, alive=alive)
        except RigError as error:
            said = json.dumps(seen)
            raise RigError(f"{error} Its conditions: {said}; logs: {rig.state / 'logs'}") from error

    ready(f"{API}/namespaces/default/accounts/default", "Bound", "Funded")
    for name in rig.members:
        ready(f"{API}/providers/{name}", "Reachable", "Schedulable")
