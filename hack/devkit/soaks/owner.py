"""An owner who cannot make up their mind, under load: I1, I2, I3 at every sample of the member's API server.

Offer changes, cordons, lost nodes and owner pods of every kind, from one seed. FALLOW_SOAK_SEED and
FALLOW_SOAK_SECONDS choose the seed (else random, printed) and the time (else 300 s).
"""

from __future__ import annotations

import os
import random
import secrets
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from devkit.errors import DevkitError
from devkit.rig import Member, Rig, up
from devkit.scenario.invariants import assert_no_node_was_ever_overfull, assert_nothing_is_paid_twice
from devkit.scenario.pod_log import PODS as GUESTS
from devkit.scenario.pod_log import PodLog
from devkit.scenario.submitting import GROUP, JOBS, Json, a_job, condition

NODES, GPUS = 4, 4
GRACE_SECONDS = 2
GONE_SECONDS = GRACE_SECONDS + 5.0
"""What a change excludes is gone within the grace + 5 s (I2)."""
HEARD_SECONDS = 2.0
"""A change takes effect within this time."""
SLACK_SECONDS = 1.0
"""Between two samples."""
STALLED_SECONDS = 120.0
"""Once everything is given back, some task has to end at least this often (I3): how many are left, and how
busy the machine is, says how long it takes in all."""
CONVERGE_SECONDS = 900.0
OFFER = f"{GROUP}/offers/default"
OWNED = "/api/v1/namespaces/default/pods"


def run() -> dict[str, Any]:
    """Run on a rig of one member; raises DevkitError with the broken promise and the seed."""
    seed = int(os.environ.get("FALLOW_SOAK_SEED") or secrets.randbelow(2**32))
    seconds = float(os.environ.get("FALLOW_SOAK_SECONDS") or 300)
    state = Path(tempfile.mkdtemp(prefix="fallow-owner-"))
    member = Member(name="aurora", nodes=NODES, gpus_per_node=GPUS)
    print(f"owner seed {seed}")
    with up(state, members=[member], payments="ledger", say=print) as rig:
        try:
            return {"seed": seed, **_Owner(rig, seed=seed).run(seconds=seconds)}
        except AssertionError as error:
            raise DevkitError(
                f"{error}\nAgain with: FALLOW_SOAK_SEED={seed} hack/soak owner\nLogs: {state / 'logs'}"
            ) from error


