"""The probe at work: look, judge, tell, on one node, for as long as it stands.

Every period one look (in a thread of its own: a sick device can hold a query for seconds), one
judgement, and a write to the Node only when the judgement says something new. The API server may be
away: looking and metrics go on. /healthz says 503 when only a restart helps, and when a look hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from fallow.errors import FallowError
from fallow.kube.client import ApiServer
from fallow.kube.service_account import ServiceAccount
from fallow.probe.consequences import AtStart
from fallow.probe.explaining import CgroupPodResources
from fallow.probe.judging import Judge, Rules
from fallow.probe.metrics import ProbeMetrics
from fallow.probe.nvml import Nvml, Unusable
from fallow.probe.publishing import Publisher
from fallow.probe.readings import Host, Sample
from fallow.probe.xids import OF_THE_APPLICATION, in_words
from fallow.telemetry import Telemetry, serve

if TYPE_CHECKING:  # NB: only for its name, see `fallow.probe.app`
    from fallow.settings import ProbeSettings

log = structlog.get_logger(__name__)

_GAP_PERIODS = 3
"""A pause of more than this many periods between samples starts an idle window anew."""
_STUCK_SECONDS = 60.0
"""A look that takes longer than this makes the probe unwell: the driver holds it."""


async def run_probe(settings: ProbeSettings) -> None:
    """Run the probe until a signal arrives. Raises SettingsError for unusable credentials."""
    telemetry = Telemetry("probe")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with await _api(settings, telemetry) as api:
        probe = Probe(settings, api, telemetry)
        async with serve(telemetry, address=settings.metrics_address, unwell=probe.unwell):
            # What start-up made stays for good: the collector need not walk it again every time.
            gc.collect()
            gc.freeze()
            await probe.work(stop)
    log.info("stopped")


async def _api(settings: ProbeSettings, telemetry: Telemetry) -> ApiServer:
    if settings.kubeconfig is not None:
        return await ApiServer.connect(Path(settings.kubeconfig), name="member", telemetry=telemetry)
    account = ServiceAccount.load(Path(settings.service_account), os.environ)
    return ApiServer(account, name="member", telemetry=telemetry)


class Probe:
    """The probe's parts, wired; lives for one process."""

    def __init__(
        self,
        settings: ProbeSettings,
        api: ApiServer,
        telemetry: Telemetry,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._monotonic = monotonic
        self._now = now
        self._nvml = Nvml()
        self._owners = CgroupPodResources(Path(settings.proc))
        self._judge = Judge(
            Rules(
                idle_window_seconds=settings.idle.window_seconds,
                gap_seconds=_GAP_PERIODS * settings.period_seconds,
                recovery_seconds=settings.health.recovery_seconds,
                memory_floor_mib=settings.idle.memory_floor_mib,
                ignored_xids=OF_THE_APPLICATION | set(settings.health.ignored_xids),
            ),
            host=host(Path(settings.proc)),
            owners=self._owners,
        )
        self._publisher = Publisher(
            api,
            node=settings.node_name,
            look_again_seconds=settings.look_again_seconds,
            monotonic=monotonic,
        )
        self._metrics = ProbeMetrics(telemetry.registry, hostname=settings.node_name)
        self._resumed = False
        self._health_due = float("-inf")
        self._looking_since: float | None = None
        self._broken = ""
        self._refused = ""

    def unwell(self) -> str | None:
        """Return what only a restart (or a person) mends, for /healthz."""
        since = self._looking_since
        if since is not None and self._monotonic() - since > _STUCK_SECONDS:
            return "A look at the devices has not come back for a minute: the driver holds it."
        return self._broken or None

    async def work(self, stop: asyncio.Event) -> None:
        """Look, judge and tell, every period, until stopped."""
        with ThreadPoolExecutor(1, thread_name_prefix="nvml") as thread:
            while not stop.is_set():
                started = self._monotonic()
                await self._once(thread)
                wait = max(0.0, started + self._settings.period_seconds - self._monotonic())
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), wait)
            thread.submit(self._nvml.close)

    async def _once(self, thread: ThreadPoolExecutor) -> None:
        # 1. Look.
        now = self._looking_since = self._monotonic()
        health = now >= self._health_due
        if health:
            self._health_due = now + self._settings.health.period_seconds
        look = await asyncio.get_running_loop().run_in_executor(
            thread, lambda: self._nvml.look(health=health)
        )
        self._looking_since = None
        look = doubted(look, proc=Path(self._settings.proc))
        self._note(look)
        # 2. Judge, going on from what an earlier process told.
        now = self._monotonic()
        resumed = await self._resume(now)
        report = self._judge.report(look, now=now, time=self._now())
        sample = look if isinstance(look, Sample) else None
        self._metrics.tell(sample, report, joules=self._judge.energy.running())
        self._owners.next_look()
        # 3. Tell, when it is news.
        if resumed:
            try:
                wrote = await self._publisher.publish(report)
            except FallowError as error:
                self._could_not_tell(error)
            else:
                self._refused = ""
                if wrote:
                    self._metrics.publications.labels("written").inc()
                    log.info("report written", state=report.state, devices=len(report.devices))

    async def _resume(self, now: float) -> bool:
        """Read the earlier report once; nothing is written before, or what it knows would be lost."""
        if not self._resumed:
            try:
                earlier = await self._publisher.earlier()
            except FallowError as error:
                self._could_not_tell(error)
                return False
            if earlier is not None:
                self._judge.resume(earlier, now=now)
            self._resumed = True
        return True

    def _could_not_tell(self, error: FallowError) -> None:
        self._metrics.publications.labels("failed").inc()
        if str(error) != self._refused:  # said once, not every period
            self._refused = str(error)
            log.warning("report not written", error=str(error))

    def _note(self, look: Sample | Unusable) -> None:
        if isinstance(look, Sample):
            self._broken = ""
            for xid in look.xids:
                log.warning("error event", device=xid.key, xid=xid.number, words=in_words(xid.number))
            return
        broken = look.message if look.consequence is AtStart.RESTART else ""
        if broken and broken != self._broken:
            log.error("NVML unusable", message=look.message)
        self._broken = broken


def doubted(look: Sample | Unusable, *, proc: Path) -> Sample | Unusable:
    """Return the look, unless it takes a node for one without devices whose kernel has the driver loaded.

    Then only this container lacks the library: the container runtime did not put it there.
    """
    if not isinstance(look, Unusable) or look.consequence is not AtStart.CPU_ONLY:
        return look
    if not (proc / "driver" / "nvidia" / "version").exists():
        return look
    message = (
        "The NVIDIA driver is loaded, but its library is not in this container: does the probe run with the"
        " NVIDIA container runtime?"
    )
    return Unusable(AtStart.RESTART, message)


def host(proc: Path) -> Host:
    """Return the machine's processors and memory. Raises OSError without /proc/meminfo."""
    kib = next(
        int(line.split()[1])
        for line in (proc / "meminfo").read_text().splitlines()
        if line.startswith("MemTotal:")
    )
    return Host(cpu_count=os.cpu_count() or 1, memory_mib=kib // 1024)
