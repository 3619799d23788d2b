"""Real containers for minutes: preempted, drained, their kubelet, containerd and agent killed under them.

Every task computes, so that each paid result is checked; each drain is timed against the guests' grace. Needs
root on Linux. FALLOW_SOAK_SEED and FALLOW_SOAK_SECONDS choose the seed (else random, printed) and the time
(else 300 s).
"""

from __future__ import annotations

import hashlib
import os
import random
import secrets
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from devkit.errors import DevkitError, RigError
from devkit.rig import Rig, up
from devkit.rig.members import REAL_MEMBER, real_member
from devkit.rig.real import why_not
from devkit.scenario.invariants import assert_nothing_is_paid_twice
from devkit.scenario.pod_log import PODS as GUESTS
from devkit.scenario.real_guests import REAL_NODE, a_real_job, shell
from devkit.scenario.submitting import GROUP, JOBS, claims_of, condition
from fallow.resources.ended import Ended, Outcome

GPUS = 6
GRACE_SECONDS = 3
DRAIN_SECONDS = GRACE_SECONDS + 5.0
"""A drain has succeeded within the grace + 5 s."""
CONVERGE_SECONDS = 300.0
OFFER = f"{GROUP}/offers/default"
OWNED = "/api/v1/namespaces/default/pods"
_COMPUTES = """
sleep $((JOB_COMPLETION_INDEX % 7 + 1))
echo -n "$JOB_COMPLETION_INDEX" | sha256sum | cut -d ' ' -f 1 | tr -d '\\n' > /dev/termination-log
"""


def run() -> dict[str, Any]:
    """Run on a rig of its own; raises DevkitError with the broken promise and the seed."""
    if reason := why_not():
        print(f"Skipped: {reason}")
        return {"skipped": reason}
    seed = int(os.environ.get("FALLOW_SOAK_SEED") or secrets.randbelow(2**32))
    seconds = float(os.environ.get("FALLOW_SOAK_SECONDS") or 300)
    state = Path(tempfile.mkdtemp(prefix="fallow-real-pods-"))
    print(f"real pods seed {seed}")
    with up(state, members=[real_member(gpus=GPUS)], payments="ledger", say=print) as rig:
        try:
            return {"seed": seed, **_RealPods(rig, seed=seed).run(seconds=seconds)}
        except AssertionError as error:
            raise DevkitError(
                f"{error}\nAgain with: FALLOW_SOAK_SEED={seed} hack/soak real-pods\nLogs: {state / 'logs'}"
            ) from error


