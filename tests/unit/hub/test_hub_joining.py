"""Who is let in at the hub's door, decided on a Provider as read and a request; no clock, no network."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from fallow.hub.joining import LATE_SECONDS, SKEW_SECONDS, Refused, judge_join, judge_renewal
from fallow.hub.placements import payee_of
from fallow.hub.view import HubView
from fallow.receipts.joining import Joining, Renewal, fingerprint, invite_hash
from fallow.receipts.statements import timestamp
from fallow.receipts.typed_data import Domain, sign
from fallow.receipts.words import from_hex
from fallow.resources.joining import JoinRequest, RenewRequest

HUB_ID = "0x" + "11" * 32
OTHER_HUB = "0x" + "22" * 32
TOKEN = "A" * 43
PAYEE = "0x" + "7a" * 20
NONCE = "0x" + "5" * 64
NOW = 1_800_000_000
KEY: LocalAccount = Account.from_key("0x" + "1" * 64)
OTHER: LocalAccount = Account.from_key("0x" + "2" * 64)


def a_provider(*, identity: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "aurora", "resourceVersion": "1"},
        "spec": {"ownerId": "bank-a", "region": "eu", **spec},
        "status": {"identity": identity} if identity else {},
    }


def invited(*, ends: int = NOW + 3600, token: str = TOKEN) -> dict[str, str]:
    return {"hash": invite_hash(token), "expires": timestamp(ends)}


def joined(*, key: LocalAccount = KEY, **more: Any) -> dict[str, Any]:
    return {
        "inviteHash": invite_hash(TOKEN),
        "signer": key.address,
        "payee": PAYEE,
        "joinedAt": timestamp(NOW - 60),
        "askedAtMs": (NOW - 60) * 1000,
        **more,
    }


def a_join(
    *, key: LocalAccount = KEY, hub_id: str = HUB_ID, at: int = NOW, token: str = TOKEN, **changed: Any
) -> JoinRequest:
    message = Joining(
        provider="aurora",
        payee=PAYEE,
        invite_hash=from_hex(invite_hash(token)),
        time_ms=at * 1000,
        nonce=from_hex(NONCE),
    )
    request = JoinRequest(
        provider="aurora",
        token=token,
        signer=key.address,
        payee=PAYEE,
        agent_version="1",
        nodes=2,
        accelerators=16,
        time_ms=at * 1000,
        nonce=NONCE,
        signature=sign(Domain.of_ledger(from_hex(hub_id)), message, key=key),
    )
    return request.model_copy(update=changed)


def a_renewal(
    *, key: LocalAccount = KEY, hub_id: str = HUB_ID, at: int = NOW, **changed: Any
) -> RenewRequest:
    message = Renewal(provider="aurora", time_ms=at * 1000, nonce=from_hex(NONCE))
    request = RenewRequest(
        provider="aurora",
        time_ms=at * 1000,
        nonce=NONCE,
        signature=sign(Domain.of_ledger(from_hex(hub_id)), message, key=key),
    )
    return request.model_copy(update=changed)


def test_join__of_an_invited__records_who_it_is_and_waits() -> None:
    granted = judge_join(a_provider(invite=invited()), a_join(), hub_id=HUB_ID, now_ms=NOW * 1000)
    assert not granted.admitted
    assert fingerprint(KEY.address) in granted.message
    assert granted.identity["signer"] == KEY.address
    assert granted.identity["payee"].lower() == PAYEE
    assert (granted.identity["nodes"], granted.identity["accelerators"]) == (2, 16)


ACCEPTED: dict[str, Any] = {"accepted": True, "signer": KEY.address, "payee": PAYEE}
REFUSED_JOINS: dict[str, tuple[dict[str, Any] | None, JoinRequest, str]] = {
    "of nobody": (None, a_join(), "InviteInvalid"),
    "without an invite": (a_provider(), a_join(), "InviteInvalid"),
    "with another token": (a_provider(invite=invited(token="B" * 43)), a_join(), "InviteInvalid"),
    "too late": (a_provider(invite=invited(ends=NOW)), a_join(), "InviteExpired"),
    "after another": (a_provider(invite=invited(), identity=joined(key=OTHER)), a_join(), "InviteUsed"),
    "after another was accepted": (
        a_provider(identity=joined(key=OTHER), **ACCEPTED),
        a_join(),
        "InviteUsed",
    ),
    "signed by another": (a_provider(invite=invited()), a_join(signer=OTHER.address), "KeyUnknown"),
    "for another payee than signed": (
        a_provider(invite=invited()),
        a_join(payee="0x" + "66" * 20),
        "KeyUnknown",
    ),
    "for another hub": (a_provider(invite=invited()), a_join(hub_id=OTHER_HUB), "KeyUnknown"),
    "of another provider": (a_provider(invite=invited()), a_join(provider="borealis"), "KeyUnknown"),
    "with a clock ahead": (
        a_provider(invite=invited()),
        a_join(at=NOW + SKEW_SECONDS + 1),
        "ClockSkewed",
    ),
    "with a malleable signature": (
        a_provider(invite=invited()),
        a_join(signature="0x" + "00" * 65),
        "KeyUnknown",
    ),
}


@pytest.mark.parametrize(("provider", "request_", "reason"), REFUSED_JOINS.values(), ids=REFUSED_JOINS)
def test_join__that_must_not_be__is_refused_with_its_reason(
    provider: dict[str, Any] | None, request_: JoinRequest, reason: str
) -> None:
    with pytest.raises(Refused) as error:
        judge_join(provider, request_, hub_id=HUB_ID, now_ms=NOW * 1000)
    assert error.value.reason == reason


def test_join__again_with_the_same_key__changes_nothing_even_after_the_end() -> None:
    provider = a_provider(invite=invited(ends=NOW - 10), identity=joined())
    granted = judge_join(provider, a_join(), hub_id=HUB_ID, now_ms=NOW * 1000)
    assert granted.identity == joined()


def test_renewal__of_an_accepted_key__is_admitted_and_moves_its_time() -> None:
    granted = judge_renewal(
        a_provider(identity=joined(), **ACCEPTED),
        a_renewal(),
        hub_id=HUB_ID,
        now_ms=NOW * 1000,
        token_seconds=3600,
    )
    assert granted.admitted
    assert granted.identity["askedAtMs"] == NOW * 1000
    assert granted.identity["tokenExpires"] == timestamp(NOW + 3600)


@pytest.mark.parametrize(
    "provider",
    [
        a_provider(identity=joined()),
        a_provider(identity=joined(), **{**ACCEPTED, "signer": OTHER.address}),
    ],
    ids=["nobody accepted it", "another key is accepted"],
)
def test_renewal__before_a_person_accepted_this_key__waits(provider: dict[str, Any]) -> None:
    granted = judge_renewal(provider, a_renewal(), hub_id=HUB_ID, now_ms=NOW * 1000, token_seconds=3600)
    assert not granted.admitted


LATE = timestamp(NOW - LATE_SECONDS - 1)
REFUSED_RENEWALS: dict[str, tuple[dict[str, Any] | None, RenewRequest, str]] = {
    "of nobody": (None, a_renewal(), "NotJoined"),
    "of one that never joined": (a_provider(**ACCEPTED), a_renewal(), "NotJoined"),
    "by another key": (a_provider(identity=joined(), **ACCEPTED), a_renewal(key=OTHER), "KeyUnknown"),
    "for another hub": (a_provider(identity=joined(), **ACCEPTED), a_renewal(hub_id=OTHER_HUB), "KeyUnknown"),
    "after its removal": (
        a_provider(identity=joined(), desired="Removed", **ACCEPTED),
        a_renewal(),
        "Removed",
    ),
    "a second time": (
        a_provider(identity=joined(askedAtMs=NOW * 1000), **ACCEPTED),
        a_renewal(),
        "Replayed",
    ),
    "30 days after its token": (
        a_provider(identity=joined(tokenExpires=LATE), **ACCEPTED),
        a_renewal(),
        "TooLate",
    ),
    "of an old time": (
        a_provider(identity=joined(), **ACCEPTED),
        a_renewal(at=NOW - SKEW_SECONDS - 1),
        "ClockSkewed",
    ),
}


@pytest.mark.parametrize(("provider", "request_", "reason"), REFUSED_RENEWALS.values(), ids=REFUSED_RENEWALS)
def test_renewal__that_must_not_be__is_refused_with_its_reason(
    provider: dict[str, Any] | None, request_: RenewRequest, reason: str
) -> None:
    with pytest.raises(Refused) as error:
        judge_renewal(provider, request_, hub_id=HUB_ID, now_ms=NOW * 1000, token_seconds=3600)
    assert error.value.reason == reason


def test_renewal__within_30_days_after_its_token__is_admitted() -> None:
    provider = a_provider(identity=joined(tokenExpires=timestamp(NOW - LATE_SECONDS + 60)), **ACCEPTED)
    granted = judge_renewal(provider, a_renewal(), hub_id=HUB_ID, now_ms=NOW * 1000, token_seconds=600)
    assert granted.admitted


def test_view__of_a_provider_that_is_only_invited__takes_it_in() -> None:
    view = HubView(decimals=6, on_lease=lambda lease: None)
    invited_only = a_provider(invite=invited())
    view.providers.apply(invited_only)
    assert payee_of(invited_only) == ""
    assert view.touched_providers == {"aurora"}
