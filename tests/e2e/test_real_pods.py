"""Real containers on a real kubelet: guests that compute, are preempted, try to break out, are drained.

Skipped with the reason where a machine cannot run them (root on Linux is needed).
"""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devkit.rig import Rig, up
from devkit.rig.addresses import KUBERNETES, METADATA, NODE, OUTSIDE
from devkit.rig.members import REAL_MEMBER, real_member
from devkit.rig.real import cgroups, why_not
from devkit.rig.real.configs import PIDS_OF_A_POD
from devkit.scenario.invariants import assert_each_index_succeeded_and_was_paid_once
from devkit.scenario.pod_log import PodLog
from devkit.scenario.real_guests import (
    REAL_NODE,
    a_real_job,
    guests,
    running_guests,
    shell,
    wait_until,
)
from devkit.scenario.submitting import (
    GROUP,
    JOBS,
    Json,
    claims_of,
    condition,
    submit,
    wait_for,
    wait_settled,
)
from fallow.resources.ended import Ended, Outcome

pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")

GPUS = 8
GRACE_SECONDS = 5
RECORDS = f"{GROUP}/namespaces/fallow-guests/guestsets"
OWNED = "/api/v1/namespaces/default/pods"
ON_SIGTERM = """
trap 'echo "stopped by SIGTERM" > /dev/termination-log; exit 0' TERM
sleep 3600 & wait
"""
"""A trainer that saves its state when it is asked to stop, and is proud of it: exit status 0."""


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A hub, and a member whose only node runs containers."""
    members = [real_member(gpus=GPUS)]
    state = tmp_path_factory.mktemp("real")
    with up(state, members=members, payments="ledger") as rig:
        print(f"\nrig ready after {rig.ready_seconds:.1f} s: {rig.state}")
        mark = rig.processes.mark
        yield rig
        for part in ("containerd", "kubelet"):  # whoever ends them, it need not be `down`
            rig.processes.kill(f"{REAL_MEMBER}.{part}")
    assert_nothing_is_left(state, mark)


@pytest.fixture
def log(rig: Rig) -> Iterator[PodLog]:
    with PodLog(rig.members[REAL_MEMBER]) as log:
        yield log


def assert_nothing_is_left(state: Path, mark: str) -> None:
    """What a node with running guests leaves on the machine when its rig is brought down: logs."""
    groups = [group for root in cgroups.hierarchies() for group in root.glob(f"{cgroups.name_of(mark, '')}*")]
    assert not groups
    assert not (state / "nodes").exists()
    assert str(state) not in Path("/proc/self/mountinfo").read_text()
    assert not list(Path(tempfile.gettempdir()).glob(f"{cgroups.name_of(mark, '')}*"))


def ended(rig: Rig, job: Json) -> list[Ended]:
    """Everything that was claimed for a job."""
    return [Ended.parse(text) for claim in claims_of(rig, job) for text in claim["spec"]["ended"]]


def recorded(rig: Rig, job: Json) -> list[Ended]:
    """Everything that the member's records know of a job."""
    selector = f"fallow.dev/job-uid={job['metadata']['uid']}"
    records = rig.members[REAL_MEMBER].client().get(RECORDS, labelSelector=selector)["items"]
    return [Ended.parse(text) for each in records for text in each.get("status", {}).get("ended", ())]


def test_job__when_20_tasks_compute__then_the_claims_hold_the_digests_of_what_they_found(rig: Rig) -> None:
    rounds = 20
    script = f"""
    d=$JOB_COMPLETION_INDEX
    for i in $(seq {rounds}); do d=$(echo -n "$d" | sha256sum | cut -d ' ' -f 1); done
    echo -n "$d" > /dev/termination-log
    """
    job = wait_settled(rig, submit(rig, a_real_job(20, script)), seconds=240)
    assert_each_index_succeeded_and_was_paid_once(rig, job)
    for one in ended(rig, job):
        found = str(one.index)
        for _ in range(rounds):
            found = hashlib.sha256(found.encode()).hexdigest()
        assert one.digest == hashlib.sha256(found.encode()).digest()
        assert one.seconds >= 1


