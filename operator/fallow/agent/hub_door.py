"""The hub's door as an agent knocks at it: `POST /v1/join` with an invite, `/v1/renew` with its key."""

from __future__ import annotations

import secrets
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
from eth_account.signers.local import LocalAccount
from pydantic import ValidationError

from fallow import __version__
from fallow.agent.vault import Access
from fallow.errors import InvalidSetting, Permanent, Retryable
from fallow.receipts.joining import Joining, Renewal, invite_hash
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

TIMEOUT_SECONDS = 15.0


class DoorUnreachable(Retryable):
    """The hub's door did not answer, or not with what it has to."""


class DoorRefuses(Permanent):
    """The hub's door says no. `reason` is one of `Refusal`'s; the text says what to do."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def read_invite(path: Path) -> Invite:
    """Return the invite in a file. Raises InvalidSetting."""
    try:
        return Invite.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        said = str(error).splitlines()[0]
        raise InvalidSetting(
            f"The invite {path} cannot be used ({said}): give the file that the hub's admin sent, unchanged."
        ) from error


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


def access_of(admission: Admission, *, now: float) -> Access | None:
    """Return what an admission brings, None while a person is waited for. Raises DoorUnreachable."""
    if admission.state == "Waiting":
        return None
    if admission.server is None or admission.token is None or admission.lifetime_seconds is None:
        raise DoorUnreachable("The hub admits this agent and does not say where to.")
    return Access(
        admission.server, admission.authority, admission.token, now + admission.lifetime_seconds / 2
    )
