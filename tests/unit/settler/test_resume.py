"""The word that lets a settler go on is never given by accident."""

from __future__ import annotations

import pytest

from fallow.errors import InvalidSetting
from fallow.settler.resume import run


def test_resume__answered_with_no__does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda question: "")
    with pytest.raises(InvalidSetting, match="Nothing was done"):
        run(["--nonce", "3", "--kubeconfig", "/nonexistent"])


def test_resume__without_a_nonce__is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(["--yes"])
    assert "--nonce" in capsys.readouterr().err