class _RealPods:
    """One run on one rig."""

    def __init__(self, rig: Rig, *, seed: int) -> None:
        self._rig = rig
        self._dice = random.Random(seed)
        self._member = rig.members[REAL_MEMBER].client()
        self._jobs: list[str] = []
        self._did: Counter[str] = Counter()
        self._drains: list[float] = []

    def run(self, *, seconds: float) -> dict[str, Any]:
        """Do things for so long, then let all converge; return figures."""
        grace = {"spec": {"reclaimGraceSeconds": GRACE_SECONDS}}
        self._member.merge(OFFER, grace)
        acts = (self._own, self._own, self._drain, self._drain, self._crash)
        started = time.monotonic()
        while time.monotonic() < started + seconds:
            self._demand()
            act = self._dice.choice(acts)
            act()
            self._did[act.__name__.strip("_")] += 1
            self._caged()
            time.sleep(self._dice.uniform(0.5, 5.0))  # the pace of events, not a wait for something
        converged = self._converge()
        checked = sum(self._results(name) for name in self._jobs)
        assert_nothing_is_paid_twice(self._rig)
        return {
            "seconds": seconds,
            "did": dict(sorted(self._did.items())),
            "jobs": len(self._jobs),
            "results_checked": checked,
            "drains": len(self._drains),
            "longest_drain_s": max(self._drains, default=0.0),
            "drain_limit_s": DRAIN_SECONDS,
            "converged_after_seconds": round(converged, 1),
            "load_average": os.getloadavg()[0],
        }

    def _demand(self) -> None:
        """Keep some jobs waiting."""
        client = self._rig.client("submitter")
        unfinished = [
            name for name in self._jobs if condition(client.get(f"{JOBS}/{name}"), "Settled") != "True"
        ]
        if len(unfinished) < 3:
            job = a_real_job(self._dice.randint(3, 12), _COMPUTES, backoffLimitPerTask=3)
            job["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = GRACE_SECONDS
            client.post(JOBS, job)
            self._jobs.append(job["metadata"]["name"])

    def _caged(self) -> None:
        """I9: guests run, so canaries have proven the cage and nothing of it is waived."""
        offer = self._member.get(OFFER)
        assert not offer["spec"].get("acceptUnproven")
        guests = self._member.get(GUESTS, labelSelector="fallow.dev/guest=true")["items"]
        assert not guests or condition(offer, "CageEnforced") == "True", f"I9: {offer['status']}"

    def _own(self) -> None:
        """Let an owner's pod come, run, and go."""
        name = f"owner-{self._did['own']}"
        container = shell("trap exit TERM; sleep 3600 & wait", gpus=self._dice.randint(1, GPUS))
        spec = {"containers": [container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 1}
        self._member.post(OWNED, {"metadata": {"name": name}, "spec": spec})

        def runs() -> bool:
            phase = self._member.get(f"{OWNED}/{name}")["status"].get("phase")
            assert phase != "Failed", f"I2: the owner's pod {name} was refused"
            return bool(phase == "Running")

        self._until(f"the owner's pod {name} to run", runs)
        self._member.delete(f"{OWNED}/{name}")

    def _drain(self) -> None:
        started = time.monotonic()
        options = ("--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=60s")
        # The name server has no other node to go to, and its absence is not what is looked at.
        self._kubectl("drain", REAL_NODE, *options, "--pod-selector=k8s-app!=kube-dns")
        self._drains.append(round(time.monotonic() - started, 1))
        alive = [
            pod["metadata"]["name"]
            for pod in self._member.get(GUESTS)["items"]
            if pod["status"].get("phase") not in ("Succeeded", "Failed")
        ]
        assert not alive, f"I2: guests on a drained node: {alive}"
        assert self._drains[-1] <= DRAIN_SECONDS, f"a drain took {self._drains[-1]} s"
        self._kubectl("uncordon", REAL_NODE)

    def _crash(self) -> None:
        """Kill one program and start it again: containers run on without any of them."""
        program = self._dice.choice(("kubelet", "containerd", "policies", "agent"))
        name = f"fallow.agent-{REAL_MEMBER}" if program == "agent" else f"{REAL_MEMBER}.{program}"
        self._rig.processes.kill(name)
        self._did[f"crash {program}"] += 1
        time.sleep(self._dice.uniform(0, 3.0))
        self._rig.processes.start_again(name)

    def _converge(self) -> float:
        started = time.monotonic()
        client = self._rig.client("submitter")
        for name in self._jobs:
            self._until(
                f"I3: {name} to settle",
                lambda name=name: condition(client.get(f"{JOBS}/{name}"), "Settled") == "True",
                seconds=CONVERGE_SECONDS,
            )
        return time.monotonic() - started

    def _results(self, name: str) -> int:
        """Check what was paid of a job against what its tasks should have found; return how many."""
        job = self._rig.client("submitter").get(f"{JOBS}/{name}")
        every = [Ended.parse(text) for claim in claims_of(self._rig, job) for text in claim["spec"]["ended"]]
        won = [one for one in every if one.outcome is Outcome.SUCCEEDED]
        assert sorted(one.index for one in won) == list(range(job["spec"]["tasks"])), f"I1: {name}: {every}"
        for one in won:
            found = hashlib.sha256(str(one.index).encode()).hexdigest()
            assert one.digest == hashlib.sha256(found.encode()).digest(), f"{name}: index {one.index}"
        return len(won)

    def _until(self, what: str, done: Any, *, seconds: float = 120.0) -> None:
        try:
            self._member.until(what, done, seconds=seconds)
        except RigError as error:
            raise AssertionError(str(error)) from error

    def _kubectl(self, *words: str) -> None:
        kubeconfig = self._rig.members[REAL_MEMBER].kubeconfig
        done = subprocess.run(
            [str(self._rig.programs["kubectl"]), f"--kubeconfig={kubeconfig}", *words],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"kubectl {words[0]}: {done.stderr}"
