"""How an agent gets into a hub: an invite once, and from then on its own key.

The key is made here and kept, with the hub's latest token, in one Secret of the member: an agent that starts
again finds both, so a hub whose door is shut stops nobody. Whatever is refused is said in the log
and tried again, since a person on the other side may mend it; a token is renewed at half of its life, or when
the hub rejects it.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import structlog
from eth_account import Account
from eth_account.signers.local import LocalAccount
from pydantic import ValidationError

from fallow import __version__
from fallow.errors import AlreadyExists, ApiError, Conflict, InvalidSetting, NotFound, Permanent, Retryable
from fallow.kube.answers import JSON
from fallow.kube.client import ApiServer
from fallow.kube.compare_and_set import write
from fallow.kube.kinds import NODE, SECRET
from fallow.receipts.joining import Joining, Renewal, fingerprint, invite_hash
from fallow.receipts.typed_data import Domain, sign
from fallow.receipts.words import checksummed, from_hex, to_hex
from fallow.resources.joining import (
    JOIN_PATH,
    RENEW_PATH,
    Admission,
    Invite,
    JoinRequest,
    Refusal,
    RenewRequest,
)
from fallow.settings import AgentSettings

log = structlog.get_logger(__name__)

WAITING_SECONDS = 5.0
"""How often an agent that waits for a hub admin asks."""
REFUSED_SECONDS = 30.0
"""How often one that was refused asks: a person has to do something first."""
SHORTEST_SECONDS = 5.0
"""Between two renewals, however often the hub rejects the token."""
TIMEOUT_SECONDS = 15.0


class DoorUnreachable(Retryable):
    """The hub's door did not answer, or not with what it has to."""


class DoorRefuses(Permanent):
    """The hub's door says no. `reason` is one of `Refusal`'s; the text says what to do."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Access:
    """The way to the hub's API server."""

    server: str
    authority: str | None
    token: str
    renew_at: float
    """Unix seconds of this machine's clock: half of the lifetime after it was given."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What the member's Secret holds."""

    key: LocalAccount
    invite_hash: str = ""
    """The invite that the key has answered; "" before."""
    access: Access | None = None


def read_invite(path: Path) -> Invite:
    """Return the invite in a file. Raises InvalidSetting."""
    try:
        return Invite.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        said = str(error).splitlines()[0]
        raise InvalidSetting(
            f"The invite {path} cannot be used ({said}): give the file that the hub's admin sent, unchanged."
        ) from error


class Vault:
    """The Secret on the member."""

    def __init__(self, member: ApiServer, *, namespace: str, name: str) -> None:
        self._member = member
        self._namespace = namespace
        self._name = name

    async def open(self) -> Kept:
        """Return what is kept; makes the key where there is none. Raises ApiErrors and InvalidSetting."""
        while True:
            try:
                found = await self._member.get(SECRET, self._name, namespace=self._namespace)
            except NotFound:
                kept = Kept(Account.create())
                meta = {"name": self._name, "namespace": self._namespace}
                with suppress(AlreadyExists):  # another agent came first: its key counts
                    await self._member.create(
                        SECRET, {"metadata": meta, "type": "Opaque", "data": _encoded(kept)}
                    )
                    log.info("made a key", fingerprint=fingerprint(kept.key.address))
                    return kept
            else:
                return _decoded(found, what=f"Secret {self._namespace}/{self._name}")

    async def keep(self, kept: Kept) -> None:
        """Write what is new; the key never changes."""
        while True:
            found = await self._member.get(SECRET, self._name, namespace=self._namespace)
            if _decoded(found, what=self._name).key != kept.key:
                raise InvalidSetting(f"The Secret {self._name} holds another key now: start the agent again.")
            with suppress(Conflict):
                await write(self._member, SECRET, found, {"data": _encoded(kept)})
                return


