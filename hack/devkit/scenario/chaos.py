"""Jobs come and go while things break; in the end all converged, and at no moment was a promise broken.

Everything random comes from one seed, printed at the start. While it runs, the members' own API servers are
watched for every event of every guest (never over a node's GPUs); after the last fault each job must reach
its end by itself, each claim must settle, and claims and chain must agree to the unit.
"""

from __future__ import annotations

import http.client
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from devkit.errors import DevkitError
from devkit.rig import ApiError, Member, Rig
from devkit.scenario.faults import all_faults, revive
from devkit.scenario.invariants import (
    assert_money_is_conserved,
    assert_no_node_was_ever_overfull,
    assert_nothing_is_paid_twice,
)
from devkit.scenario.pod_log import PodLog
from devkit.scenario.submitting import GROUP, JOBS, Json, a_job, condition

MEMBERS = (
    Member(name="aurora", nodes=4, region="eu-north-1"),
    Member(name="borealis", nodes=3, region="us-east-1"),
)
CONVERGE_SECONDS = 240.0
_BROKEN = (OSError, http.client.HTTPException, ApiError)


class Chaos:
    """One run on one rig."""

    def __init__(self, rig: Rig, *, seed: int, say: Callable[[str], None] = print) -> None:
        self._rig = rig
        self._dice = random.Random(seed)
        self._say = say
        self._jobs: dict[str, Json] = {}
        self._deleted: set[str] = set()
        self.struck: dict[str, int] = {}
        say(f"chaos seed {seed}")

    def run(self, *, seconds: float) -> dict[str, Any]:
        """Break things for so long, then check that all converged; return figures.

        Raises AssertionError naming the promise that did not hold.
        """
        faults = all_faults(self._rig)
        with ExitStack() as stack:
            logs = [stack.enter_context(PodLog(member)) for member in self._rig.members.values()]
            started = time.monotonic()
            while time.monotonic() - started < seconds:
                self._demand()
                fault = self._dice.choice(faults)
                lasted = fault.strike(self._dice)
                self.struck[fault.name] = self.struck.get(fault.name, 0) + 1
                self._say(f"{time.monotonic() - started:6.1f} s  {fault.name} for {lasted:.1f} s")
                self._revive()
            broken_seconds = time.monotonic() - started
            converged = self._converge()
            for log in logs:
                log.catch_up()
                assert_no_node_was_ever_overfull(log, gpus_per_node=8)
        assert_nothing_is_paid_twice(self._rig)
        self._assert_each_job_is_whole()
        assert_money_is_conserved(self._rig)
        return {
            "jobs": len(self._jobs),
            "deleted": len(self._deleted),
            "tasks": sum(job["spec"]["tasks"] for job in self._jobs.values()),
            "faults": dict(sorted(self.struck.items())),
            "broken_seconds": round(broken_seconds, 1),
            "converged_after_seconds": round(converged, 1),
        }

    def _demand(self) -> None:
        """Submit a few jobs, and change or delete one; an API server that is away refuses, no more."""
        client = self._rig.client("submitter")
        for _ in range(self._dice.randint(1, 3)):
            job = self._random_job()
            try:
                made = client.post(JOBS, job)
            except _BROKEN:
                continue
            self._jobs[made["metadata"]["name"]] = made
        name = self._dice.choice(sorted(self._jobs)) if self._jobs else ""
        try:
            match self._dice.randrange(6):
                case 0 if name:
                    client.merge(f"{JOBS}/{name}", {"spec": {"suspend": True}})
                case 1 | 2 if name:
                    client.merge(f"{JOBS}/{name}", {"spec": {"suspend": False, "priority": 5}})
                case 3 if name:
                    client.delete(f"{JOBS}/{name}")
                    self._deleted.add(name)
        except _BROKEN:
            return

    def _random_job(self) -> Json:
        dice = self._dice
        match dice.randrange(6):
            case 0:
                return a_job(dice.randint(1, 3), gpus=8, gang=True, run_seconds=dice.randint(1, 6))
            case 1:
                return a_job(dice.randint(1, 20), gpus=0, run_seconds=dice.randint(1, 3))
            case 2:
                return a_job(dice.randint(1, 5), exit_code=1, backoffLimitPerTask=dice.randint(0, 2))
            case _:
                return a_job(
                    dice.randint(1, 40), gpus=dice.choice((1, 1, 2, 4)), run_seconds=dice.randint(0, 8)
                )

    def _converge(self) -> float:
        """Wait until every job is over and every claim settled; return how long that took."""
        started = time.monotonic()
        client = self._rig.client("submitter")

        def resume(name: str) -> bool:
            return bool(client.merge(f"{JOBS}/{name}", {"spec": {"suspend": False}}))

        for name in sorted(self._jobs.keys() - self._deleted):
            client.until(f"{name} to be resumed", partial(resume, name), seconds=30)
        try:
            client.until("every job to end and settle", self._all_over, seconds=CONVERGE_SECONDS)
        except DevkitError as error:
            raise AssertionError(f"{error} Not over: {self._not_over()}") from error
        return time.monotonic() - started

    def _all_over(self) -> bool:
        self._revive()
        return not self._not_over()

    def _revive(self) -> None:
        for name in revive(self._rig):
            self._say(f"          {name} had ended and is started again")

    def _not_over(self) -> list[str]:
        admin = self._rig.client("hub_admin")
        left = [
            f"job {job['metadata']['name']}: {job.get('status', {}).get('message')}"
            for job in admin.get(f"{GROUP}/computejobs")["items"]
            if condition(job, "Settled") != "True" and not _failed_unpaid(job)
        ]
        left += [
            f"placement {item['metadata']['name']}" for item in admin.get(f"{GROUP}/placements")["items"]
        ]
        left += [
            f"claim {item['metadata']['name']}"
            for item in admin.get(f"{GROUP}/paymentclaims")["items"]
            if item.get("status", {}).get("state") != "Settled"
        ]
        return left

    def _assert_each_job_is_whole(self) -> None:
        """Every job that was not deleted has every task either succeeded or failed for good."""
        for name in sorted(self._jobs.keys() - self._deleted):
            job = self._rig.client("submitter").get(f"{JOBS}/{name}")
            counts = job["status"]["counts"]
            assert counts["succeeded"] + counts["failed"] == job["spec"]["tasks"], (name, counts)
            fails = job["spec"]["template"]["metadata"]["annotations"]["rig.fallow.dev/exit-code"] != "0"
            assert bool(counts["failed"]) == fails, (name, counts)


def _failed_unpaid(job: Json) -> bool:
    """Tell whether a job failed with nothing to pay: all its attempts were lost or reclaimed."""
    return condition(job, "Failed") == "True" and condition(job, "Settled") in ("", "True")