def test_guest__when_an_owners_pod_preempts_it__then_it_sees_sigterm_and_its_exit_0_counts_as_reclaimed(
    rig: Rig, log: PodLog
) -> None:
    job = a_real_job(GPUS, ON_SIGTERM)
    job["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = GRACE_SECONDS
    job = submit(rig, job)
    wait_until("a full node", lambda: len(running_guests(rig, job)) == GPUS)
    member = rig.members[REAL_MEMBER].client()
    member.post(OWNED, {"metadata": {"name": "owner"}, "spec": _owners(shell("sleep 3600", gpus=1))})
    wait_until(
        "the owner's pod to run",
        lambda: member.get(f"{OWNED}/owner")["status"].get("phase") == "Running",
    )
    log.catch_up()
    stopped = {
        pod["metadata"]["labels"]["fallow.dev/index"]: state
        for _, pod in log.events
        if pod["metadata"]["labels"].get("fallow.dev/job-uid") == job["metadata"]["uid"]
        and (state := _terminated(pod))
    }
    assert len(stopped) == 1, "one accelerator was asked for"
    (index, state), *_ = stopped.items()
    assert (state["exitCode"], state["message"]) == (0, "stopped by SIGTERM\n")
    member.delete(f"{OWNED}/owner", gracePeriodSeconds="0")
    wait_until("the node to be full again", lambda: len(running_guests(rig, job)) == GPUS)
    rig.client("submitter").delete(f"{JOBS}/{_name(job)}")
    wait_until("guests to be gone", lambda: not guests(rig, job))
    # Reclaimed is not paid, so no claim has it; the member's own record does.
    first = [one for one in recorded(rig, job) if (one.index, one.attempt) == (int(index), 0)]
    assert [one.outcome for one in first] == [Outcome.RECLAIMED]
    wait_until("the others to be claimed", lambda: len(ended(rig, job)) == GPUS)
    assert (int(index), 0) not in {(one.index, one.attempt) for one in ended(rig, job)}


def test_cage__when_guests_run__then_canaries_have_proven_it_and_nothing_was_waived(rig: Rig) -> None:
    """I9, where it can be proven: without the canaries' word the tests here would find nothing on offer."""
    offer = rig.members[REAL_MEMBER].client().get(f"{GROUP}/offers/default")
    assert not offer["spec"].get("acceptUnproven")
    assert condition(offer, "CageEnforced") == "True", offer["status"]


def test_gang__when_two_tasks_meet_by_name__then_each_hears_from_the_other(rig: Rig) -> None:
    # Debian's static wget crashes over names, even over addresses; nslookup and nc do not.
    script = """
    mkdir -p /tmp/w && echo -n "rank $RANK of $WORLD_SIZE" > /tmp/w/index.html
    httpd -p 29400 -h /tmp/w
    other=rank-$((1 - RANK)).${MASTER_ADDR#*.}.fallow-guests.svc.cluster.local
    address() { nslookup "$other" | sed -n 's/^Address: //p' | tail -n 1; }
    hear() { printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 "$(address)" 29400 | tail -n 1; }
    until heard=$(hear) && test -n "$heard"; do sleep 1; done
    echo -n "$heard" > /dev/termination-log
    sleep 3
    """
    job = submit(rig, a_real_job(2, script, gang=True))
    job = wait_settled(rig, job, seconds=180)
    assert_each_index_succeeded_and_was_paid_once(rig, job)
    heard = {one.index: one.digest for one in ended(rig, job)}
    assert heard == {index: hashlib.sha256(f"rank {1 - index} of 2".encode()).digest() for index in (0, 1)}


_GET = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2"
FORBIDDEN = {
    "api": f"nc -w 2 {KUBERNETES} 443 < /dev/null",
    "kubelet": f"nc -w 2 {NODE} 10250 < /dev/null",
    "metadata": f"{_GET} {METADATA} 80 | grep -q metadata",
    "outside": f"{_GET} {OUTSIDE} 80 | grep -q outside",
    "neighbour": f"{_GET} NEIGHBOUR 8000 | grep -q secret",
}
"""What a guest must not reach, by name, and how it tries."""
HELD_BACK = {
    "token": "test -e /var/run/secrets/kubernetes.io/serviceaccount/token",
    "host": "ls -d /var/lib/kubelet /var/lib/containerd /host 2> /dev/null | grep -q .",
    "root": "touch /bin/mine || mount -t proc proc /proc || chroot / true",
    "devices": "test -e /dev/vda || test -e /dev/kmsg || mknod /tmp/d b 254 0",
}


def test_guest__when_it_tries_what_the_cage_forbids__then_it_gets_nowhere(rig: Rig) -> None:
    member = rig.members[REAL_MEMBER].client()
    serving = "mkdir -p /tmp/w && echo secret > /tmp/w/index.html && httpd -f -p 8000 -h /tmp/w"
    member.post(OWNED, {"metadata": {"name": "neighbour"}, "spec": _owners(shell(serving))})
    wait_until(
        "the neighbour to serve", lambda: bool(member.get(f"{OWNED}/neighbour")["status"].get("podIP"))
    )
    address = member.get(f"{OWNED}/neighbour")["status"]["podIP"]
    tries = {name: command.replace("NEIGHBOUR", address) for name, command in FORBIDDEN.items()}
    # Outside the cage all of it works: it is the walls that are tested.
    member.post(OWNED, {"metadata": {"name": "free"}, "spec": _owners(shell(_attempts(tries)))})
    wait_until(
        "the pod outside the cage to end", lambda: _terminated(member.get(f"{OWNED}/free")) is not None
    )
    assert _said(member.get(f"{OWNED}/free")) == dict.fromkeys(tries, "reached")

    script = _attempts({**tries, **HELD_BACK})
    job = submit(rig, a_real_job(1, script, results="Inline"))
    job = wait_for(rig, job, lambda now: condition(now, "Succeeded") == "True", seconds=120, what="to end")
    results = rig.client("submitter").get(f"/api/v1/namespaces/default/configmaps/{_name(job)}-results-0")
    (text,) = results["data"].values()
    assert dict(line.split("=") for line in text.split()) == dict.fromkeys((*tries, *HELD_BACK), "refused")
    for name in ("neighbour", "free"):
        member.delete(f"{OWNED}/{name}", gracePeriodSeconds="0")


def test_guest__when_it_forks_without_end__then_its_pids_run_out_and_nobody_elses(rig: Rig) -> None:
    bomb = """
    (i=0; while [ $i -lt 1000 ]; do sleep 30 & i=$((i+1)); echo $i > /tmp/count; done) 2> /dev/null
    echo -n "$(cat /tmp/count)" > /dev/termination-log
    """
    job = submit(rig, a_real_job(1, bomb, results="Inline"))
    job = wait_for(rig, job, lambda now: condition(now, "Succeeded") == "True", seconds=120, what="to end")
    results = rig.client("submitter").get(f"/api/v1/namespaces/default/configmaps/{_name(job)}-results-0")
    (count,) = results["data"].values()
    assert 10 < int(count) < PIDS_OF_A_POD


def test_guest__when_it_fills_the_disk__then_it_is_evicted_and_that_is_its_own_failure(rig: Rig) -> None:
    fill = "dd if=/dev/zero of=/tmp/big bs=1M count=200; sleep 3600"
    job = submit(rig, a_real_job(1, fill, backoffLimitPerTask=0))
    wait_for(rig, job, lambda now: condition(now, "Failed") == "True", seconds=180, what="to fail")
    wait_until("the claim", lambda: [one.outcome for one in ended(rig, job)] == [Outcome.FAILED])


def test_node__when_it_is_drained__then_guests_are_gone_within_their_grace_and_kubectl_is_content(
    rig: Rig,
) -> None:
    job = a_real_job(4, ON_SIGTERM)
    job["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = GRACE_SECONDS
    job = submit(rig, job)
    wait_until("guests to run", lambda: len(running_guests(rig, job)) == 4)
    started = time.monotonic()
    done = _kubectl(rig, "drain", REAL_NODE, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=90s")
    print(f"drained in {time.monotonic() - started:.1f} s, grace {GRACE_SECONDS} s")
    assert done.returncode == 0, done.stderr
    assert not running_guests(rig, job)
    assert _kubectl(rig, "uncordon", REAL_NODE).returncode == 0
    wait_until("guests to run again", lambda: len(running_guests(rig, job)) == 4)
    rig.client("submitter").delete(f"{JOBS}/{_name(job)}")
    wait_until("guests to be gone", lambda: not guests(rig, job))


def _attempts(tries: dict[str, str]) -> str:
    """Return a script that tries each and writes name=reached or name=refused as its result."""
    lines = [f"if ({command}) > /dev/null 2>&1; then echo {name}=reached; else echo {name}=refused; fi"
             for name, command in tries.items()]  # fmt: skip
    return "{ " + "\n".join(lines) + "\n} > /dev/termination-log"


def _said(pod: Json) -> dict[str, str]:
    state = _terminated(pod)
    assert state
    return dict(line.split("=") for line in state["message"].split())


def _terminated(pod: Json) -> Json | None:
    statuses = pod["status"].get("containerStatuses") or [{}]
    return statuses[0].get("state", {}).get("terminated")  # type: ignore[no-any-return]


def _owners(container: Json) -> Json:
    return {"restartPolicy": "Never", "containers": [container], "terminationGracePeriodSeconds": 1}


def _name(job: Json) -> str:
    return str(job["metadata"]["name"])


def _kubectl(rig: Rig, *words: str) -> subprocess.CompletedProcess[str]:
    """Run kubectl as the owner of the member."""
    kubeconfig = rig.members[REAL_MEMBER].kubeconfig
    return subprocess.run(
        [str(rig.programs["kubectl"]), f"--kubeconfig={kubeconfig}", *words],
        capture_output=True, text=True, timeout=180,
    )  # fmt: skip
