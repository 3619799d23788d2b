"""A pod's own credentials, from the directory that Kubernetes mounts."""

from __future__ import annotations

from pathlib import Path

import pytest

from fallow.errors import KubeconfigUnusable
from fallow.kube.service_account import ServiceAccount

POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}


def test_load__in_a_pod__knows_server_and_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc\n")
    assert ServiceAccount.load(tmp_path, POD).server == "https://10.0.0.1:443"
    six = ServiceAccount.load(tmp_path, {**POD, "KUBERNETES_SERVICE_HOST": "fd00::1"})
    assert six.server == "https://[fd00::1]:443"


@pytest.mark.parametrize("environment", [{}, POD], ids=["no pod", "no token"])
def test_load__without__says_what_is_missing(environment: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(KubeconfigUnusable, match=r"no pod|token"):
        ServiceAccount.load(tmp_path, environment)


def test_ssl_context__no_authority__says_so(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc")
    with pytest.raises(KubeconfigUnusable, match=r"ca\.crt"):
        ServiceAccount.load(tmp_path, POD).ssl_context()


async def test_authorization__token_rotated__is_read_after_a_minute_or_a_refusal(tmp_path: Path) -> None:
    now = 0.0
    token = tmp_path / "token"
    token.write_text("first")
    account = ServiceAccount(tmp_path, server="https://x", monotonic=lambda: now)
    token.write_text("second")
    assert await account.authorization() == "Bearer first"
    assert await account.authorization(rejected="Bearer older") == "Bearer first"
    assert await account.authorization(rejected="Bearer first") == "Bearer second"
    token.write_text("third")
    now = 59.0
    assert await account.authorization() == "Bearer second"
    now = 60.0
    assert await account.authorization() == "Bearer third"
