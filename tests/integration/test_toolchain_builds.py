"""Building with a real Go: once, whole, and only as often as needed. What is built here has no dependency."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

HACK = Path(__file__).parents[2] / "hack"

BUILD = """
import sys
from pathlib import Path
from types import MappingProxyType
from devkit.errors import ToolchainError
from devkit.toolchain import pins, programs

program = pins.Program(name="tiny", module="tiny", version="v1.2.3", package=".", estimate_seconds=1)
programs.PROGRAMS = MappingProxyType({"tiny": program})
programs.MODULES = Path(sys.argv[1])
try:
    print(programs.ensure("tiny")["tiny"])
except ToolchainError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    source = tmp_path / "modules" / "tiny"
    source.mkdir(parents=True)
    (source / "go.mod").write_text("module example.test/tiny\n\ngo 1.26\n")
    (source / "main.go").write_text('package main\n\nfunc main() { println("tiny v1.2.3") }\n')
    return tmp_path / "modules"


def environment(modules: Path) -> dict[str, str]:
    environ = {**os.environ, "PYTHONPATH": str(HACK), "FALLOW_CACHE": str(modules.parent / "cache")}
    environ.pop("KUBEBUILDER_ASSETS", None)
    return environ


def start(modules: Path, environ: dict[str, str] | None = None) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, str(modules)],
        env=environ or environment(modules),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out.strip(), err


def test_ensure__cold__builds_once_and_says_what_and_how_long(modules: Path) -> None:
    code, path, said = finish(start(modules))
    assert code == 0, said
    assert path == f"{modules.parent}/cache/tiny/v1.2.3/{Path(path).parent.name}/tiny"
    assert "building tiny v1.2.3: starting" in said
    assert "building tiny v1.2.3: done in" in said
    assert subprocess.run([path], capture_output=True, text=True, check=True).stderr == "tiny v1.2.3\n"
    assert finish(start(modules)) == (0, path, "")


def test_ensure__two_at_once__one_builds_and_the_other_waits(modules: Path) -> None:
    # The slow half of a build is played by a Go that takes its time.
    slow = slow_go(modules, seconds=2)
    first = start(modules, slow)
    lock = modules.parent / "cache" / "locks" / "tiny-v1.2.3"
    wait_for(lambda: (modules.parent / "building").exists())
    second = start(modules, slow)
    results = [finish(first), finish(second)]
    assert lock.exists()
    assert [code for code, _, _ in results] == [0, 0]
    assert results[0][1] == results[1][1]
    assert "waiting for it" in results[1][2]
    assert (modules.parent / "building").read_text().count("build") == 1


def test_ensure__killed_while_building__is_repaired_by_the_next_call(modules: Path) -> None:
    killed = start(modules, slow_go(modules, seconds=600))
    wait_for(lambda: (modules.parent / "building").exists())
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    code, path, said = finish(start(modules))
    assert code == 0, said
    assert subprocess.run([path], check=False, capture_output=True).returncode == 0
    assert [entry.name for entry in Path(path).parent.iterdir()] == ["tiny"]


def test_ensure__a_build_that_fails__says_why_and_where_the_log_is(modules: Path) -> None:
    (modules / "tiny" / "main.go").write_text("package main\n\nfunc main() { broken }\n")
    code, _, said = finish(start(modules))
    assert code == 1
    assert "undefined: broken" in said
    assert str(modules.parent / "cache" / "logs" / "tiny-v1.2.3.log") in said


def test_ensure__a_fitting_copy_in_kubebuilder_assets__is_taken(modules: Path) -> None:
    assets = modules.parent / "assets"
    assets.mkdir()
    (assets / "tiny").write_text("#!/bin/sh\necho tiny v1.2.9\n")
    (assets / "tiny").chmod(0o755)
    environ = environment(modules) | {"KUBEBUILDER_ASSETS": str(assets)}
    assert finish(start(modules, environ)) == (0, str(assets / "tiny"), "")
    (assets / "tiny").write_text("#!/bin/sh\necho tiny v1.3.0\n")
    code, path, _ = finish(start(modules, environ))
    assert code == 0
    assert path.startswith(str(modules.parent / "cache"))


def slow_go(modules: Path, *, seconds: int) -> dict[str, str]:
    """An environment whose `go build` notes that it began and takes its time."""
    real = shutil.which("go")
    if real is None:
        pytest.skip("only a Go on PATH can be slowed down")
    directory = modules.parent / "slow"
    directory.mkdir(exist_ok=True)
    script = directory / "go"
    note = modules.parent / "building"
    begin = f'if [ "$3" = build ]; then echo build >> "{note}"; sleep {seconds}; fi'
    script.write_text(f'#!/bin/sh\n{begin}\nexec "{real}" "$@"\n')
    script.chmod(0o755)
    environ = environment(modules)
    return environ | {"PATH": f"{directory}:{environ['PATH']}"}


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
