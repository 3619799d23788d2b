"""A door before a signing server: TLS, a token, and on request lies, silence or refusals.

What it answers was really signed by the server behind it; when it lies, by having that sign something
else than it was asked for.
"""

from __future__ import annotations

import json
import ssl
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from devkit.rig.certificates import Authority

TOKEN = "only-for-the-settler"


class SignerRelay:
    """The door, on 127.0.0.1, for as long as the block lasts; its files lie in `directory`."""

    def __init__(self, upstream: str, directory: Path) -> None:
        self._upstream = upstream
        self.lies = False
        self.is_down = False
        self.asked: list[str] = []
        directory.mkdir(exist_ok=True)
        authority = Authority("signer")
        pair = authority.server()
        self.ca_file, self.token_file = directory / "ca.crt", directory / "token"
        for path, data in (
            (self.ca_file, authority.certificate),
            (directory / "tls.crt", pair.certificate),
            (directory / "tls.key", pair.key),
        ):
            path.write_bytes(data if isinstance(data, bytes) else data.encode())
        self.token_file.write_text(TOKEN + "\n")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "tls.crt", directory / "tls.key")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"

    def settings(self, address: str) -> dict[str, Any]:
        """Return the settler's settings that go through this door."""
        return {
            "operator__keystore": None,
            "operator__password_file": None,
            "signer__url": self.url,
            "signer__address": address,
            "signer__ca_file": str(self.ca_file),
            "signer__token_file": str(self.token_file),
        }

    def __enter__(self) -> SignerRelay:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: dict[str, Any]) -> bytes:
        self.asked.append(request["method"])
        if self.lies and request["method"] == "eth_signTransaction":
            request["params"][0]["value"] = "0x1"
        elif self.lies:
            request["params"][1]["message"]["epoch"] += 1
        body = json.dumps(request).encode()
        headers = {"content-type": "application/json"}
        with urllib.request.urlopen(
            urllib.request.Request(self._upstream, data=body, headers=headers), timeout=30
        ) as response:
            return bytes(response.read())

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        relay = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if relay.is_down:
                    self.close_connection = True
                    return
                known = self.headers.get("authorization") == f"Bearer {TOKEN}"
                answer = relay._answer(request) if known else b"who are you?"
                self.send_response(200 if known else 401)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args: object) -> None:
                pass

        return Handler
