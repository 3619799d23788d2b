"""A member joins by both sides and by nothing less; its token opens little and not for long."""

from __future__ import annotations

import asyncio
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from devkit.rig import ApiError, ApiServer, Rig
from devkit.rig.fallow import offer
from devkit.scenario.joining import GROUP, answered, forbidden_calls, kept_token, unpacked, with_token
from fallow.agent.hub_door import DoorRefuses, DoorUnreachable, HubDoor, read_invite
from fallow.hub.door_certificates import new_pairs
from fallow.receipts.joining import fingerprint
from fallow.resources.joining import Admission, Invite
from integration.by_hand import until as until_by_hand
from integration.hub_process import HubProcess
from integration.joining_world import PAYEE, Admin, InvitedAgent, hub_with_door

SECONDS = 120.0


def until(what: str, condition: Callable[[], object], *, told: Callable[[], str] = str) -> None:
    until_by_hand(what, condition, seconds=SECONDS, told=told)


@pytest.fixture(scope="module")
def hub(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with hub_with_door(rig, tmp_path_factory.mktemp("door")) as hub:
        told = "/api/v1/namespaces/fallow-system/configmaps/fallow-hub-told"
        rig.hub_client().until("the hub tells of itself", lambda: exists(rig, told), seconds=SECONDS)
        yield hub


@pytest.fixture
def admin(rig: Rig, hub: HubProcess) -> Admin:
    return Admin(rig)


def exists(rig: Rig, path: str) -> bool:
    try:
        rig.hub_client().get(path)
    except ApiError as error:
        if error.status == 404:
            return False
        raise
    return True


def join(invite: Invite, key: LocalAccount, *, payee: str = PAYEE) -> None:
    asyncio.run(HubDoor(invite).join(key, payee=payee, nodes=2, accelerators=16))


def renew(invite: Invite, key: LocalAccount) -> Admission:
    return asyncio.run(HubDoor(invite).renew(key))


def admitted(admin: Admin, name: str, directory: Path) -> tuple[Invite, LocalAccount]:
    """Join and accept without an agent."""
    invite = read_invite(admin.invite(name, directory / f"{name}.invite"))
    key: LocalAccount = Account.create()
    join(invite, key)
    ended = admin("accept", name, "--yes")
    assert ended.returncode == 0, ended.stderr
    return invite, key


def test_joining__by_invite_and_acceptance__makes_a_provider_that_gets_work(
    rig: Rig, admin: Admin, tmp_path: Path
) -> None:
    member = rig.members["aurora"]
    invite = admin.invite("north", tmp_path / "north.invite", owner="bank-a", region="eu-north-1")
    assert admin.row("north")["state"] == "Invited"
    with InvitedAgent(member.agent_kubeconfig, invite, tmp_path / "agent.log") as agent:
        until("it has answered", lambda: admin.row("north")["state"] == "Waiting", told=agent.tail)
        row = admin.row("north")
        assert (row["nodes"], row["accelerators"], row["owner"]) == (2, 16, "bank-a")
        until("the owner can read the fingerprint", lambda: row["fingerprint"] in agent.tail())
        with pytest.raises(ApiError, match="404"):
            member.client().get(f"{GROUP}/offers/default")

        ended = admin("accept", "north", "--yes")
        assert ended.returncode == 0, ended.stderr
        assert row["fingerprint"] in ended.stdout
        until("its closed Offer is there", lambda: admin.row("north")["state"] == "Closed", told=agent.tail)
        member.client().apply(f"{GROUP}/offers/default", offer(member.spec))
        until("it gets work", lambda: admin.row("north")["state"] == "Schedulable", told=agent.tail)
        assert "bank-a" in admin("list").stdout

        agent.stop()
        before, token = heartbeat(rig, "north"), kept_token(member.client())
        agent.start()
        until("it goes on", lambda: heartbeat(rig, "north") != before, told=agent.tail)
        assert kept_token(member.client()) == token, "it had a token: none had to be asked for"
        ended = admin("accept", "north", "--yes")
        assert "nothing to do" in ended.stdout

        old = with_token(rig, kept_token(member.client()))
        quotes = f"{GROUP}/namespaces/provider-north/quotes"
        assert old.get(quotes)["items"]
        ended = admin("remove", "north", "--yes", "--timeout", "2m")
        assert ended.returncode == 0, ended.stderr
        rig.hub_client().until("the old token opens nothing", lambda: refused(old, quotes), seconds=15)
        until("nothing is left", lambda: not exists(rig, "/api/v1/namespaces/provider-north"))
        assert not exists(rig, f"{GROUP}/providers/north")
        until("it is told so", lambda: "the hub renews no token" in agent.log.read_text())


def heartbeat(rig: Rig, provider: str) -> str:
    lease = f"/apis/coordination.k8s.io/v1/namespaces/provider-{provider}/leases/agent"
    found: str = rig.hub_client().get(lease)["spec"]["renewTime"]
    return found


def refused(client: ApiServer, path: str) -> bool:
    try:
        client.get(path)
    except ApiError as error:
        return error.status in (401, 403)
    return False


def test_invite__used_by_one_key__is_refused_to_every_other(admin: Admin, tmp_path: Path) -> None:
    invite = read_invite(admin.invite("once", tmp_path / "once.invite"))
    first: LocalAccount = Account.create()
    join(invite, first)
    join(invite, first)
    with pytest.raises(DoorRefuses, match="somebody else has read the invite") as error:
        join(invite, Account.create())
    assert error.value.reason == "InviteUsed"
    assert fingerprint(first.address) in str(error.value)


def test_invite__that_ended_or_was_never_made__is_refused(admin: Admin, tmp_path: Path) -> None:
    short = read_invite(admin.invite("late", tmp_path / "late.invite", ttl="1s"))
    key: LocalAccount = Account.create()

    until("it has ended", lambda: admin.row("late")["state"] == "InviteExpired")
    with pytest.raises(DoorRefuses) as late:
        join(short, key)
    assert late.value.reason == "InviteExpired"
    for wrong in ({"provider": "nobody"}, {"token": "A" * 43}):
        with pytest.raises(DoorRefuses) as error:
            join(short.model_copy(update=wrong), key)
        assert error.value.reason == "InviteInvalid"


def test_token__before_acceptance__is_not_given(admin: Admin, tmp_path: Path) -> None:
    invite = read_invite(admin.invite("patient", tmp_path / "patient.invite"))
    key: LocalAccount = Account.create()
    join(invite, key)
    answer = renew(invite, key)
    assert (answer.state, answer.token) == ("Waiting", None)
    assert fingerprint(key.address) in answer.message


def test_token__after_acceptance__opens_the_own_namespace_for_a_day_at_most(
    rig: Rig, admin: Admin, tmp_path: Path
) -> None:
    invite, key = admitted(admin, "tight", tmp_path)
    answer = renew(invite, key)
    assert answer.token
    assert 0 < (answer.lifetime_seconds or 0) <= 86_400
    client = with_token(rig, answer.token)
    assert client.get(f"{GROUP}/namespaces/provider-tight/placements")["items"] == []
    calls = list(forbidden_calls("tight", "aurora"))
    assert len(calls) == 20
    for method, path, body in calls:
        assert answered(client, method, path, body) == 403, (method, path)


def token_request(seconds: int, *audiences: str) -> dict[str, object]:
    spec: dict[str, object] = {"expirationSeconds": seconds}
    if audiences:
        spec["audiences"] = list(audiences)
    return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}


