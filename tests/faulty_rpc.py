"""A replica that misbehaves: an RPC endpoint before a real anvil, which can lag, lie, hang, or swallow.

What it answers comes from the anvil behind it; only what a faulty replica would change is changed.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


class FaultyRpc:
    """An endpoint on 127.0.0.1 for as long as the block lasts."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self.frozen_at: int | None = None
        """Answers as of this block: a replica that stopped following."""
        self.lies = False
        """Shows blocks of another chain."""
        self.hangs = False
        """Takes requests and never answers."""
        self.swallows = False
        """Says that it took a transaction and tells nobody."""
        self.asked = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FaultyRpc:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hangs = False
        self._server.shutdown()
        self._server.server_close()

    def freeze(self) -> None:
        """Stay at the newest block."""
        self.frozen_at = int(self.ask("eth_blockNumber"), 16)

    def ask(self, method: str, *parameters: Any) -> Any:
        """Ask the anvil behind."""
        return self._forward({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(parameters)})[
            "result"
        ]

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        self.asked += 1
        while self.hangs:
            time.sleep(0.05)
        method, parameters = request["method"], request.get("params") or []
        if method == "eth_sendRawTransaction" and self.swallows:
            return {"jsonrpc": "2.0", "id": request["id"], "result": "0x" + "00" * 32}
        if self.frozen_at is not None:
            if method == "eth_blockNumber":
                return {"jsonrpc": "2.0", "id": request["id"], "result": hex(self.frozen_at)}
            request = {**request, "params": [hex(self.frozen_at) if p == "latest" else p for p in parameters]}
        answer = self._forward(request)
        if self.lies and method == "eth_getBlockByNumber" and answer.get("result"):
            answer["result"]["hash"] = "0x" + answer["result"]["hash"][2:][::-1]
        return answer

    def _forward(self, request: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps(request).encode()
        asked = urllib.request.Request(
            self._upstream, data=body, headers={"content-type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=30) as response:
            found: dict[str, Any] = json.load(response)
            return found

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        faulty = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["content-length"])))
                try:
                    answers = (
                        [faulty._answer(each) for each in request]
                        if isinstance(request, list)
                        else faulty._answer(request)
                    )
                    answer = json.dumps(answers).encode()
                except OSError:  # the chain behind is gone: so is this
                    self.close_connection = True
                    return
                try:
                    self.send_response(200)
                    self.send_header("content-type", "application/json")
                    self.send_header("content-length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)
                except OSError:
                    self.close_connection = True

            def log_message(self, *args: object) -> None:
                pass

        return Handler
