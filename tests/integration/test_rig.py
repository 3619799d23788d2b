"""The rig itself: what it promises to the tests, the demo and the benchmarks that stand on it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from devkit.errors import RigError
from devkit.rig import ApiError, ApiServer, Rig, default_members, down, up
from devkit.rig.processes import MARK, Processes, parse_stat, running

HACK = Path(__file__).parents[2] / "hack"
ONE = default_members(1, nodes=1, gpus_per_node=8)
MemberNamespace = Callable[[str], str]


def marked_processes(mark: str) -> list[str]:
    """Command lines of all processes that carry a rig's mark, found without the rig's own records."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
    return found


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def port_of(kubeconfig: Path) -> int:
    server: str = json.loads(kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    return int(server.rsplit(":", 1)[1])


def a_pod(name: str, annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    gpu = {"resources": {"limits": {"nvidia.com/gpu": "1"}}}
    return {
        "metadata": {"name": name, "annotations": annotations or {}, "labels": {"fallow.dev/index": "7"}},
        "spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "main", "image": "example.test/x", **gpu}],
            **spec,
        },
    }


def run_pods(rig: Rig, namespace: str, *pods: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Run pods on aurora to their end; return them by name."""
    client = rig.members["aurora"].client()
    path = f"/api/v1/namespaces/{namespace}/pods"
    for pod in pods:
        client.post(path, pod)

    def ended() -> bool:
        return all(p["status"].get("phase") in ("Succeeded", "Failed") for p in client.get(path)["items"])

    client.until("pods to end", ended, seconds=30)
    return {pod["metadata"]["name"]: pod for pod in client.get(path)["items"]}


def terminated(pod: dict[str, Any]) -> dict[str, Any]:
    state: dict[str, Any] = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    return state


def seconds_between(state: dict[str, Any]) -> float:
    start, end = (datetime.fromisoformat(state[key]) for key in ("startedAt", "finishedAt"))
    return (end - start).total_seconds()


def test_pods__annotated__run_and_end_as_told(rig: Rig, member_namespace: MemberNamespace) -> None:
    prefix = "rig.fallow.dev"
    pods = run_pods(
        rig,
        member_namespace("aurora"),
        a_pod("plain"),
        a_pod("fails", {f"{prefix}/run-seconds": "3", f"{prefix}/exit-code": "42", f"{prefix}/result": "no"}),
        a_pod("says", {f"{prefix}/result": 'task $(JOB_COMPLETION_INDEX): "quoted": {x}'}),
        a_pod("spared", {f"{prefix}/exit-code": "1", f"{prefix}/exit-code-indexes": "1,17"}),
        a_pod("late", {f"{prefix}/run-seconds": "60"}, activeDeadlineSeconds=2),
    )
    assert pods["plain"]["status"]["phase"] == "Succeeded"
    assert terminated(pods["plain"])["exitCode"] == 0
    assert "message" not in terminated(pods["plain"])
    assert pods["fails"]["status"]["phase"] == "Failed"
    assert terminated(pods["fails"])["exitCode"] == 42
    assert terminated(pods["fails"])["message"] == "no"
    assert 3 <= seconds_between(terminated(pods["fails"])) <= 5
    assert terminated(pods["says"])["message"] == 'task 7: "quoted": {x}'
    assert terminated(pods["spared"])["exitCode"] == 0
    assert pods["late"]["status"]["reason"] == "DeadlineExceeded"
    assert 2 <= seconds_between(terminated(pods["late"])) <= 4


def test_pod__deleted_while_a_finalizer_holds_it__ends_first_and_goes_with_the_finalizer(
    rig: Rig, member_namespace: MemberNamespace
) -> None:
    client = rig.members["aurora"].client()
    path = f"/api/v1/namespaces/{member_namespace('aurora')}/pods"
    pod = a_pod("held", {"rig.fallow.dev/run-seconds": "600"})
    pod["metadata"]["finalizers"] = ["fallow.dev/outcome"]
    client.post(path, pod)
    held = f"{path}/held"
    client.until("the pod to run", lambda: client.get(held)["status"]["phase"] == "Running", seconds=30)
    client.delete(held)
    client.until("the pod to end", lambda: client.get(held)["status"]["phase"] == "Failed", seconds=30)
    assert terminated(client.get(held))["exitCode"] == 143
    client.merge(held, {"metadata": {"finalizers": None}})

    def gone() -> bool:
        return not client.get(path)["items"]

    client.until("the pod to be gone", gone, seconds=30)


def test_pod__unstartable__waits_with_the_reason(rig: Rig, member_namespace: MemberNamespace) -> None:
    client = rig.members["aurora"].client()
    path = f"/api/v1/namespaces/{member_namespace('aurora')}/pods"
    client.post(path, a_pod("stuck", {"rig.fallow.dev/unstartable": "ImagePullBackOff"}))

    def waiting() -> bool:
        statuses = client.get(f"{path}/stuck")["status"].get("containerStatuses", [])
        return bool(statuses) and statuses[0]["state"]["waiting"]["reason"] == "ImagePullBackOff"

    client.until("the pod to be stuck", waiting, seconds=30)


def test_scheduler__more_pods_than_accelerators__leaves_the_rest_pending(
    rig: Rig, member_namespace: MemberNamespace
) -> None:
    client = rig.members["borealis"].client()
    path = f"/api/v1/namespaces/{member_namespace('borealis')}/pods"
    for number in range(17):
        client.post(path, a_pod(f"p{number}", {"rig.fallow.dev/run-seconds": "600"}))

    def phases() -> list[str]:
        return [pod["status"]["phase"] for pod in client.get(path)["items"]]

    client.until("16 pods to run", lambda: phases().count("Running") == 16, seconds=30)
    per_node: dict[str, int] = {}
    for pod in client.get(path)["items"]:
        if node := pod["spec"].get("nodeName"):
            per_node[node] = per_node.get(node, 0) + 1
    assert sorted(per_node.values()) == [8, 8]
    assert phases().count("Pending") == 1


def test_identities__each_with_its_own_credentials__is_known_on_the_hub_and_nowhere_else(rig: Rig) -> None:
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    names = {
        who: rig.client(who).post(path, review)["status"]["userInfo"]["username"] for who in rig.identities
    }
    assert names == {
        "submitter": "submitter",
        "hub_admin": "hub-admin",
        "hub": "system:serviceaccount:fallow-system:hub",
        "settler": "system:serviceaccount:fallow-system:settler",
    }
    member = json.loads(rig.members["aurora"].kubeconfig.read_text())["clusters"]
    for who, kubeconfig in rig.identities.items():
        crossed = rig.state / f"crossed-{who}.kubeconfig"
        crossed.write_text(json.dumps(json.loads(kubeconfig.read_text()) | {"clusters": member}))
        # 401 for a token; the handshake may already fail for a certificate of another authority.
        with pytest.raises((ApiError, OSError)) as refused:
            ApiServer.from_kubeconfig(crossed).get("/api/v1/namespaces")
        assert getattr(refused.value, "status", 401) == 401, who


def test_kubectl__as_submitter__submits_only_where_it_may(rig: Rig, hub_namespace: str) -> None:
    def can(verb: str, kind: str, namespace: str, *more: str) -> bool:
        command = [str(rig.programs["kubectl"]), "--kubeconfig", str(rig.identities["submitter"])]
        done = subprocess.run(
            [*command, "auth", "can-i", verb, kind, "-n", namespace, *more],
            capture_output=True,
            text=True,
            timeout=60,
        )
        answer: str = done.stdout.strip()
        return answer == "yes"

    assert can("create", "computejobs.fallow.dev", "default")
    assert can("create", "computejobs.fallow.dev", hub_namespace)
    assert not can("create", "computejobs.fallow.dev", "provider-aurora")
    assert not can("patch", "computejobs.fallow.dev", "default", "--subresource=status")


def test_up__with_the_toolchain_cached__is_ready_in_time(
    rig: Rig, record_property: Callable[[str, object], None]
) -> None:
    record_property("ready_seconds", rig.ready_seconds)
    print(f"\nhub + {len(rig.members)} members ready after {rig.ready_seconds:.1f} s")
    # 4.5 s on two idle cores; the target is 10 s, and a test must hold on a machine that is busy.
    assert rig.ready_seconds < 30


def test_two_rigs__side_by_side__share_nothing_and_leave_nothing(tmp_path: Path) -> None:
    ports, marks = [], []
    with up(tmp_path / "one", members=ONE, with_fallow=False) as one:
        marks.append((one.state / "mark").read_text().strip())
        with up(tmp_path / "two", members=ONE, with_fallow=False) as two:
            marks.append((two.state / "mark").read_text().strip())
            for rig in (one, two):
                ports += [port_of(rig.hub_kubeconfig), port_of(rig.members["aurora"].kubeconfig)]
            assert len(set(ports)) == 4
            one.hub_client().post("/api/v1/namespaces", {"metadata": {"name": "only-in-one"}})
            with pytest.raises(ApiError, match="not found"):
                two.hub_client().get("/api/v1/namespaces/only-in-one")
            assert all(marked_processes(mark) for mark in marks)
        assert marked_processes(marks[1]) == []
        assert one.hub_client().get("/readyz") == {"text": "ok"}
    assert marked_processes(marks[0]) == []
    assert [port for port in ports if listening(port)] == []


def test_up__again_in_the_same_directory__refused_while_up_and_fresh_afterwards(tmp_path: Path) -> None:
    with up(tmp_path / "rig", members=[], with_fallow=False) as rig:
        rig.hub_client().post("/api/v1/namespaces", {"metadata": {"name": "old"}})
        with pytest.raises(RigError, match="A rig is up"):
            up(tmp_path / "rig", members=[], with_fallow=False)
        assert rig.hub_client().get("/readyz") == {"text": "ok"}
    with (
        up(tmp_path / "rig", members=[], with_fallow=False) as rig,
        pytest.raises(ApiError, match="not found"),
    ):
        rig.hub_client().get("/api/v1/namespaces/old")


def test_up__in_a_directory_with_other_things__refuses_and_touches_nothing(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RigError, match="holds other things"):
        up(tmp_path, members=[], with_fallow=False)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def start_up(state: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "devkit.rig", "up", "--state", str(state), "--no-fallow", "--members", "1"],
        env={**os.environ, "PYTHONPATH": str(HACK)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_for_records(state: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(list((state / "run").glob("*.stat"))) < count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("records", [1, 2, 4, 6])
def test_down__after_up_was_killed_midway__leaves_no_process(tmp_path: Path, records: int) -> None:
    with start_up(tmp_path) as starting:
        wait_for_records(tmp_path, records)
        starting.kill()
    mark = (tmp_path / "mark").read_text().strip()
    assert marked_processes(mark)
    assert down(tmp_path)
    assert marked_processes(mark) == []
    assert not (tmp_path / "rig.json").exists()


def test_up__interrupted__ends_what_it_started(tmp_path: Path) -> None:
    with start_up(tmp_path) as starting:
        wait_for_records(tmp_path, 3)
        starting.send_signal(signal.SIGTERM)
        assert starting.wait(60) == 130
    assert marked_processes((tmp_path / "mark").read_text().strip()) == []


def test_down__where_a_recorded_number_belongs_to_a_stranger__leaves_the_stranger_alone(
    tmp_path: Path,
) -> None:
    with subprocess.Popen(["sleep", "600"]) as stranger:
        try:
            line = Path(f"/proc/{stranger.pid}/stat").read_text()
            seen = parse_stat(line)
            assert seen is not None
            earlier = line.replace(f" {seen[0].start_ticks} ", f" {seen[0].start_ticks - 1} ")
            assert parse_stat(earlier) != seen
            (tmp_path / "mark").write_text("no-process-has-this\n")
            (tmp_path / "run").mkdir()
            (tmp_path / "run" / "hub.apiserver.stat").write_text(earlier)
            assert down(tmp_path)
            assert running(seen[0])
        finally:
            stranger.kill()


def test_process__with_children_of_its_own__is_swept_up_with_them(tmp_path: Path) -> None:
    (tmp_path / "mark").write_text("swept\n")
    processes = Processes(tmp_path, mark="swept")
    environ = {"PATH": os.environ["PATH"]}
    processes.start(
        "parent", ["/bin/sh", "-c", "setsid sleep 600 & setsid sleep 601 & wait"], environ=environ
    )
    deadline = time.monotonic() + 10
    while len(marked_processes("swept")) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert down(tmp_path)
    assert marked_processes("swept") == []


def test_process__killed__starts_again_with_the_same_command(tmp_path: Path) -> None:
    (tmp_path / "mark").write_text("again\n")
    processes = Processes(tmp_path, mark="again")
    first = processes.start("sleeper", ["/bin/sleep", "600"], environ={"PATH": os.environ["PATH"]})
    with pytest.raises(RigError, match="still running"):
        processes.start_again("sleeper")
    processes.kill("sleeper")
    assert not processes.running("sleeper")
    second = processes.start_again("sleeper")
    assert second != first
    assert processes.running("sleeper")
    down(tmp_path)
    assert not processes.running("sleeper")


def test_command_line__kill_and_start__keep_rig_json_true(tmp_path: Path) -> None:
    def rig(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "devkit.rig", *words],
            env={**os.environ, "PYTHONPATH": str(HACK)},
            capture_output=True,
            text=True,
            timeout=120,
        )

    state = str(tmp_path / "rig")
    with up(Path(state), members=ONE, with_fallow=False) as started:
        record = Path(state) / "rig.json"
        before = json.loads(record.read_text())["members"]["aurora"]["pids"]
        assert rig("kill", "--state", state, "aurora.kwok").returncode == 0
        assert not started.processes.running("aurora.kwok")
        assert rig("start", "--state", state, "aurora.kwok").returncode == 0
        after = json.loads(record.read_text())["members"]["aurora"]["pids"]
        assert after | {"kwok": 0} == before | {"kwok": 0}
        assert after["kwok"] != before["kwok"]
        assert started.processes.running("aurora.kwok")
        unknown = rig("kill", "--state", state, "aurora.kubelet")
        assert unknown.returncode == 1
        assert "aurora.kwok" in unknown.stderr
