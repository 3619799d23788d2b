"""The hub's leader is ended 25 times under a load of jobs; a warm standby goes on, and no task runs twice.

Two hubs on one rig. A job every third of a second keeps decisions coming; what counts as one is a Placement
that the API server tells a watcher of. Twenty times the leader gets SIGKILL at a random moment, five times
SIGTERM; whichever was ended starts again at once and stands by, as a Deployment's pod would. FALLOW_SOAK_SEED
chooses the seed (else random, printed), FALLOW_SOAK_KILLS how many of the first.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import secrets
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from devkit.errors import DevkitError
from devkit.rig import ApiError, ApiServer, Rig, up
from devkit.scenario.invariants import assert_nothing_is_paid_twice
from devkit.scenario.pod_log import PodLog
from devkit.scenario.submitting import GROUP, JOBS, a_job, condition

LEASE = "/apis/coordination.k8s.io/v1/namespaces/fallow-system/leases/fallow-hub"
KILLED_LIMIT_SECONDS, STOPPED_LIMIT_SECONDS = 15.0, 3.0
"""From the leader's end to its successor's first decision."""
JOB_EVERY_SECONDS = 0.33
PATIENCE_SECONDS = 120.0
STOPS = 5


def run() -> dict[str, Any]:
    """Run on a rig of its own; raises DevkitError with the broken promise and the seed."""
    seed = int(os.environ.get("FALLOW_SOAK_SEED") or secrets.randbelow(2**32))
    kills = int(os.environ.get("FALLOW_SOAK_KILLS") or 20)
    state = Path(tempfile.mkdtemp(prefix="fallow-ha-"))
    print(f"ha seed {seed}")
    with up(state, payments="ledger", say=print) as rig:
        try:
            return {"seed": seed, **_ended(rig, random.Random(seed), kills=kills)}
        except AssertionError as error:
            raise DevkitError(
                f"{error}\nAgain with: FALLOW_SOAK_SEED={seed} hack/soak ha\nLogs: {state / 'logs'}"
            ) from error


class Decisions:
    """Every Placement as a watcher hears of it: when, and under which term."""

    def __init__(self, client: ApiServer) -> None:
        self._client = client
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self.seen: list[tuple[float, int]] = []

    def __enter__(self) -> Decisions:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()

    def _follow(self) -> None:
        path = f"{GROUP}/placements"
        position = self._client.get(path)["metadata"]["resourceVersion"]
        while not self._stopping.is_set():
            for event in self._client.watch(
                path, resourceVersion=position, allowWatchBookmarks="true", timeoutSeconds="20"
            ):
                if event["type"] == "ERROR":
                    return
                position = event["object"]["metadata"]["resourceVersion"]
                if event["type"] == "ADDED":
                    self.seen.append((time.monotonic(), event["object"]["spec"]["term"]))

    def first_after(self, term: int) -> float:
        """Wait for the first decision of a later term; return when it was."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            found = next((at for at, of in list(self.seen) if of > term), None)
            if found is not None:
                return found
            assert time.monotonic() < deadline, f"nobody decides after term {term}"
            time.sleep(0.02)

    def longest_gap(self) -> float:
        """Return the longest time without a decision, in seconds."""
        times = [at for at, _ in self.seen]
        return max((later - earlier for earlier, later in itertools.pairwise(times)), default=0.0)


class Load:
    """Submits a small job every third of a second, from a thread."""

    def __init__(self, client: ApiServer) -> None:
        self._client = client
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._submit, daemon=True)
        self.jobs: list[dict[str, Any]] = []

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _submit(self) -> None:
        while not self._stopping.wait(JOB_EVERY_SECONDS):
            self.jobs.append(self._client.post(JOBS, a_job(2, run_seconds=2)))


def _ended(rig: Rig, dice: random.Random, *, kills: int) -> dict[str, Any]:
    first = rig.fallow["hub"]
    hubs = [first, f"{first}-standby"]
    saved = json.loads((rig.state / "run" / f"{first}.json").read_text())
    environ = {**saved["environ"], "FALLOW_METRICS_ADDRESS": "off"}
    rig.processes.start(hubs[1], saved["command"], environ=environ)
    client = rig.hub_client()
    orders = [signal.SIGKILL] * kills + [signal.SIGTERM] * STOPS
    dice.shuffle(orders)
    took: dict[signal.Signals, list[float]] = {signal.SIGKILL: [], signal.SIGTERM: []}
    with PodLog(rig.members["aurora"]) as aurora, PodLog(rig.members["borealis"]) as borealis:
        with Decisions(rig.hub_client()) as decisions, Load(rig.client("submitter")) as load:
            decisions.first_after(0)
            for order in orders:
                time.sleep(dice.uniform(1.0, 4.0))  # the moment is the fault, not a wait
                name, term = _leader(rig, client, hubs)
                identity = rig.processes.identity(name)
                assert identity is not None
                at = time.monotonic()
                os.kill(identity.pid, order)
                took[order].append(decisions.first_after(term) - at)
                _gone(rig, name)
                rig.processes.start_again(name)
        _all_done(rig, [one["metadata"]["name"] for one in load.jobs])
        for log in (aurora, borealis):
            log.catch_up()
        twice = [
            (job["metadata"]["name"], index)
            for job in load.jobs
            for index in range(2)
            if sum(len(log.pods_of(job["metadata"]["uid"]).get(index, ())) for log in (aurora, borealis)) != 1
        ]
    assert not twice, f"tasks that did not run exactly once: {twice[:5]}"
    assert_nothing_is_paid_twice(rig)
    killed, stopped = max(took[signal.SIGKILL]), max(took[signal.SIGTERM])
    assert killed <= KILLED_LIMIT_SECONDS, f"{killed:.1f} s from a kill to the next decision"
    assert stopped <= STOPPED_LIMIT_SECONDS, f"{stopped:.1f} s from SIGTERM to the next decision"
    return {
        "kills": kills,
        "stops": STOPS,
        "jobs": len(load.jobs),
        "tasks_run_twice": 0,
        "killed_to_decision_max_s": round(killed, 2),
        "stopped_to_decision_max_s": round(stopped, 2),
        "longest_gap_s": round(decisions.longest_gap(), 2),
        "load_average": os.getloadavg()[0],
    }


def _leader(rig: Rig, client: ApiServer, hubs: list[str]) -> tuple[str, int]:
    """Return the process that leads, and its term."""
    spec = client.get(LEASE)["spec"]
    pid = int(spec["holderIdentity"].rsplit("-", 2)[1])
    for name in hubs:
        identity = rig.processes.identity(name)
        if identity is not None and identity.pid == pid:
            return name, int(spec["leaseTransitions"])
    raise AssertionError(f"the leader {spec['holderIdentity']} is none of ours")


def _gone(rig: Rig, name: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while rig.processes.running(name):
        assert time.monotonic() < deadline, f"{name} does not end"
        time.sleep(0.02)


def _all_done(rig: Rig, names: list[str]) -> None:
    """Wait until every job has succeeded and is paid."""
    client = rig.client("submitter")

    def done() -> bool:
        try:
            jobs = client.get(JOBS)["items"]
        except ApiError:
            return False
        settled = {job["metadata"]["name"] for job in jobs if condition(job, "Settled") == "True"}
        return settled >= set(names)

    client.until(f"all {len(names)} jobs to be paid", done, seconds=300)
