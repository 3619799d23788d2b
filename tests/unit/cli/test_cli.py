"""The command line: what it imports, what it says, and how it exits."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

from fallow import __version__
from fallow.cli.main import main
from fallow.errors import FallowError, Unavailable
from fallow.settings import CommonSettings

HUB_ID = "0x" + "ab" * 32


def exit_code(monkeypatch: pytest.MonkeyPatch, *arguments: str, name: str = "fallow") -> int:
    monkeypatch.setattr(sys, "argv", [f"/usr/bin/{name}", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert isinstance(caught.value.code, int)
    return caught.value.code


def a_hub(monkeypatch: pytest.MonkeyPatch, error: FallowError | None = None) -> list[CommonSettings]:
    """Stand in for the hub's program and note the settings with which it is run."""
    ran: list[CommonSettings] = []

    def run(settings: CommonSettings) -> None:
        ran.append(settings)
        if error is not None:
            raise error

    module = ModuleType("fallow.hub.app")
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fallow.hub.app", module)
    return ran


@pytest.mark.parametrize("arguments", [["--version"], ["version"]])
def test_version__asked_either_way__is_said(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(monkeypatch, *arguments) == 0
    assert capsys.readouterr().out == f"fallow {__version__}\n"


def test_help__as_a_kubectl_plugin__calls_itself_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(monkeypatch, "--help", name="kubectl-fallow") == 0
    assert "Usage: kubectl fallow" in capsys.readouterr().out


def test_hub_help__passes_through__explains_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(monkeypatch, "hub", "--help") == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: fallow hub")
    assert "--payments.mode" in out


def test_hub__good_settings__runs_the_program_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = a_hub(monkeypatch)
    assert exit_code(monkeypatch, "hub", f"--hub-id={HUB_ID}", "--log-level=error") == 0
    assert [settings.hub_id for settings in ran] == [HUB_ID]


def test_hub__wrong_setting__exits_2_with_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = a_hub(monkeypatch)
    assert exit_code(monkeypatch, "hub", "--hub-id=none") == 2
    error = capsys.readouterr().err
    assert error == "fallow: --hub-id (FALLOW_HUB_ID) must be 0x and 64 hexadecimal digits, not 'none'.\n"
    assert ran == []


def test_hub__program_fails_as_expected__exits_1_with_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a_hub(monkeypatch, Unavailable("get Lease hub: connection refused"))
    assert exit_code(monkeypatch, "hub", f"--hub-id={HUB_ID}", "--log-level=error") == 1
    assert capsys.readouterr().err == "fallow: get Lease hub: connection refused\n"


def test_command__starts__imports_neither_web3_nor_kopf() -> None:
    code = "import sys, fallow.cli.main; print([m for m in ('web3', 'kopf') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
