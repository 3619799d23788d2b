"""The hub's door: `POST /v1/join` and `/v1/renew` over TLS, where agents come in by an invite or their key.

Every replica serves it, leading or not: what is granted is written into the Provider's status by
compare-and-set before anything is handed out (`fallow.hub.joining` decides). A process that dies in between
has handed out nothing, and the agent asks again with a later time. Nobody is known before the body is read:
so bodies are small, few are looked at at once, and an outsider learns only that an invite is not valid.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import structlog
from aiohttp import web
from pydantic import BaseModel, ValidationError

from fallow.errors import AlreadyExists, ApiError, Conflict, InvalidSetting, NotFound, Retryable
from fallow.hub import door_certificates
from fallow.hub.door_certificates import Pairs
from fallow.hub.joining import Granted, Refused, judge_join, judge_renewal
from fallow.hub.placements import JSON
from fallow.kube.client import ApiServer
from fallow.kube.compare_and_set import write, write_status
from fallow.kube.kinds import CONFIG_MAP, PROVIDER, SECRET
from fallow.resources import naming
from fallow.resources.joining import (
    JOIN_PATH,
    RENEW_PATH,
    Admission,
    HubTold,
    JoinRequest,
    PaymentsTold,
    Refusal,
    RenewRequest,
)
from fallow.settings import HubSettings

log = structlog.get_logger(__name__)
B = TypeVar("B", bound=BaseModel)

SECRET_NAME = "fallow-join"  # noqa: S105 - a name
"""Holds authority and certificate of the door."""
BODY_BYTES = 16_384
AT_ONCE = 32
"""Requests looked at at once; more are told to come back."""
CERTIFICATE_LOOK_SECONDS = 3600.0
AGAIN_SECONDS = 5.0
_STATUS = {"Malformed": 400, "ClockSkewed": 400, "Replayed": 409, "Removed": 410, "Busy": 429}
_TRIES = 8


async def run_door(settings: HubSettings, api: ApiServer) -> None:
    """Serve joining until cancelled, through any absence of the API server; returns where it is off."""
    if settings.join.address == "off":
        return
    while True:
        try:
            async with serve_door(settings, api):
                await asyncio.Event().wait()
        except (ApiError, OSError, InvalidSetting) as error:
            log.error("joining cannot be served; trying again", why=str(error))
            await asyncio.sleep(AGAIN_SECONDS)


@asynccontextmanager
async def serve_door(
    settings: HubSettings, api: ApiServer, *, unix: Callable[[], float] = time.time
) -> AsyncIterator[str]:
    """Serve joining while the block runs; yields the address it listens on.

    Raises InvalidSetting when a certificate's file cannot be used, ApiErrors when the Secret cannot be had.
    """
    join = settings.join
    host, _, port = join.address.rpartition(":")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority = await _certify(context, settings, api)
    await _tell(settings, api, authority)
    app = web.Application(client_max_size=BODY_BYTES)
    door = Door(settings, api, unix=unix)
    app.router.add_post(JOIN_PATH, door.join)
    app.router.add_post(RENEW_PATH, door.renew)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=10.0)
    await runner.setup()
    looking = asyncio.create_task(_keep_certified(context, settings, api), name="door certificate")
    try:
        await web.TCPSite(runner, host.strip("[]"), int(port), ssl_context=context).start()
        bound = f"{host}:{runner.addresses[0][1]}"
        log.info("joining served", address=bound, url=join.url)
        yield bound
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await runner.cleanup()


class Door:
    """The two requests. `unix` is the wall clock in seconds."""

    def __init__(self, settings: HubSettings, api: ApiServer, *, unix: Callable[[], float]) -> None:
        self._settings = settings
        self._api = api
        self._unix = unix
        self._free = AT_ONCE

    async def join(self, request: web.Request) -> web.Response:
        """Answer `POST /v1/join`."""

        async def answer() -> Admission:
            asked = await _body(request, JoinRequest)
            granted, _ = await self._grant(
                asked.provider,
                lambda provider, now_ms: judge_join(
                    provider, asked, hub_id=self._settings.hub_id, now_ms=now_ms
                ),
            )
            log.info("an invite was answered", provider=asked.provider, signer=asked.signer)
            return Admission(state="Waiting", message=granted.message)

        return await self._answered(answer)

    async def renew(self, request: web.Request) -> web.Response:
        """Answer `POST /v1/renew`."""

        async def answer() -> Admission:
            asked = await _body(request, RenewRequest)
            seconds = self._settings.join.token_seconds
            granted, name = await self._grant(
                asked.provider,
                lambda provider, now_ms: judge_renewal(
                    provider, asked, hub_id=self._settings.hub_id, now_ms=now_ms, token_seconds=seconds
                ),
            )
            if not granted.admitted:
                return Admission(state="Waiting", message=granted.message)
            return await self._admission(name, seconds)

        return await self._answered(answer)

    async def _grant(self, name: str, judge: Callable[[JSON | None, int], Granted]) -> tuple[Granted, str]:
        """Judge a request on the Provider as it is, and record what is granted."""
        for _ in range(_TRIES):
            try:
                provider = await self._api.get(PROVIDER, name)
            except NotFound:
                provider = None
            granted = judge(provider, int(self._unix() * 1000))
            assert provider is not None  # whoever does not exist is refused
            status = {**(provider.get("status") or {}), "identity": granted.identity}
            try:
                await write_status(self._api, PROVIDER, provider, status)
            except Conflict:
                continue
            return granted, name
        raise Refused("Busy", "The hub is busy with this provider: try again.")

    async def _admission(self, provider: str, seconds: int) -> Admission:
        join = self._settings.join
        namespace = naming.provider_namespace(provider)
        token, lifetime = await self._api.create_token("agent", namespace=namespace, seconds=seconds)
        authority = join.api_server_authority.read_text() if join.api_server_authority else None
        return Admission(
            state="Admitted",
            server=join.api_server,
            authority=authority,
            token=token,
            lifetime_seconds=min(lifetime, 86_400),
        )

    async def _answered(self, answer: Callable[[], Awaitable[Admission]]) -> web.Response:
        if self._free == 0:
            return _said(
                429, Refusal(reason="Busy", message="The hub is busy: try again."), {"Retry-After": "2"}
            )
        self._free -= 1
        try:
            admission = await answer()
        except Refused as error:
            log.info("refused at the door", reason=error.reason)
            body = Refusal.model_validate({"reason": error.reason, "message": error.message})
            return _said(_STATUS.get(error.reason, 403), body)
        except Retryable as error:
            log.warning("a request at the door has to wait", why=str(error))
            busy = Refusal(reason="Busy", message="The hub cannot reach its API server: try again.")
            return _said(503, busy, {"Retry-After": "5"})
        except (ApiError, OSError) as error:
            log.error("a request at the door failed", why=str(error))
            failed = Refusal(reason="Busy", message="The hub could not answer; its log says why. Try again.")
            return _said(503, failed, {"Retry-After": "30"})
        finally:
            self._free += 1
        return _said(200 if admission.state == "Admitted" else 202, admission)


async def _body(request: web.Request, model: type[B]) -> B:
    try:
        return model.model_validate_json(await request.read())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise Refused("Malformed", f"{where}: {first['msg']}.") from error
    except web.HTTPRequestEntityTooLarge as error:
        raise Refused("Malformed", f"The body has more than {BODY_BYTES} bytes.") from error


def _said(status: int, body: Admission | Refusal, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response(body.wire(), status=status, headers=headers)


async def _certify(context: ssl.SSLContext, settings: HubSettings, api: ApiServer) -> str:
    """Load the door's certificate into `context`; return the authority to pin, as PEM."""
    join = settings.join
    if join.certificate and join.private_key and join.authority:
        try:
            context.load_cert_chain(join.certificate, join.private_key)
            return join.authority.read_text()
        except (OSError, ssl.SSLError) as error:
            raise InvalidSetting(f"The certificate of --join.certificate cannot be used: {error}") from error
    pairs = await _pairs(settings, api)
    _load(context, pairs)
    return pairs.authority.decode("ascii")


