"""The canary guest's own program, and that the agent understands what it says."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fallow.agent.canary_pods import read_findings
from fallow.canary import NEIGHBOUR_PORT, probe, process_limit
from fallow.resources.offer import CAGE_CHECKS

API = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}


@pytest.mark.parametrize(
    ("address", "check"),
    [
        (("10.96.0.1", 443), "ApiServer"),
        (("10.0.0.2", 10250), "Kubelet"),
        (("10.0.0.2", 10255), "Kubelet"),
        (("169.254.169.254", 80), "Metadata"),
        (("10.1.0.7", NEIGHBOUR_PORT), "Neighbour"),
    ],
)
def test_probe__one_address_answers__its_check_says_which(
    address: tuple[str, int], check: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fallow.canary.process_limit", lambda: 1024)
    found = probe(
        environ=API, neighbour="10.1.0.7", kubelets=["10.0.0.2"], connects=lambda each: each == address
    )
    assert found == {"version": 1, "reached": {check: f"{address[0]}:{address[1]} answers"}, "pids": 1024}
    (finding,) = read_findings(json.dumps(found))
    assert (finding.check, finding.found) == (check, f"{address[0]}:{address[1]} answers")


def test_probe__nothing_answers_and_no_limit__only_pids_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fallow.canary.process_limit", lambda: None)
    found = probe(environ=API, neighbour="10.1.0.7", kubelets=["10.0.0.2"], connects=lambda _: False)
    assert [each.check for each in read_findings(json.dumps(found))] == ["Pids"]


@pytest.mark.parametrize(("text", "want"), [("1024\n", 1024), ("max\n", None)])
def test_process_limit__files_of_the_control_group__are_read(
    tmp_path: Path, text: str, want: int | None
) -> None:
    (tmp_path / "pids.max").write_text(text)
    assert process_limit(files=[tmp_path / "none", tmp_path / "pids.max"], most=3) == want


def test_process_limit__kernel_refuses_a_thread__that_is_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Thread.start
    count = iter(range(100))

    def start(thread: threading.Thread) -> None:
        if next(count) >= 4:
            raise RuntimeError("can't start new thread")
        begun(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    assert process_limit(files=[], most=50) == 5


@pytest.mark.parametrize("message", ["", "no json", "[]", '{"version": 2, "reached": {}}', '{"version": 1}'])
def test_read_findings__not_a_canarys_message__is_refused(message: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json's and ours are both what is meant
        read_findings(message)


def test_findings__unknown_check__is_left_out() -> None:
    message = json.dumps({"version": 1, "reached": {"Newer": "x", CAGE_CHECKS[0]: "y"}})
    assert [each.check for each in read_findings(message)] == [CAGE_CHECKS[0]]


def test_canary__import__needs_only_the_standard_library() -> None:
    heavy = "('pydantic', 'yaml', 'typer', 'structlog')"
    program = f"import sys; import fallow.canary; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
