"""What `fallow provider` does at the hub, step by step; each can be repeated after being cut off."""

from __future__ import annotations

import asyncio
import importlib.resources
import re
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from fallow.cli.chain_reads import EscrowReader
from fallow.cli.kubeconfigs import kubeconfig_path
from fallow.errors import AlreadyExists, Conflict, InvalidSetting, MoneyError, NotFound
from fallow.kube import kinds
from fallow.kube.client import JSON, ApiServer
from fallow.kube.compare_and_set import write
from fallow.kube.resource import Resource
from fallow.receipts.joining import fingerprint, invite_hash
from fallow.receipts.statements import timestamp
from fallow.receipts.words import checksummed
from fallow.resources.base import API_VERSION
from fallow.resources.joining import HubTold, Invite
from fallow.resources.naming import HUB_TOLD, SYSTEM_NAMESPACE, provider_namespace
from fallow.resources.quote import QUOTE_NAME

TEMPLATE = "provider.yaml.template"
LOOK_SECONDS = 1.0
_NAME = re.compile(r"^[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?$")
_TIME = re.compile(r"^([0-9]+)([smhd])$")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class NobodyAnswered(MoneyError):  # noqa: N818 - says what happened, as in fallow.errors
    """There is nobody to accept yet."""


class PayeeNotRegistered(MoneyError):  # noqa: N818 - says what happened, as in fallow.errors
    """The payee cannot be paid by this hub's escrow."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Whom an admin is about to accept."""

    provider: JSON
    signer: str
    payee: str

    @property
    def accepted_already(self) -> bool:
        """Whether just this key and payee are accepted."""
        spec = self.provider["spec"]
        same = (str(spec.get("signer")).lower(), str(spec.get("payee")).lower())
        return bool(spec.get("accepted")) and same == (self.signer.lower(), self.payee.lower())


def seconds_of(text: str) -> int:
    """Return "30m" in seconds. Raises InvalidSetting."""
    found = _TIME.match(text)
    if not found or int(found[1]) == 0:
        raise InvalidSetting(f"{text!r} is no time: write a whole number and s, m, h or d, such as 1h.")
    return int(found[1]) * _UNITS[found[2]]


async def hub(kubeconfig: Path | None) -> ApiServer:
    """Return a client of the hub, not opened yet."""
    return await ApiServer.connect(kubeconfig_path(kubeconfig), name="hub")


async def told(api: ApiServer, system_namespace: str) -> HubTold | None:
    """Return what the hub says of itself; None where it serves no joining."""
    try:
        found = await api.get(kinds.CONFIG_MAP, HUB_TOLD, namespace=system_namespace)
        return HubTold.model_validate_json(found["data"]["hub.json"])
    except NotFound:
        return None
    except (KeyError, ValidationError) as error:
        raise InvalidSetting(f"ConfigMap {system_namespace}/{HUB_TOLD} is of another version.") from error


async def invite(
    api: ApiServer,
    name: str,
    seconds: int,
    *,
    system_namespace: str,
    owner: str | None = None,
    region: str | None = None,
) -> Invite:
    """Make what a provider needs on the hub, and an invite for it; with `owner`, of a new provider.

    Raises InvalidSetting for a hub that serves no joining, a name that is taken or one that is not known.
    """
    if not _NAME.match(name):
        raise InvalidSetting(
            f"{name!r}: a provider's name has up to 52 lower-case letters, digits and dashes."
        )
    hub_told = await told(api, system_namespace)
    if hub_told is None:
        raise InvalidSetting(
            f"This hub takes no answers to invites (no ConfigMap {system_namespace}/{HUB_TOLD}): set "
            "join.enabled, join.url and join.apiServer of its chart, or make credentials by hand "
            "(docs/hub-admin.md)."
        )
    token = secrets.token_urlsafe(32)
    expires = timestamp(int(time.time()) + seconds)
    kept = {"hash": invite_hash(token), "expires": expires}
    try:
        provider = await api.get(kinds.PROVIDER, name)
    except NotFound:
        if owner is None:
            raise InvalidSetting(f"There is no provider {name}: fallow provider invite {name}") from None
        spec = {"ownerId": owner, "region": region, "accepted": False, "invite": kept}
        provider = await api.create(
            kinds.PROVIDER, {"apiVersion": API_VERSION, "metadata": {"name": name}, "spec": spec}
        )
    else:
        if owner is not None and (
            (provider.get("status") or {}).get("identity") or provider["spec"].get("signer")
        ):
            raise InvalidSetting(
                f"{name} is taken: somebody joined under this name. For a new invite of the same member: "
                f"fallow provider rejoin {name}"
            )
        terms = {"ownerId": owner, "region": region} if owner is not None else {}
        await _edit(api, name, {**terms, "invite": kept})
    await let_in(api, name, system_namespace=system_namespace)
    return Invite(hub=hub_told, provider=name, token=token, expires=expires)


