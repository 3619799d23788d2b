"""A small, synchronous client for the rig's own API servers: JSON in, JSON out, nothing cached.

Fallow's own clients are what the rig is there to test, so the rig does not use them.
"""

import base64
import copy
import http.client
import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from devkit.errors import RigError

Json = dict[str, Any]
_TIMEOUT_SECONDS = 30.0


class ApiError(RigError):
    """An API server's refusal: its HTTP status and its message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class ApiServer:
    """One API server with one identity; several threads may use it at once."""

    def __init__(self, *, host: str, port: int, context: ssl.SSLContext, token: str | None = None) -> None:
        self._host = host
        self._port = port
        self._context = context
        self._token = token
        self._kept: http.client.HTTPSConnection | None = None

    @classmethod
    def from_kubeconfig(cls, path: Path) -> "ApiServer":
        """Make a client from a kubeconfig as the rig writes them: one cluster, one user, data inside."""
        config = json.loads(path.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        context = ssl.create_default_context(cadata=_decoded(cluster["certificate-authority-data"]))
        if "client-certificate-data" in user:
            # The standard library loads a client's pair from files only.
            pair = path.with_suffix(".pem")
            pair.touch(mode=0o600)
            pair.write_text(_decoded(user["client-certificate-data"]) + _decoded(user["client-key-data"]))
            context.load_cert_chain(pair)
        host, port = cluster["server"].removeprefix("https://").split(":")
        return cls(host=host, port=int(port), context=context, token=user.get("token"))

    def get(self, path: str, **query: str) -> Json:
        return self.request("GET", path, query=query)

    def post(self, path: str, body: Json) -> Json:
        """Create an object. A field that its kind does not know is an error, not a loss."""
        return self.request("POST", path, query={"fieldValidation": "Strict"}, body=body)

    def delete(self, path: str, **query: str) -> Json:
        return self.request("DELETE", path, query=query)

    def merge(self, path: str, body: Json) -> Json:
        """Send a JSON merge patch."""
        return self.request("PATCH", path, body=body, content="application/merge-patch+json")

    def apply(self, path: str, body: Json) -> Json:
        """Server-side apply: create or bring to `body`, as the field manager `rig`."""
        query = {"fieldManager": "rig", "force": "true", "fieldValidation": "Strict"}
        return self.request("PATCH", path, query=query, body=body, content="application/apply-patch+yaml")

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        content: str = "application/json",
    ) -> Json:
        """Send one request; raises ApiError for a refusal and OSError when there is no answer."""
        headers = {"Accept": "application/json", "Content-Type": content}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        address = f"{path}?{urlencode(query)}" if query else path
        with self._connection() as connection:
            connection.request(method, address, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            text = answer.read()
        if answer.status >= 300:
            raise ApiError(answer.status, _message(text))
        return json.loads(text) if text[:1] == b"{" else {"text": text.decode()}

    def watch(self, path: str, **query: str) -> Iterator[Json]:
        """Yield watch events in the order the API server has them, until it ends the stream."""
        headers = {"Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        with self._connection() as connection:
            connection.request("GET", f"{path}?{urlencode({**query, 'watch': '1'})}", headers=headers)
            answer = connection.getresponse()
            if answer.status >= 300:
                raise ApiError(answer.status, _message(answer.read()))
            for line in answer:
                yield json.loads(line)

    def until(
        self,
        what: str,
        done: Callable[[], bool],
        *,
        seconds: float,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        """Return once `done` holds; refusals and broken connections mean not yet.

        `alive` is asked in between and raises when waiting has become pointless. Raises RigError after
        `seconds` with the last refusal.
        """
        deadline = time.monotonic() + seconds
        last: Exception | None = None
        while True:
            try:
                if done():
                    return
            except (OSError, http.client.HTTPException, ApiError) as error:
                last = error
            alive()
            if time.monotonic() > deadline:
                raise RigError(f"Waited {seconds:.0f} s for {what} in vain" + (f": {last}" if last else "."))
            time.sleep(0.05)

    @contextmanager
    def kept_open(self) -> Iterator["ApiServer"]:
        """Lend a client that sends all its requests over one connection; for one thread and many requests."""
        with self._connection() as connection:
            client = copy.copy(self)
            client._kept = connection
            yield client

    @contextmanager
    def _connection(self) -> Iterator[http.client.HTTPSConnection]:
        """Lend a connection for one request: a handshake costs 2 ms and leaves nothing open."""
        if self._kept is not None:
            yield self._kept
            return
        connection = http.client.HTTPSConnection(
            self._host, self._port, timeout=_TIMEOUT_SECONDS, context=self._context
        )
        try:
            yield connection
        finally:
            connection.close()


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()


def _message(text: bytes) -> str:
    try:
        return str(json.loads(text).get("message") or text.decode(errors="replace"))
    except ValueError:
        return text.decode(errors="replace")
