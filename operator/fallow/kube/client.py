"""One API server, asked with raw JSON.

Objects are plain dictionaries decoded by msgspec (a hundred times cheaper than client models).
Every request has a time-out. What a server says becomes one of `fallow.errors` (see `answers`).
Nothing is repeated behind the caller's back, but for two cases in which the request cannot
have been served: a kept-alive connection that the server had closed (aiohttp's own rule for
idempotent methods), and a 401 whose token has been renewed since.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self, cast

import aiohttp
import msgspec

from fallow import __version__
from fallow.errors import Gone
from fallow.kube.answers import JSON, error_from_answer, no_answer
from fallow.kube.resource import POD, SERVICE_ACCOUNT, Resource
from fallow.kube.stream import WatchEvent, events_of, hang_up
from fallow.telemetry import Telemetry

__all__ = ["JSON", "ApiServer", "Listing", "WatchEvent"]

_MERGE_PATCH = "application/merge-patch+json"
_JSON = "application/json"
_BRIEF = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
"""Asks for an answer without spec and status: for who wrote them and keeps none of it."""
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class Credentials(Protocol):
    """Where an API server is and how to prove who we are: a `Connection`, or a `ServiceAccount`."""

    @property
    def server(self) -> str:
        """Base URL without a slash at the end."""

    @property
    def proxy(self) -> str | None:
        """URL of a proxy to go through, or None."""

    @property
    def server_hostname(self) -> str | None:
        """Name to expect in the server's certificate where it is not the URL's, or None."""

    def ssl_context(self) -> ssl.SSLContext | bool:
        """Make the TLS context."""

    async def authorization(self, *, rejected: str | None = None) -> str | None:
        """Return the Authorization header; `rejected` is the one that the server just refused."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A consistent list: all objects as of one resource version."""

    items: list[JSON]
    resource_version: str


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a consistent list."""

    items: list[JSON]
    resource_version: str
    """Of the list: the same on all its pages."""
    starts: bool
    """Whether it is the first: what came before belongs to a list that was given up."""


class ApiServer:
    """Requests to one API server with one identity. Use as an async context manager.

    `name` ("hub", "member") labels its metrics. `timeout_seconds` bounds each request, watches
    not counted.
    """

    def __init__(
        self,
        connection: Credentials,
        *,
        name: str,
        telemetry: Telemetry | None = None,
        timeout_seconds: float = 10.0,
    ) -> None:
        self.name = name
        self.connection = connection
        self.telemetry = telemetry
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=min(5.0, timeout_seconds))
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    async def connect(
        cls,
        kubeconfig: Path | None,
        *,
        name: str,
        telemetry: Telemetry | None = None,
        timeout_seconds: float = 10.0,
    ) -> Self:
        """Read credentials (see `Connection.load`); nothing is sent yet."""
        # NB: late, since it brings Kopf and the official client, which not every program has room for.
        from fallow.kube.config import Connection

        connection = await Connection.load(kubeconfig)
        return cls(connection, name=name, telemetry=telemetry, timeout_seconds=timeout_seconds)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self.connection.ssl_context()),
            headers={"User-Agent": f"fallow/{__version__}", "Accept": _JSON},
            proxy=self.connection.proxy,
            raise_for_status=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
            await asyncio.sleep(0)  # dropped connections end in the loop's next round

    async def get(
        self, resource: Resource, name: str, *, namespace: str | None = None, cached: bool = False
    ) -> JSON:
        """Return one object. Raises NotFound and the other ApiErrors.

        `cached` takes it from the server's cache, a moment old perhaps: cheap, and right for what
        never changes.
        """
        path = resource.path(namespace=namespace, name=name)
        query = {"resourceVersion": "0"} if cached else None
        return await self._request("GET", "get", resource, path, query=query)

    async def list(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        field_selector: str | None = None,
        label_selector: str | None = None,
        page_size: int = 500,
    ) -> Listing:
        """Return all objects as of one moment, fetched in pages of `page_size`: see `pages`."""
        items: list[JSON] = []
        at = ""
        async for page in self.pages(
            resource,
            namespace=namespace,
            field_selector=field_selector,
            label_selector=label_selector,
            page_size=page_size,
        ):
            if page.starts:
                items.clear()
            items += page.items
            at = page.resource_version
        return Listing(items, at)

    async def versions(self, resource: Resource) -> dict[tuple[str, str], int]:
        """Return (namespace, name) and resource version of all objects there are: their metadata only."""
        answer = await self._request(
            "GET", "list", resource, resource.path(), accept=_METADATA_ONLY, query={"resourceVersion": ""}
        )
        found = (item["metadata"] for item in answer.get("items") or ())
        return {(meta.get("namespace") or "", meta["name"]): int(meta["resourceVersion"]) for meta in found}

    async def pages(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        field_selector: str | None = None,
        label_selector: str | None = None,
        page_size: int = 500,
    ) -> AsyncIterator[Page]:
        """Yield all objects as of one moment, in pages of `page_size`.

        The list asks for no resource version and is thereby the newest state (never what a
        lagging server's cache holds); its pages all show that one moment. Where a page's token
        ends before the last page is fetched, all is asked for again in one page, which `starts`
        anew.
        """
        path = resource.path(namespace=namespace)
        query = _selectors(field_selector, label_selector)
        token, starts = "", True
        while True:
            more = {"continue": token} if token else {}
            limit = {"limit": str(page_size)} if page_size else {}
            try:
                page = await self._request("GET", "list", resource, path, query={**query, **limit, **more})
            except Gone:
                if not token:
                    raise
                token, page_size, starts = "", 0, True
                continue
            for item in page["items"]:  # lists of built-in kinds leave out what the list itself says
                item.setdefault("apiVersion", resource.api_version)
                item.setdefault("kind", resource.kind)
            yield Page(page["items"], page["metadata"]["resourceVersion"], starts)
            starts = False
            token = page["metadata"].get("continue") or ""
            if not token:
                return

    async def create(self, resource: Resource, obj: Mapping[str, Any]) -> JSON:
        """Create an object in the namespace that its metadata names.

        Raises AlreadyExists: done only if the UID label of what is there is ours.
        """
        body = {"apiVersion": resource.api_version, "kind": resource.kind, **obj}
        namespace = obj["metadata"].get("namespace")
        path = resource.path(namespace=namespace)
        return await self._request("POST", "create", resource, path, body=body)

    async def create_token(self, account: str, *, namespace: str, seconds: int) -> tuple[str, int]:
        """Return a service account's token and how many seconds it lasts, which the server may shorten."""
        path = SERVICE_ACCOUNT.path(namespace=namespace, name=account, subresource="token")
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        answer = await self._request("POST", "create", SERVICE_ACCOUNT, path, body=body)
        status = answer["status"]
        made = answer["metadata"].get("creationTimestamp")
        if made:
            ends = datetime.fromisoformat(status["expirationTimestamp"])
            seconds = min(seconds, int((ends - datetime.fromisoformat(made)).total_seconds()))
        return str(status["token"]), seconds

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Mapping[str, Any],
        *,
        namespace: str | None = None,
        subresource: str | None = None,
        brief: bool = False,
    ) -> JSON:
        """Apply a JSON merge patch (RFC 7386). With metadata.resourceVersion in it: Conflict if stale.

        `brief` returns the object's metadata only.
        """
        path = resource.path(namespace=namespace, name=name, subresource=subresource)
        accept = _BRIEF if brief else _JSON
        return await self._request(
            "PATCH", "patch", resource, path, body=patch, content_type=_MERGE_PATCH, accept=accept
        )

    async def patch_status(
        self, resource: Resource, name: str, patch: Mapping[str, Any], *, namespace: str | None = None
    ) -> JSON:
        """Apply a merge patch to the status subresource; `patch` holds the key `status`."""
        return await self.patch(resource, name, patch, namespace=namespace, subresource="status")

    async def replace(
        self, resource: Resource, obj: Mapping[str, Any], *, subresource: str | None = None
    ) -> JSON:
        """Put an object in place of the one it was read from. Raises Conflict if that changed."""
        meta = obj["metadata"]
        path = resource.path(namespace=meta.get("namespace"), name=meta["name"], subresource=subresource)
        body = {"apiVersion": resource.api_version, "kind": resource.kind, **obj}
        return await self._request("PUT", "update", resource, path, body=body)

    async def delete(
        self,
        resource: Resource,
        name: str,
        *,
        namespace: str | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
        grace_seconds: int | None = None,
        propagation: Literal["Background", "Foreground", "Orphan"] = "Background",
    ) -> JSON:
        """Delete an object; with `uid` or `resource_version`, only that very one (else Conflict).

        Returns the object in its last state (where it still has finalizers or a grace period) or
        a Status. Raises NotFound when it is gone already.
        """
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        options: JSON = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
            "preconditions": {key: value for key, value in preconditions.items() if value is not None},
        }
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        path = resource.path(namespace=namespace, name=name)
        return await self._request("DELETE", "delete", resource, path, body=options)

    async def delete_all(self, resource: Resource, *, namespace: str, label_selector: str) -> int:
        """Delete all objects of a namespace that carry a label, in one request; returns how many."""
        query = _selectors(None, label_selector)
        answer = await self._request(
            "DELETE",
            "deletecollection",
            resource,
            resource.path(namespace=namespace),
            query=query,
            accept=_METADATA_ONLY,
        )
        return len(answer.get("items") or ())

    @asynccontextmanager
    async def watch(
        self,
        resource: Resource,
        *,
        resource_version: str,
        namespace: str | None = None,
        field_selector: str | None = None,
        label_selector: str | None = None,
        timeout_seconds: int = 300,
        silence_seconds: float = 90.0,
    ) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        """Open a watch from `resource_version` on; the block gets an iterator over its events.

        The iterator ends when the server ends the watch (after `timeout_seconds`). It raises Gone
        when the position is too old, Timeout when nothing (not even a bookmark) came for
        `silence_seconds`, Unavailable when the connection was cut.
        """
        query = {
            **_selectors(field_selector, label_selector),
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(timeout_seconds),
        }
        limits = aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=silence_seconds)
        path = resource.path(namespace=namespace)
        what = f"watch {resource.kind}"
        response = await self._send("GET", "watch", resource, path, query=query, timeout=limits)
        try:
            if response.status != 200:
                raise error_from_answer(response.status, await response.read(), response.headers, what)
            yield events_of(response, what)
        finally:
            hang_up(response)

    async def pod_log(
        self, name: str, *, namespace: str, container: str, tail_lines: int, limit_bytes: int
    ) -> str:
        """Return the last lines of a container's log, of which its node sends at most `limit_bytes`."""
        path = POD.path(namespace=namespace, name=name, subresource="log")
        query = {"tailLines": str(tail_lines), "limitBytes": str(limit_bytes)}
        if container:
            query["container"] = container
        what = f"get log of Pod {name}"
        try:
            response = await self._send("GET", "log", POD, path, query=query)
            async with response:
                body = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise no_answer(error, what) from error
        if response.status >= 400:
            raise error_from_answer(response.status, body, response.headers, what)
        return body.decode(errors="replace")

    async def raw(self, path: str) -> bytes:
        """Return what a GET of any path answers, such as "/readyz"."""
        resource = Resource("", "", path, path.partition("?")[0], namespaced=False)
        response = await self._send("GET", "raw", resource, path)
        async with response:
            body = await response.read()
            if response.status >= 400:
                raise error_from_answer(response.status, body, response.headers, f"GET {path}")
            return body

    async def _request(
        self,
        method: str,
        verb: str,
        resource: Resource,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = _JSON,
        accept: str = _JSON,
    ) -> JSON:
        what = f"{verb} {resource.kind} {path.rsplit('/', 1)[-1]}"
        data = None if body is None else msgspec.json.encode(body)
        try:
            response = await self._send(
                method, verb, resource, path, query=query, data=data, content_type=content_type, accept=accept
            )
            async with response:
                answer = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise no_answer(error, what) from error
        if response.status >= 400:
            raise error_from_answer(response.status, answer, response.headers, what)
        return cast(JSON, msgspec.json.decode(answer))

    async def _send(
        self,
        method: str,
        verb: str,
        resource: Resource,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        data: bytes | None = None,
        content_type: str = _JSON,
        accept: str = _JSON,
        timeout: aiohttp.ClientTimeout | None = None,  # noqa: ASYNC109 - aiohttp's own, of three parts
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            raise RuntimeError("ApiServer is used outside its `async with` block")
        started = asyncio.get_running_loop().time()
        code = "0"
        rejected: str | None = None
        try:
            while True:
                header = await self.connection.authorization(rejected=rejected)
                headers = {"Accept": accept}
                if data is not None:
                    headers["Content-Type"] = content_type
                if header is not None:
                    headers["Authorization"] = header
                response = await self._session.request(
                    method,
                    self.connection.server + path,
                    params=query,
                    data=data,
                    headers=headers,
                    timeout=timeout or self._timeout,
                    server_hostname=self.connection.server_hostname,
                    allow_redirects=False,
                )
                code = str(response.status)
                if response.status == 401 and header is not None and rejected is None:
                    rejected = header
                    if await self.connection.authorization(rejected=rejected) != header:
                        response.release()
                        continue
                return response
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise no_answer(error, f"{verb} {resource.kind}") from error
        finally:
            if self.telemetry is not None:
                kind = resource.kind
                self.telemetry.api_requests.labels(self.name, verb, kind, code).inc()
                seconds = asyncio.get_running_loop().time() - started
                self.telemetry.api_seconds.labels(self.name, verb, kind).observe(seconds)


def _selectors(field_selector: str | None, label_selector: str | None) -> dict[str, str]:
    query = {"fieldSelector": field_selector, "labelSelector": label_selector}
    return {key: value for key, value in query.items() if value}
