"""How an agent gets into a hub: an invite once, and from then on its own key.

The key is made here and kept, with the hub's latest token, in one Secret of the member: an agent that starts
again finds both, so a hub whose door is shut stops nobody. Whatever is refused is said in the log
and tried again, since a person on the other side may mend it; a token is renewed at half of its life, or when
the hub rejects it.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import structlog
from eth_account.signers.local import LocalAccount

from fallow.agent.hub_door import DoorRefuses, DoorUnreachable, HubDoor, access_of, read_invite
from fallow.agent.vault import Access, Kept, Vault
from fallow.errors import ApiError
from fallow.kube.answers import JSON
from fallow.kube.client import ApiServer
from fallow.kube.kinds import NODE
from fallow.receipts.joining import fingerprint, invite_hash
from fallow.resources.joining import Invite
from fallow.settings import AgentSettings

log = structlog.get_logger(__name__)

WAITING_SECONDS = 5.0
"""How often an agent that waits for a hub admin asks."""
REFUSED_SECONDS = 30.0
"""How often one that was refused asks: a person has to do something first."""
SHORTEST_SECONDS = 5.0
"""Between two renewals, however often the hub rejects the token."""


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
        # Also where nothing was asked, since another request had just asked: the loop must not spin.
        return WAITING_SECONDS

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