class _Owner:
    """One run on one rig."""

    def __init__(self, rig: Rig, *, seed: int) -> None:
        self._rig = rig
        self._dice = random.Random(seed)
        self._member = rig.members["aurora"].client()
        self._nodes = sorted(n["metadata"]["name"] for n in self._member.get("/api/v1/nodes")["items"])
        self._jobs: list[str] = []
        self._owned: set[str] = set()
        self._excluded: dict[str, float] = {}
        """Node, or "*" for all: since when no guest may be there."""
        self._lost: dict[str, float] = {}
        self._seen: set[str] = set()
        self._did: Counter[str] = Counter()
        self._samples = 0
        self._longest_excluded = 0.0

    def run(self, *, seconds: float) -> dict[str, Any]:
        """Change things for so long, then let all converge; return figures."""
        self._member.merge(OFFER, {"spec": {"reclaimGraceSeconds": GRACE_SECONDS}})
        with PodLog(self._rig.members["aurora"]) as log:
            started = time.monotonic()
            next_at = 0.0
            while (now := time.monotonic()) < started + seconds:
                if now >= next_at:
                    self._demand()
                    self._act()
                    next_at = time.monotonic() + self._dice.uniform(0.3, 3.0)
                self._sample()
                time.sleep(0.2)  # the pace of sampling, not a wait for something
            self._restore()
            converged = self._converge()
            log.catch_up()
            assert_no_node_was_ever_overfull(log, gpus_per_node=GPUS)
            _assert_each_attempt_is_one_pod(log)
        assert_nothing_is_paid_twice(self._rig)
        return {
            "seconds": seconds,
            "samples": self._samples,
            "did": dict(sorted(self._did.items())),
            "jobs": len(self._jobs),
            "owner_pods": len(self._owned),
            "longest_seconds_a_guest_stayed_where_excluded": round(self._longest_excluded, 1),
            "converged_after_seconds": round(converged, 1),
        }

    def _demand(self) -> None:
        client = self._rig.client("submitter")
        if len(self._jobs) >= 3 and self._dice.random() < 0.8:
            return
        job = a_job(self._dice.randint(5, 25), run_seconds=self._dice.randint(1, 12), backoffLimitPerTask=3)
        annotations = job["spec"]["template"]["metadata"]["annotations"]
        annotations["rig.fallow.dev/stop-seconds"] = str(self._dice.randint(0, GRACE_SECONDS))
        client.post(JOBS, job)
        self._jobs.append(job["metadata"]["name"])

    def _act(self) -> None:
        act = self._dice.choice(
            (
                self._pause,
                self._cordon,
                self._cordon,
                self._lose,
                self._own,
                self._own,
                self._own,
                self._limit,
            )
        )
        act()
        self._did[act.__name__.strip("_")] += 1

    def _pause(self) -> None:
        paused = "*" not in self._excluded
        how = self._dice.choice(("paused", "schedule"))
        spec: Json = {"paused": False, "schedule": None}
        if paused and how == "paused":
            spec = {"paused": True}
        elif paused:
            spec = {"schedule": {"exceptions": [{"day": "2000-01-01", "lastDay": "2999-12-31"}]}}
        self._member.merge(OFFER, {"spec": spec})
        self._exclude("*", excluded=paused)

    def _cordon(self) -> None:
        node = self._dice.choice(self._nodes)
        cordoned = node not in self._excluded
        self._member.merge(f"/api/v1/nodes/{node}", {"spec": {"unschedulable": cordoned or None}})
        self._exclude(node, excluded=cordoned)

    def _exclude(self, what: str, *, excluded: bool) -> None:
        if excluded:
            self._excluded[what] = time.monotonic()
        else:
            self._excluded.pop(what, None)

    def _lose(self) -> None:
        node = self._dice.choice(self._nodes)
        note = {"rig.fallow.dev/not-ready": None if node in self._lost else "true"}
        self._member.merge(f"/api/v1/nodes/{node}", {"metadata": {"annotations": note}})
        if node in self._lost:
            del self._lost[node]
            if node in self._excluded:  # its guests could not be stopped before
                self._excluded[node] = time.monotonic()
            if "*" in self._excluded:
                self._excluded["*"] = time.monotonic()
        else:
            self._lost[node] = time.monotonic()

    def _limit(self) -> None:
        spec = self._dice.choice(
            (
                {"keepFree": [{"percent": self._dice.choice((0, 25, 50))}]},
                {"maxGuests": self._dice.choice((2, 8, 100))},
                {"idleForSeconds": self._dice.choice((0, 3))},
            )
        )
        self._member.merge(OFFER, {"spec": spec})

    def _own(self) -> None:
        if len(self._owned) > 4 and self._dice.random() < 0.7:
            name = self._dice.choice(sorted(self._owned))
            self._member.delete(f"{OWNED}/{name}", gracePeriodSeconds="0")
            self._owned.discard(name)
            return
        name = f"owner-{self._did['own']}-{self._dice.randrange(10**6)}"
        resources = {"limits": {"nvidia.com/gpu": str(self._dice.randint(1, GPUS))}}
        spec: Json = {"containers": [{"name": "x", "image": "x", "resources": resources}]}
        match self._dice.randrange(3):
            case 0:
                spec["schedulingGates"] = [{"name": "example.com/wait"}]
            case 1:
                spec["nodeSelector"] = {"kubernetes.io/hostname": self._dice.choice(self._nodes)}
        annotations = {"rig.fallow.dev/run-seconds": "3600"}
        tolerations = [
            {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute"}
            for key in ("not-ready", "unreachable")
        ]
        spec["tolerations"] = tolerations  # else losing a node would end it, and that is not our doing
        self._member.post(OWNED, {"metadata": {"name": name, "annotations": annotations}, "spec": spec})
        self._owned.add(name)

    def _sample(self) -> None:
        """Look at every pod once, as the member's API server has them now."""
        now = time.monotonic()
        guests = self._member.get(GUESTS)["items"]
        self._samples += 1
        for pod in guests:
            uid, name = pod["metadata"]["uid"], pod["metadata"]["name"]
            node = pod["metadata"]["annotations"]["fallow.dev/node"]
            since = min((self._excluded[k] for k in ("*", node) if k in self._excluded), default=None)
            fresh, alive = uid not in self._seen, pod["status"].get("phase") not in ("Succeeded", "Failed")
            self._seen.add(uid)
            if since is None or not alive or node in self._lost:
                continue
            stayed = now - since
            self._longest_excluded = max(self._longest_excluded, stayed)
            assert stayed <= GONE_SECONDS + SLACK_SECONDS, (
                f"I2: guest {name} is on {node} {stayed:.1f} s after that was excluded"
            )
            assert not fresh or stayed <= HEARD_SECONDS + SLACK_SECONDS, (
                f"I2: guest {name} started on {node} {stayed:.1f} s after that was excluded"
            )
        owned = {pod["metadata"]["name"]: pod for pod in self._member.get(OWNED)["items"]}
        for name in self._owned:
            assert name in owned, f"I2: the owner's pod {name} was displaced"
            conditions = owned[name]["status"].get("conditions") or ()
            assert not any(c["type"] == "DisruptionTarget" and c["status"] == "True" for c in conditions), (
                f"I2: the owner's pod {name} was disrupted"
            )
            assert owned[name]["status"].get("phase") != "Failed", f"I2: the owner's pod {name} was refused"

    def _restore(self) -> None:
        """Give everything back; from here on all has to converge by itself (I3)."""
        self._member.merge(
            OFFER,
            {
                "spec": {
                    "paused": False,
                    "schedule": None,
                    "keepFree": [],
                    "maxGuests": 1000,
                    "idleForSeconds": 0,
                }
            },
        )
        for node in self._nodes:
            self._member.merge(
                f"/api/v1/nodes/{node}",
                {
                    "metadata": {"annotations": {"rig.fallow.dev/not-ready": None}},
                    "spec": {"unschedulable": None},
                },
            )
        for name in self._owned:
            self._member.delete(f"{OWNED}/{name}", gracePeriodSeconds="0")

    def _converge(self) -> float:
        started = time.monotonic()
        client = self._rig.client("submitter")

        done, moved_at = -1, started
        while True:
            jobs = [client.get(f"{JOBS}/{name}") for name in self._jobs]
            if all(condition(job, "Settled") == "True" for job in jobs):
                break
            ended = sum(_moved(job) for job in jobs)
            now = time.monotonic()
            if ended != done:
                done, moved_at = ended, now
            assert now < moved_at + STALLED_SECONDS, f"I3: nothing moves any more: {self._not_over()}"
            assert now < started + CONVERGE_SECONDS, f"I3: not over yet: {self._not_over()}"
            time.sleep(0.5)
        for name in self._jobs:
            job = client.get(f"{JOBS}/{name}")
            assert job["status"]["counts"]["succeeded"] == job["spec"]["tasks"], (
                f"I1: {name}: {job['status']}"
            )
        return time.monotonic() - started

    def _not_over(self) -> list[str]:
        client = self._rig.client("submitter")
        jobs = [client.get(f"{JOBS}/{name}") for name in self._jobs]
        return [
            f"{job['metadata']['name']}: {job.get('status', {}).get('message')}"
            for job in jobs
            if condition(job, "Settled") != "True"
        ]


def _moved(job: Json) -> int:
    """Count what has become final of a job: tasks, and its conditions."""
    counts = job.get("status", {}).get("counts", {})
    final = sum(condition(job, kind) == "True" for kind in ("Succeeded", "Settled"))
    return int(counts.get("succeeded", 0)) + int(counts.get("failed", 0)) + final


def _assert_each_attempt_is_one_pod(log: PodLog) -> None:
    """I1 on the member: no (job, index, attempt) ever had two pods."""
    pods: dict[tuple[str, str, str], set[str]] = {}
    for _, pod in log.events:
        labels = pod["metadata"]["labels"]
        key = (labels["fallow.dev/job-uid"], labels["fallow.dev/index"], labels["fallow.dev/attempt"])
        pods.setdefault(key, set()).add(pod["metadata"]["uid"])
    twice = [key for key, uids in pods.items() if len(uids) > 1]
    assert not twice, f"I1: attempts with two pods: {twice[:3]}"
