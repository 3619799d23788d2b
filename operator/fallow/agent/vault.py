"""What an agent that joined keeps in its member: its key, the invite it answered, the hub's latest token.

One Secret. The key is made here and never changes; who loses it has to be let in again.
"""

from __future__ import annotations

import base64
from contextlib import suppress
from dataclasses import dataclass

import structlog
from eth_account import Account
from eth_account.signers.local import LocalAccount

from fallow.errors import AlreadyExists, Conflict, InvalidSetting, NotFound
from fallow.kube.answers import JSON
from fallow.kube.client import ApiServer
from fallow.kube.compare_and_set import write
from fallow.kube.kinds import SECRET
from fallow.receipts.joining import fingerprint

log = structlog.get_logger(__name__)


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