def _load(context: ssl.SSLContext, pairs: Pairs) -> None:
    with tempfile.TemporaryDirectory() as directory:  # an SSLContext reads files only
        certificate, key = Path(directory, "tls.crt"), Path(directory, "tls.key")
        certificate.write_bytes(pairs.certificate)
        key.touch(mode=0o600)
        key.write_bytes(pairs.key)
        context.load_cert_chain(certificate, key)


async def _pairs(settings: HubSettings, api: ApiServer) -> Pairs:
    """Return the Secret's pairs, made or renewed where due; whoever comes second takes the first one's."""
    host = urlsplit(settings.join.url).hostname or ""
    namespace = settings.system_namespace
    for _ in range(_TRIES):
        now = datetime.now(UTC)
        with contextlib.suppress(AlreadyExists, Conflict):
            try:
                secret = await api.get(SECRET, SECRET_NAME, namespace=namespace)
            except NotFound:
                made = door_certificates.new_pairs(host, now=now)
                meta = {"name": SECRET_NAME, "namespace": namespace}
                await api.create(SECRET, {"metadata": meta, "type": "Opaque", "data": made.data()})
                return made
            pairs = Pairs.of_secret(secret)
            if not pairs.serves(host, now=now):
                pairs = door_certificates.renewed(pairs, host, now=now)
                await write(api, SECRET, secret, {"data": pairs.data()})
            return pairs
    raise InvalidSetting(f"The Secret {SECRET_NAME} changes too fast: is another program writing it?")


async def _keep_certified(context: ssl.SSLContext, settings: HubSettings, api: ApiServer) -> None:
    """Look at the certificate every hour: a new one serves all connections from then on."""
    while True:
        await asyncio.sleep(CERTIFICATE_LOOK_SECONDS)
        try:
            await _certify(context, settings, api)
        except Exception:
            log.exception("the door's certificate cannot be renewed; the old one serves on")


async def _tell(settings: HubSettings, api: ApiServer, authority: str) -> None:
    """Publish what an invite has to carry, for `fallow provider invite` to read."""
    payments = settings.payments
    told = HubTold(
        hub_id=settings.hub_id,
        payments=PaymentsTold(
            mode=payments.mode,
            chain_id=payments.chain_id,
            escrow=payments.escrow,
            token=payments.token,
            token_symbol=payments.token_symbol,
            token_decimals=payments.token_decimals,
        ),
        url=settings.join.url,
        authority=authority,
    )
    wanted = {"data": {"hub.json": told.model_dump_json(by_alias=True, exclude_none=True)}}
    meta = {"name": naming.HUB_TOLD, "namespace": settings.system_namespace}
    for _ in range(_TRIES):
        with contextlib.suppress(AlreadyExists, Conflict):
            try:
                found = await api.get(CONFIG_MAP, naming.HUB_TOLD, namespace=settings.system_namespace)
            except NotFound:
                await api.create(CONFIG_MAP, {"metadata": meta, **wanted})
            else:
                await write(api, CONFIG_MAP, found, wanted)
            return