class HubDoor:
    """Requests to the hub's door. Its authority is the invite's, and no other."""

    def __init__(self, invite: Invite, *, unix: Callable[[], float] = time.time) -> None:
        self._invite = invite
        self._unix = unix
        self._context = ssl.create_default_context(cadata=invite.hub.authority)

    async def join(self, key: LocalAccount, *, payee: str, nodes: int, accelerators: int) -> None:
        """Answer the invite. Raises DoorRefuses and DoorUnreachable."""
        time_ms, nonce = self._stamp()
        hashed = invite_hash(self._invite.token)
        message = Joining(
            provider=self._invite.provider,
            payee=payee,
            invite_hash=from_hex(hashed),
            time_ms=time_ms,
            nonce=from_hex(nonce),
        )
        await self._post(
            JOIN_PATH,
            JoinRequest(
                provider=self._invite.provider,
                token=self._invite.token,
                signer=checksummed(str(key.address)),
                payee=payee,
                agent_version=__version__,
                nodes=nodes,
                accelerators=accelerators,
                time_ms=time_ms,
                nonce=nonce,
                signature=sign(self._domain, message, key=key),
            ),
        )

    async def renew(self, key: LocalAccount) -> Admission:
        """Ask for a token. Raises DoorRefuses and DoorUnreachable."""
        time_ms, nonce = self._stamp()
        message = Renewal(provider=self._invite.provider, time_ms=time_ms, nonce=from_hex(nonce))
        return await self._post(
            RENEW_PATH,
            RenewRequest(
                provider=self._invite.provider,
                time_ms=time_ms,
                nonce=nonce,
                signature=sign(self._domain, message, key=key),
            ),
        )

    @property
    def _domain(self) -> Domain:
        return Domain.of_ledger(from_hex(self._invite.hub.hub_id))

    def _stamp(self) -> tuple[int, str]:
        return int(self._unix() * 1000), to_hex(secrets.token_bytes(32))

    async def _post(self, path: str, body: JoinRequest | RenewRequest) -> Admission:
        url = self._invite.hub.url + path
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(
                    timeout=timeout, connector=aiohttp.TCPConnector(ssl=self._context)
                ) as session,
                session.post(url, json=body.wire(), allow_redirects=False) as response,
            ):
                content, status = await response.content.read(65_536), response.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise DoorUnreachable(f"The hub's door {url} cannot be reached: {error!r}") from error
        try:
            if status in (200, 202):
                return Admission.model_validate_json(content)
            refusal = Refusal.model_validate_json(content)
        except ValidationError as error:
            raise DoorUnreachable(f"{url} answered {status}, and not as a hub's door does.") from error
        if status in (429, 503):
            raise DoorUnreachable(f"The hub says: {refusal.message}")
        raise DoorRefuses(refusal.reason, refusal.message)


class JoinedHub:
    """Credentials for the hub that renew themselves: what `ApiServer` asks for. Made by `joined`."""

    proxy: str | None = None
    server_hostname: str | None = None

    def __init__(
        self, door: HubDoor, vault: Vault, kept: Kept, access: Access, *, unix: Callable[[], float]
    ) -> None:
        self._door = door
        self._vault = vault
        self._kept = kept
        self._access = access
        self._unix = unix
        self._lock = asyncio.Lock()
        self._asked_at = float("-inf")
        self._said = ""
        self.server = access.server

    @property
    def key(self) -> LocalAccount:
        """The agent's key, by which the hub knows it."""
        return self._kept.key

    def ssl_context(self) -> ssl.SSLContext | bool:
        """Make the TLS context of the hub's API server."""
        return ssl.create_default_context(cadata=self._access.authority)

    async def authorization(self, *, rejected: str | None = None) -> str | None:
        """Return the Authorization header; for one that the hub `rejected`, a new token is tried for."""
        if rejected == self._header:
            await self._try_to_renew()
        return self._header

    @property
    def _header(self) -> str:
        return f"Bearer {self._access.token}"

    async def run(self) -> None:
        """Renew at half of each token's life, for ever."""
        while True:
            await asyncio.sleep(max(0.0, self._access.renew_at - self._unix()))
            await asyncio.sleep(await self._try_to_renew())

    async def _try_to_renew(self) -> float:
        """Renew, or say once why not; returns how long to wait before the next attempt, in seconds."""
        try:
            await self._renew(instead_of=self._header)
            self._said = ""
        except DoorRefuses as error:
            if self._said != error.reason:
                self._said = error.reason
                log.error("the hub renews no token", reason=error.reason, why=str(error))
            return REFUSED_SECONDS
        except (DoorUnreachable, ApiError) as error:
            log.warning("a token could not be renewed; trying again", why=str(error))
            return WAITING_SECONDS
        return 0.0

    async def _renew(self, *, instead_of: str) -> None:
        async with self._lock:
            if self._header != instead_of or self._unix() - self._asked_at < SHORTEST_SECONDS:
                return  # another request did it just now
            self._asked_at = self._unix()
            access = access_of(await self._door.renew(self.key), now=self._unix())
            if access is None:
                raise DoorRefuses("NotJoined", "A hub admin has to accept this key again.")
            # A new address or authority counts from the next start: this connection is open.
            self._access = access
            await self._vault.keep(replace(self._kept, access=access))