@pytest.mark.parametrize("identity", ["hub", "hub_admin", "cluster_admin"])
def test_token__for_longer_or_for_others__is_refused_whoever_asks(
    rig: Rig, admin: Admin, tmp_path: Path, identity: str
) -> None:
    if not exists(rig, "/api/v1/namespaces/provider-capped"):
        admin.invite("capped", tmp_path / "capped.invite")
    client = rig.hub_client() if identity == "cluster_admin" else rig.client(identity)
    path = "/api/v1/namespaces/provider-capped/serviceaccounts/agent/token"
    assert client.post(path, token_request(86_400))["status"]["token"]
    with pytest.raises(ApiError, match="24 hours"):
        client.post(path, token_request(86_401))
    with pytest.raises(ApiError, match="this API server only"):
        client.post(path, token_request(600, "https://vault.example"))


def test_renewal__sent_again_by_who_listened__is_refused(
    admin: Admin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    invite, key = admitted(admin, "echo", tmp_path)
    sent: list[tuple[str, object]] = []
    post = HubDoor._post

    async def heard(door: HubDoor, path: str, body: object) -> Admission:
        sent.append((path, body))
        return await post(door, path, body)  # type: ignore[arg-type]

    monkeypatch.setattr(HubDoor, "_post", heard)
    assert renew(invite, key).state == "Admitted"
    monkeypatch.undo()
    path, body = sent[0]
    with pytest.raises(DoorRefuses) as error:
        asyncio.run(HubDoor(invite)._post(path, body))  # type: ignore[arg-type]
    assert error.value.reason == "Replayed"
    assert renew(invite, key).state == "Admitted"


def test_rejoin__with_another_key__schedules_nothing_before_it_is_accepted_again(
    admin: Admin, tmp_path: Path
) -> None:
    admitted(admin, "phoenix", tmp_path)
    taken = admin("invite", "phoenix", "--output", str(tmp_path / "taken"))
    assert taken.returncode == 2
    assert "fallow provider rejoin phoenix" in taken.stderr
    ended = admin("rejoin", "phoenix", "--output", str(tmp_path / "again"))
    assert ended.returncode == 0, ended.stderr
    again, key = read_invite(unpacked(tmp_path / "again")), Account.create()
    join(again, key)
    assert renew(again, key).state == "Waiting"
    assert admin.row("phoenix")["state"] == "IdentityChanged"
    ended = admin("accept", "phoenix", "--yes")
    assert "CHANGED     signer was" in ended.stdout
    assert renew(again, key).state == "Admitted"


def test_rotate__makes_old_tokens_worthless_and_the_key_gets_a_new_one(
    rig: Rig, admin: Admin, tmp_path: Path
) -> None:
    invite, key = admitted(admin, "wheel", tmp_path)
    placements = f"{GROUP}/namespaces/provider-wheel/placements"
    old = with_token(rig, str(renew(invite, key).token))
    assert old.get(placements)["items"] == []
    assert admin("rotate", "wheel", "--yes").returncode == 0
    rig.hub_client().until("the old token opens nothing", lambda: refused(old, placements), seconds=15)
    assert with_token(rig, str(renew(invite, key).token)).get(placements)["items"] == []


def test_door__by_another_authority__is_not_believed(admin: Admin, tmp_path: Path) -> None:
    invite = read_invite(admin.invite("fooled", tmp_path / "fooled.invite"))
    other = new_pairs("127.0.0.1", now=datetime.now(UTC)).authority.decode()
    wrong = invite.model_copy(update={"hub": invite.hub.model_copy(update={"authority": other})})
    with pytest.raises(DoorUnreachable):
        join(wrong, Account.create())


def test_door__asked_nonsense__says_what_is_wrong(admin: Admin, tmp_path: Path) -> None:
    invite = read_invite(admin.invite("nonsense", tmp_path / "nonsense.invite"))
    context = ssl.create_default_context(cadata=invite.hub.authority)
    for body in (b"", b"{}", b"[1]", b'{"provider": "UPPER"}', b"x" * 20_000):
        request = urllib.request.Request(f"{invite.hub.url}/v1/join", data=body, method="POST")
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(request, context=context, timeout=10)
        assert error.value.code == 400
        assert json.loads(error.value.read())["reason"] == "Malformed"