def manifest(invite: Invite) -> str:
    """Return an invite as the owner applies it: a Secret that the agent's chart mounts, and its namespace."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "fallow-invite", "namespace": SYSTEM_NAMESPACE},
        "stringData": {"invite": invite.model_dump_json(by_alias=True, exclude_none=True)},
    }
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM_NAMESPACE}}
    return yaml.safe_dump_all([namespace, secret], sort_keys=False)


async def let_in(api: ApiServer, name: str, *, system_namespace: str = "fallow-system") -> None:
    """Make the provider's namespace, service account and rights where they are missing."""
    text = importlib.resources.files("fallow.cli").joinpath("artifacts", TEMPLATE).read_text()
    text = text.replace("PROVIDER", name).replace(
        "namespace: fallow-system", f"namespace: {system_namespace}"
    )
    for obj in yaml.safe_load_all(text):
        await _make(api, obj)


async def _make(api: ApiServer, obj: JSON) -> None:
    resource = _RESOURCES[obj["kind"]]
    with suppress(AlreadyExists):
        await api.create(resource, obj)


async def candidate_soon(api: ApiServer, name: str, *, seconds: float) -> Candidate:
    """Return who wants to be accepted, as soon as an agent has answered. Raises NobodyAnswered."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await candidate(api, name)
        except NobodyAnswered:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(LOOK_SECONDS)


async def candidate(api: ApiServer, name: str) -> Candidate:
    """Return who wants to be accepted: a key that joined anew, else whom the Quote names."""
    provider = await _provider(api, name)
    identity = (provider.get("status") or {}).get("identity")
    accepted = str(provider["spec"].get("signer")).lower()
    if identity and identity["signer"].lower() != accepted:
        return Candidate(provider, identity["signer"], identity["payee"])
    try:
        quote = await api.get(kinds.QUOTE, QUOTE_NAME, namespace=provider_namespace(name))
    except NotFound:
        if identity:
            return Candidate(provider, identity["signer"], identity["payee"])
        invited = provider["spec"].get("invite") or {}
        until = f" The invite ends at {invited['expires']}." if invited else " It has no invite."
        raise NobodyAnswered(f"No agent has answered for {name} yet.{until}") from None
    spec = quote["spec"]
    return Candidate(provider, checksummed(spec["signer"]), checksummed(spec["payee"]))


def described(found: Candidate) -> str:
    """Write down what an admin compares before accepting."""
    provider = found.provider
    spec, status = provider["spec"], provider.get("status") or {}
    identity = status.get("identity") or {}
    lines = [
        f"{provider['metadata']['name']}, owner {spec['ownerId']}, region {spec['region']}",
        f"  fingerprint {fingerprint(found.signer)}",
        f"  key         {found.signer}",
    ]
    if identity:
        lines.append(
            f"  brings      {identity.get('nodes', 0)} nodes, {identity.get('accelerators', 0)} accelerators "
            f"(agent {identity.get('agentVersion') or '?'}, joined {identity['joinedAt']})"
        )
    for what, new in (("signer", found.signer), ("payee", found.payee)):
        old = spec.get(what)
        if old and old.lower() != new.lower():
            lines.append(f"  CHANGED     {what} was {old}")
    return "\n".join(lines)


def payee_standing(payee: str, hub_told: HubTold | None, rpc: str | None) -> str:
    """Say whether the payee can be paid; raises PayeeNotRegistered, or InvalidSetting without an RPC."""
    if hub_told is None or hub_told.payments.mode == "ledger":
        return "(ledger: no registration needed)" if hub_told else "(not checked: the hub tells no escrow)"
    if rpc is None:
        raise InvalidSetting(
            "Give --rpc URL: the payee has to be registered at the escrow before you accept."
        )
    active_from = EscrowReader(rpc, hub_told.payments.escrow).payee_active_from(payee)
    if active_from == 0:
        raise PayeeNotRegistered(
            f"The payee {payee} is not registered at {hub_told.payments.escrow}: its owner runs "
            "`fallow chain register-payee`, then accept again."
        )
    if active_from > time.time():
        return f"(registered, paid from {timestamp(active_from)})"
    return "(registered)"


async def accept(api: ApiServer, found: Candidate) -> None:
    """Write the acceptance of exactly this key and payee."""
    name = found.provider["metadata"]["name"]

    def unchanged(provider: JSON) -> None:
        old = (found.provider.get("status") or {}).get("identity") or {}
        new = (provider.get("status") or {}).get("identity") or {}
        if old.get("signer") != new.get("signer") or old.get("payee") != new.get("payee"):
            raise InvalidSetting(f"{name} joined with another key just now: run this again and compare.")

    await _edit(
        api,
        name,
        {"accepted": True, "signer": found.signer, "payee": found.payee, "invite": None},
        check=unchanged,
    )


async def desire(api: ApiServer, name: str, desired: str) -> None:
    """Set what a provider should be: Active, Drain or Removed. Nobody comes back from Removed."""

    def still_in(provider: JSON) -> None:
        if provider["spec"].get("desired") == "Removed" and desired != "Removed":
            raise InvalidSetting(f"{name} is being removed: finish that, then invite it anew.")

    gone = {"invite": None} if desired == "Removed" else {}
    await _edit(api, name, {"desired": desired, **gone}, check=still_in)


async def revoke(api: ApiServer, name: str) -> None:
    """Make all tokens worthless: they are bound to the service account, by its UID."""
    with suppress(NotFound):
        await api.delete(kinds.SERVICE_ACCOUNT, "agent", namespace=provider_namespace(name))


async def settled(api: ApiServer, name: str, *, seconds: float) -> str:
    """Wait until nothing is owed; return "" or what is left after `seconds`."""
    deadline = time.monotonic() + seconds
    namespace = provider_namespace(name)
    while True:
        placements = len((await api.list(kinds.PLACEMENT, namespace=namespace)).items)
        claims = [
            one
            for one in (await api.list(kinds.PAYMENT_CLAIM, namespace=namespace)).items
            if (one.get("status") or {}).get("state") != "Settled"
        ]
        if not placements and not claims:
            return ""
        if time.monotonic() > deadline:
            return f"Not settled yet: {placements} placements, {len(claims)} claims of {name}."
        await asyncio.sleep(LOOK_SECONDS)


async def forget(api: ApiServer, name: str) -> None:
    """Delete everything of a provider that was settled."""
    namespace = provider_namespace(name)
    for resource, thing in (
        (_RESOURCES["ClusterRoleBinding"], f"fallow-agent-{name}"),
        (_RESOURCES["ClusterRole"], f"fallow-agent-{name}"),
        (kinds.NAMESPACE, namespace),
        (kinds.PROVIDER, name),
    ):
        with suppress(NotFound):
            await api.delete(resource, thing)


async def rows(api: ApiServer) -> list[dict[str, Any]]:
    """Return what `list` shows, a row per provider."""
    return [_row(one) for one in sorted((await api.list(kinds.PROVIDER)).items, key=_name_of)]


def table(found: list[dict[str, Any]]) -> str:
    """Lay rows out in columns."""
    titles = ("NAME", "STATE", "NODES", "ACCEL", "OWNER", "REGION", "FINGERPRINT", "TOKEN ENDS")
    lines = [titles, *(tuple(str(value) for value in row.values()) for row in found)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(titles))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _row(provider: JSON) -> dict[str, Any]:
    spec, status = provider["spec"], provider.get("status") or {}
    identity = status.get("identity") or {}
    capacity = status.get("capacity") or []
    nodes = sum(one.get("nodes", 0) for one in capacity) or identity.get("nodes", 0)
    signer = identity.get("signer") or spec.get("signer")
    return {
        "name": provider["metadata"]["name"],
        "state": _state(provider),
        "nodes": nodes,
        "accelerators": status.get("offerableAccelerators") or identity.get("accelerators", 0),
        "owner": spec["ownerId"],
        "region": spec["region"],
        "fingerprint": fingerprint(signer) if signer else "-",
        "tokenEnds": identity.get("tokenExpires") or "-",
    }


def _state(provider: JSON) -> str:
    """Return where a provider stands in one word: what an admin would do something about comes first."""
    spec, status = provider["spec"], provider.get("status") or {}
    identity = status.get("identity")
    if spec.get("desired") == "Removed":
        return "Removed"
    if not spec.get("accepted"):
        if identity:
            return "Waiting"
        ends = (spec.get("invite") or {}).get("expires")
        late = ends and datetime.fromisoformat(ends) < datetime.now(UTC)
        return "InviteExpired" if late else "Invited"
    if identity and identity["signer"].lower() != str(spec.get("signer")).lower():
        return "IdentityChanged"
    found = {one["type"]: one for one in status.get("conditions") or ()}
    schedulable = found.get("Schedulable", {})
    return (
        "Schedulable" if schedulable.get("status") == "True" else str(schedulable.get("reason") or "Unknown")
    )


async def _provider(api: ApiServer, name: str) -> JSON:
    try:
        return await api.get(kinds.PROVIDER, name)
    except NotFound:
        raise InvalidSetting(f"There is no provider {name}: fallow provider list") from None


async def _edit(api: ApiServer, name: str, spec: JSON, *, check: Any = None) -> None:
    """Change some of a Provider's spec, whatever the hub writes into its status meanwhile."""
    while True:
        provider = await _provider(api, name)
        if check is not None:
            check(provider)
        with suppress(Conflict):
            await write(api, kinds.PROVIDER, provider, {"spec": {**provider["spec"], **spec}})
            return


def _name_of(obj: JSON) -> str:
    return str(obj["metadata"]["name"])


_RBAC = "rbac.authorization.k8s.io"
_RESOURCES = {
    "Namespace": kinds.NAMESPACE,
    "ServiceAccount": kinds.SERVICE_ACCOUNT,
    "ResourceQuota": Resource("", "v1", "resourcequotas", "ResourceQuota"),
    "RoleBinding": Resource(_RBAC, "v1", "rolebindings", "RoleBinding"),
    "ClusterRole": Resource(_RBAC, "v1", "clusterroles", "ClusterRole", namespaced=False),
    "ClusterRoleBinding": Resource(
        _RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False
    ),
}
