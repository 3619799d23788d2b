"""Which lease holders are surely dead: only those of this machine whose process is gone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fallow.kube.holders import own_name, surely_dead


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc with this process, one that runs, and one that is a zombie."""
    for pid, state, ticks in ((os.getpid(), "R", 500), (42, "S", 700), (43, "Z", 800)):
        there = tmp_path / str(pid)
        there.mkdir()
        fields = [state, *["0"] * 18, str(ticks), "0"]
        (there / "stat").write_text(f"{pid} (a) b (c)) {' '.join(fields)}")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "want"),
    [
        pytest.param("here/42/700", False, id="it runs"),
        pytest.param("here/42/699", True, id="another process has its number now"),
        pytest.param("here/41/700", True, id="no such process"),
        pytest.param("here/43/800", True, id="a zombie"),
        pytest.param("there/41/700", False, id="of another machine: nobody can tell"),
        pytest.param("here-41-abc", False, id="a name that tells nothing"),
        pytest.param("here/41/0", False, id="it did not know when it started"),
        pytest.param("", False, id="nobody"),
    ],
)
def test_surely_dead__holders__only_what_is_known_counts(proc: Path, name: str, want: bool) -> None:
    assert surely_dead(name, host="here", proc=proc) is want


def test_surely_dead__no_proc_here__nobody_is(tmp_path: Path) -> None:
    assert surely_dead("here/41/700", host="here", proc=tmp_path) is False


def test_own_name__this_process__is_alive(proc: Path) -> None:
    assert own_name(proc=proc).endswith(f"/{os.getpid()}/500")
    assert surely_dead(own_name(proc=proc), proc=proc) is False
