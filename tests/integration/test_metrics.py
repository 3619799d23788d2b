"""The metrics endpoint over HTTP."""

from __future__ import annotations

import aiohttp
import pytest

from fallow.telemetry import Telemetry, serve


async def test_serve__well_and_then_not__healthz_says_so_and_metrics_count() -> None:
    telemetry = Telemetry("hub")
    telemetry.api_requests.labels("hub", "get", "Pod", "200").inc(3)
    problem: str | None = None
    async with (
        serve(telemetry, address="127.0.0.1:0", unwell=lambda: problem) as url,
        aiohttp.ClientSession() as session,
    ):
        async with session.get(f"{url}/healthz") as answer:
            assert (answer.status, await answer.text()) == (200, "ok\n")
        problem = "The watch on Placements is silent."
        async with session.get(f"{url}/healthz") as answer:
            assert (answer.status, await answer.text()) == (503, problem + "\n")
        async with session.get(f"{url}/metrics") as answer:
            assert 'kind="Pod",server="hub",verb="get"} 3.0' in await answer.text()


async def test_serve__off__nothing_listens() -> None:
    async with serve(Telemetry("hub"), address="off") as url:
        assert url is None


async def test_serve__address_taken__raises_and_leaves_nothing_open() -> None:
    async with serve(Telemetry("hub"), address="127.0.0.1:0") as url:
        assert url is not None
        with pytest.raises(OSError, match="address already in use"):
            async with serve(Telemetry("hub"), address=url.removeprefix("http://")):
                pass
