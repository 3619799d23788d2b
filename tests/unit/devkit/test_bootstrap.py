"""When .venv counts as current, and that an old interpreter can read the bootstrap at all."""

import ast
from pathlib import Path

import pytest

from devkit import bootstrap


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "hack" / "devkit").mkdir(parents=True)
    (tmp_path / "hack" / "devkit" / "bootstrap.py").write_text("# this\n")
    (tmp_path / "constraints.txt").write_text("a==1\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    return tmp_path


def test_bootstrap__read_by_python_3_6__still_parses() -> None:
    source = Path(bootstrap.__file__).read_text()
    ast.parse(source, feature_version=(3, 6))


@pytest.mark.parametrize("name", ["constraints.txt", "pyproject.toml", "hack/devkit/bootstrap.py"])
def test_fingerprint__any_of_what_venv_is_made_from_changes__changes(root: Path, name: str) -> None:
    before = bootstrap.fingerprint(str(root))
    assert bootstrap.fingerprint(str(root)) == before
    with (root / name).open("a") as file:
        file.write("\n")
    assert bootstrap.fingerprint(str(root)) != before


def test_is_current__only_with_its_stamp_and_a_python(root: Path) -> None:
    venv, python = root / ".venv", root / ".venv" / "bin" / "python"

    def current(wanted: str) -> bool:
        return bootstrap.is_current(str(venv), str(python), wanted)

    assert not current("x")
    python.parent.mkdir(parents=True)
    (venv / bootstrap.STAMP).write_text("x\n")
    assert not current("x")
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    assert current("x")
    assert not current("y")


def test_ensure_environment__current__touches_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = root / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    (root / ".venv" / bootstrap.STAMP).write_text(bootstrap.fingerprint(str(root)) + "\n")

    def must_not(*_: object) -> None:
        raise AssertionError("prepared although current")

    monkeypatch.setattr(bootstrap, "prepare", must_not)
    assert bootstrap.ensure_environment(str(root)) == str(python)
    assert not (root / ".venv.lock").exists()


def test_prepare__a_step_that_fails__shows_the_end_of_its_log(root: Path) -> None:
    log_path = root / "log"
    with log_path.open("w") as log, pytest.raises(SystemExit) as stopped:
        bootstrap.step(log, ["/bin/sh", "-c", "echo no such package; exit 3"])
    assert "no such package" in str(stopped.value)
    assert str(log_path) in str(stopped.value)
