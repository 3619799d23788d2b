"""What is said when a member joins: the invite, what its agent asks for, and what the hub answers.

None of it is an API object. The invite goes from hub admin to owner as a file; the rest is JSON over TLS.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fallow.resources.base import Address, Bytes32, Label63, Model, Signature, Text, Timestamp

INVITE_VERSION = 1
JOIN_PATH = "/v1/join"
RENEW_PATH = "/v1/renew"

Token = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$")]
"""256 random bits, base64url without padding."""
Pem = Annotated[str, Field(pattern=r"^-----BEGIN CERTIFICATE-----", max_length=65_536)]
HttpsUrl = Annotated[str, Field(pattern=r"^https://[^\s/?#]+$", max_length=512)]
"""Where a server is: https, host and port, nothing behind."""


class PaymentsTold(Model):
    """Where money lives, as every signature of this hub has it."""

    mode: Literal["chain", "ledger"]
    chain_id: int
    escrow: Address
    token: Address
    token_symbol: str
    token_decimals: int


class HubTold(Model):
    """What a hub tells everybody about itself; published for `fallow provider invite`, and in each invite."""

    hub_id: Bytes32
    payments: PaymentsTold
    url: HttpsUrl
    """Where the hub takes answers to invites."""
    authority: Pem
    """The only authority whose certificate there is believed."""


class Invite(Model):
    """An invite file: enough for an agent to find the hub, to know it again, and to be let in once."""

    version: Literal[1] = 1
    hub: HubTold
    provider: Label63
    token: Token
    expires: Timestamp


class JoinRequest(Model):
    """An agent answers its invite with a key that it made itself. May be repeated with the same key."""

    provider: Label63
    token: Token
    signer: Address
    payee: Address
    agent_version: Annotated[str, Field(max_length=64)]
    nodes: Annotated[int, Field(ge=0, le=1_000_000)]
    accelerators: Annotated[int, Field(ge=0, le=100_000_000)]
    time_ms: Annotated[int, Field(ge=0, le=2**53)]
    nonce: Bytes32
    signature: Signature
    """By `signer`, over a `Joining` (`fallow.receipts.joining`)."""


class RenewRequest(Model):
    """An agent asks for a token, with nothing but its key."""

    provider: Label63
    time_ms: Annotated[int, Field(ge=0, le=2**53)]
    nonce: Bytes32
    signature: Signature
    """By the joined key, over a `Renewal`."""


class Admission(Model):
    """The hub's answer: wait for a person, or the way in."""

    state: Literal["Waiting", "Admitted"]
    message: Text = ""
    server: HttpsUrl | None = None
    """The hub's API server."""
    authority: Pem | None = None
    """Its authority; absent where the system's own is to be believed."""
    token: Annotated[str, Field(max_length=16_384)] | None = None
    lifetime_seconds: Annotated[int, Field(ge=1, le=86_400)] | None = None
    """From now on: no clock is compared. At half of it the agent asks again."""


class Refusal(Model):
    """Why not, in one sentence that says what to do next."""

    reason: Literal[
        "Malformed",
        "InviteInvalid",
        "InviteExpired",
        "InviteUsed",
        "NotJoined",
        "KeyUnknown",
        "ClockSkewed",
        "Replayed",
        "TooLate",
        "Removed",
        "Busy",
    ]
    message: Text
