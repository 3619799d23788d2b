"""Whom the hub lets in: an invite answered once, a key that a hub admin accepted, a request that is new.

Pure: a Provider as read and a request in, what to record in its status out. The door (`fallow.hub.door`)
writes that by compare-and-set before it hands out anything: of two answers to one invite one loses, and
a request that was granted once is refused ever after, by whichever replica.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import datetime

from fallow.errors import Permanent
from fallow.hub.placements import JSON
from fallow.receipts.joining import Joining, Renewal, fingerprint, invite_hash
from fallow.receipts.statements import timestamp
from fallow.receipts.typed_data import Domain, SignatureError, recover
from fallow.receipts.words import checksummed, from_hex
from fallow.resources.joining import JoinRequest, RenewRequest

SKEW_SECONDS = 300
"""How far a request's time may be from the hub's, either way."""
LATE_SECONDS = 30 * 86_400
"""How long after its last token ended an agent may still renew."""


class Refused(Permanent):
    """A request at the door is not granted. `reason` is one of `Refusal`'s."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class Granted:
    """What to write into the Provider's status, and what then to answer."""

    identity: JSON
    admitted: bool
    """Whether a token is due; else the agent waits for a hub admin."""
    message: str = ""


_INVALID = "This invite is not valid here. Ask the hub's admin for a new one: fallow provider invite."


def judge_join(provider: JSON | None, request: JoinRequest, *, hub_id: str, now_ms: int) -> Granted:
    """Return what an answer to an invite brings. Raises Refused.

    A provider that does not exist and a token that does not fit are refused in the same words.
    """
    spec = (provider or {}).get("spec") or {}
    identity = _identity(provider)
    hashed = invite_hash(request.token)
    invited = spec.get("invite") or {}
    known = invited.get("hash") or ""
    if not hmac.compare_digest(hashed, known):
        # NB: an acceptance removes the invite from the spec; its own key may still repeat its answer.
        if identity is None or not hmac.compare_digest(hashed, str(identity["inviteHash"])):
            raise Refused("InviteInvalid", _INVALID)
    elif datetime.fromisoformat(invited["expires"]).timestamp() * 1000 <= now_ms and not (
        identity and identity["inviteHash"] == hashed
    ):
        raise Refused("InviteExpired", f"This invite ended at {invited['expires']}. Ask for a new one.")
    _in_time(request.time_ms, now_ms)
    message = Joining(
        provider=request.provider,
        payee=request.payee,
        invite_hash=from_hex(hashed),
        time_ms=request.time_ms,
        nonce=from_hex(request.nonce),
    )
    _signed_by(request.signer, hub_id, message, request.signature)
    if identity and identity["inviteHash"] == hashed:
        if identity["signer"].lower() != request.signer.lower():
            raise Refused(
                "InviteUsed",
                f"This invite was used already, by the key {fingerprint(identity['signer'])}. If that is not "
                "yours, tell the hub's admin at once: somebody else has read the invite.",
            )
        return Granted(identity, admitted=False, message=waiting(identity["signer"]))
    fresh: JSON = {
        "inviteHash": hashed,
        "signer": checksummed(request.signer),
        "payee": checksummed(request.payee),
        "agentVersion": request.agent_version,
        "nodes": request.nodes,
        "accelerators": request.accelerators,
        "joinedAt": timestamp(now_ms // 1000),
        "askedAtMs": request.time_ms,
    }
    return Granted(fresh, admitted=False, message=waiting(request.signer))


def judge_renewal(
    provider: JSON | None, request: RenewRequest, *, hub_id: str, now_ms: int, token_seconds: int
) -> Granted:
    """Return what a request for a token brings. Raises Refused."""
    identity = _identity(provider)
    if provider is None or identity is None:
        raise Refused("NotJoined", "No agent has joined under this name. Ask for an invite.")
    _in_time(request.time_ms, now_ms)
    message = Renewal(provider=request.provider, time_ms=request.time_ms, nonce=from_hex(request.nonce))
    _signed_by(identity["signer"], hub_id, message, request.signature)
    spec = provider["spec"]
    if spec.get("desired") == "Removed":
        raise Refused("Removed", "The hub has removed this provider. What is owed is still settled.")
    if not spec.get("accepted"):
        return Granted(identity, admitted=False, message=waiting(identity["signer"]))
    if str(spec.get("signer")).lower() != identity["signer"].lower():
        return Granted(identity, admitted=False, message=waiting(identity["signer"]))
    if request.time_ms <= int(identity.get("askedAtMs") or 0):
        raise Refused("Replayed", "A request of this time, or a later one, was granted before.")
    expires = identity.get("tokenExpires")
    if expires and now_ms / 1000 > datetime.fromisoformat(expires).timestamp() + LATE_SECONDS:
        raise Refused(
            "TooLate",
            f"The last token ended at {expires}, over 30 days ago. Ask the hub's admin for a rejoin.",
        )
    renewed = {
        **identity,
        "askedAtMs": request.time_ms,
        "tokenExpires": timestamp(now_ms // 1000 + token_seconds),
    }
    return Granted(renewed, admitted=True)


def waiting(signer: str) -> str:
    """Say what an agent waits for."""
    return f"Waiting for the hub's admin, who compares this key with you: {fingerprint(signer)}."


def _identity(provider: JSON | None) -> JSON | None:
    found: JSON | None = ((provider or {}).get("status") or {}).get("identity")
    return found


def _in_time(time_ms: int, now_ms: int) -> None:
    if abs(time_ms - now_ms) > SKEW_SECONDS * 1000:
        raise Refused(
            "ClockSkewed",
            f"The request says {timestamp(time_ms // 1000)}, the hub's clock says "
            f"{timestamp(now_ms // 1000)}: set the clock that is wrong.",
        )


def _signed_by(signer: str, hub_id: str, message: Joining | Renewal, signature: str) -> None:
    try:
        found = recover(Domain.of_ledger(from_hex(hub_id)), message, signature=signature)
    except SignatureError as error:
        raise Refused("KeyUnknown", f"The request's signature cannot be read: {error}.") from error
    if found.lower() != signer.lower():
        raise Refused("KeyUnknown", "The request is not signed by the key that joined. Ask for a rejoin.")
