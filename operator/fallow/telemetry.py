"""What a program tells about itself: structured logs, metrics, and whether it is well.

Nothing happens on import. `configure_logging` is called once by the command line; a `Telemetry`
is made by a program's `main` and handed down; `serve` answers /metrics and /healthz while its
block runs. Kopf and aiohttp log through the standard library: their records take the same way
out, so a log has one format.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal, TextIO

import structlog
from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.aiohttp import make_aiohttp_handler
from structlog.typing import Processor

from fallow import __version__

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


def configure_logging(
    *,
    program: str,
    log_format: Literal["json", "console"] = "json",
    level: str = "info",
    stream: TextIO | None = None,
) -> None:
    """Send structlog's and the standard library's records to `stream` (stderr) in one format.

    Every line carries the program's name. Colours only on a terminal. Called again, it replaces
    what it did before.
    """
    out = stream if stream is not None else sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _named(program),
    ]
    # NB: never with local variables, structlog's default: some of ours are keys and passwords.
    tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    last: list[Processor] = (
        [
            structlog.processors.ExceptionRenderer(tracebacks),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
        if log_format == "json"
        else [
            structlog.dev.ConsoleRenderer(
                colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Kopf and aiohttp say on "info" and below what we say better ourselves; problems still come through.
    for noisy in ("kopf", "aiohttp.access", "asyncio", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.DEBUG if level == "debug" else logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _named(program: str) -> Processor:
    def add(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event.setdefault("program", program)
        return event

    return add


class Telemetry:
    """The metrics of one process, in a registry of their own.

    `program` is a label of `fallow_build_info`. Other parts add their own metrics to `registry`.
    """

    def __init__(self, program: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        Gauge(
            "fallow_build_info", "Version that runs.", ["program", "version"], registry=self.registry
        ).labels(program, __version__).set(1)
        self.api_requests = Counter(
            "fallow_api_requests",
            "Requests to API servers; code 0 means no answer.",
            ["server", "verb", "kind", "code"],
            registry=self.registry,
        )
        self.api_seconds = Histogram(
            "fallow_api_seconds",
            "Time until an API server answered, watches not counted.",
            ["server", "verb", "kind"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.watch_events = Counter(
            "fallow_watch_events",
            "Events that watches brought; type LIST counts objects of (re)lists.",
            ["server", "kind", "type"],
            registry=self.registry,
        )
        self.watch_restarts = Counter(
            "fallow_watch_restarts",
            "Watches opened anew, by why.",
            ["server", "kind", "why"],
            registry=self.registry,
        )
        self.cycle_seconds = Histogram(
            "fallow_cycle_seconds",
            "Time of one decision cycle, writes not counted.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.writes = Counter(
            "fallow_writes",
            "Writes that writers carried out, by how they ended.",
            ["result"],
            registry=self.registry,
        )
        self.writes_waiting = Gauge(
            "fallow_writes_waiting", "Writes submitted and not yet done.", registry=self.registry
        )
        self.leading = Gauge(
            "fallow_leading", "1 while this process holds its lease.", registry=self.registry
        )


@asynccontextmanager
async def serve(
    telemetry: Telemetry, *, address: str, unwell: Callable[[], str | None] = lambda: None
) -> AsyncIterator[str | None]:
    """Answer /metrics and /healthz at `address` while the block runs; yields the URL.

    `address` is "host:port" (port 0: any free one) or "off", which serves nothing and yields
    None. `unwell` says in one sentence what is wrong, or None: /healthz then answers 200 "ok" or
    503 with the sentence. Raises OSError when the address cannot be bound.
    """
    if address == "off":
        yield None
        return
    host, _, port = address.rpartition(":")

    async def healthz(_request: web.Request) -> web.Response:
        problem = unwell()
        return web.Response(text=(problem or "ok") + "\n", status=503 if problem else 200)

    app = web.Application()
    app.router.add_get("/metrics", make_aiohttp_handler(telemetry.registry))
    app.router.add_get("/healthz", healthz)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host.strip("[]"), int(port))
        await site.start()
        bound = runner.addresses[0]
        url = f"http://{host}:{bound[1]}"
        structlog.get_logger(__name__).info("metrics served", url=url)
        yield url
    finally:
        await runner.cleanup()