def access_of(admission: Admission, *, now: float) -> Access | None:
    """Return what an admission brings, None while a person is waited for. Raises DoorUnreachable."""
    if admission.state == "Waiting":
        return None
    if admission.server is None or admission.token is None or admission.lifetime_seconds is None:
        raise DoorUnreachable("The hub admits this agent and does not say where to.")
    return Access(
        admission.server, admission.authority, admission.token, now + admission.lifetime_seconds / 2
    )


@asynccontextmanager
async def joined(
    settings: AgentSettings, member: ApiServer, *, unix: Callable[[], float] = time.time
) -> AsyncIterator[JoinedHub]:
    """Join the hub of the invite, however long that takes, and keep the token fresh while the block runs.

    Raises InvalidSetting for an invite or a Secret that cannot be used.
    """
    join = settings.join
    assert join.invite_file is not None
    vault = Vault(member, namespace=settings.system_namespace, name=join.identity_secret)
    hub = await _enter(join.invite_file, settings.payee, member, vault, unix=unix)
    renewing = asyncio.create_task(hub.run(), name="renew token")
    try:
        yield hub
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)


async def _enter(
    invite_file: Path, payee: str, member: ApiServer, vault: Vault, *, unix: Callable[[], float]
) -> JoinedHub:
    said = ""
    while True:
        wait = REFUSED_SECONDS
        try:
            invite = read_invite(invite_file)  # each time: a rejoin brings another into the same place
            door = HubDoor(invite, unix=unix)
            kept = await vault.open()
            kept = await _answered(invite, door, kept, payee, member, vault)
            if kept.access is not None:
                return JoinedHub(door, vault, kept, kept.access, unix=unix)
            admission = await door.renew(kept.key)
            access = access_of(admission, now=unix())
            if access is not None:
                kept = replace(kept, access=access)
                await vault.keep(kept)
                log.info("joined", hub=access.server, fingerprint=fingerprint(kept.key.address))
                return JoinedHub(door, vault, kept, access, unix=unix)
            wait, why = WAITING_SECONDS, admission.message
        except DoorRefuses as error:
            why = f"The hub refuses ({error.reason}): {error}"
        except (DoorUnreachable, ApiError) as error:
            wait, why = WAITING_SECONDS, str(error)
        if why != said:
            log.warning("not joined yet", why=why)
            said = why
        await asyncio.sleep(wait)


async def _answered(
    invite: Invite, door: HubDoor, kept: Kept, payee: str, member: ApiServer, vault: Vault
) -> Kept:
    """Answer the invite unless this key has; an agent that is in already goes on when that is refused."""
    hashed = invite_hash(invite.token)
    if kept.invite_hash == hashed:
        return kept
    nodes, accelerators = await _counted(member)
    try:
        await door.join(kept.key, payee=payee, nodes=nodes, accelerators=accelerators)
    except (DoorRefuses, DoorUnreachable) as error:
        if kept.access is None:
            raise
        log.warning("the new invite brings nothing; the old token is used on", why=str(error))
        return kept
    kept = Kept(kept.key, hashed, None)
    await vault.keep(kept)
    return kept


async def _counted(member: ApiServer) -> tuple[int, int]:
    """Count the member's nodes and their accelerators, for the hub's admin to compare."""
    nodes = (await member.list(NODE)).items
    return len(nodes), sum(_accelerators(node) for node in nodes)


def _accelerators(node: JSON) -> int:
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    extended = (
        amount
        for name, amount in allocatable.items()
        if "/" in name and not name.startswith(("kubernetes.io/", "attachable-volumes", "hugepages"))
    )
    return sum(int(amount) for amount in extended if str(amount).isdigit())


def _encoded(kept: Kept) -> dict[str, str]:
    access = kept.access
    parts = {
        "key": bytes(kept.key.key).hex(),
        "inviteHash": kept.invite_hash,
        "server": access.server if access else "",
        "authority": (access.authority if access else None) or "",
        "token": access.token if access else "",
        "renewAt": str(int(access.renew_at)) if access else "",
    }
    return {name: base64.b64encode(part.encode()).decode("ascii") for name, part in parts.items()}


def _decoded(secret: JSON, *, what: str) -> Kept:
    try:
        parts = {name: base64.b64decode(value).decode() for name, value in (secret.get("data") or {}).items()}
        key: LocalAccount = Account.from_key(bytes.fromhex(parts["key"].removeprefix("0x").strip()))
        access = None
        if parts.get("token"):
            access = Access(
                parts["server"], parts.get("authority") or None, parts["token"], float(parts["renewAt"])
            )
    except (KeyError, ValueError):
        # NB: never with the error's own text: a part of a key may be in it.
        raise InvalidSetting(
            f"The {what} holds no key that can be read. Restore it; or delete it and ask for a rejoin."
        ) from None
    return Kept(key, parts.get("inviteHash", ""), access)
