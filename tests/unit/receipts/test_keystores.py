from __future__ import annotations

import json
from pathlib import Path

import pytest
from eth_account import Account

from fallow.errors import InvalidSetting
from fallow.receipts.keystores import load_key
from fallow.settings import KeyFileSettings
from unit.agent.some_work import KEY


def key_files(directory: Path, *, password: str = "open sesame") -> KeyFileSettings:
    store = Account.encrypt(KEY.key, "open sesame", kdf="pbkdf2", iterations=2)
    (directory / "key.json").write_text(json.dumps(store))
    (directory / "password").write_text(password + "\n")
    return KeyFileSettings(keystore=directory / "key.json", password_file=directory / "password")


def test_load_key__right_password__is_the_key(tmp_path: Path) -> None:
    assert load_key(key_files(tmp_path), what="signer").address == KEY.address


def test_load_key__wrong_password__says_so_without_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="does not open") as caught:
        load_key(key_files(tmp_path, password="shut"), what="signer")
    assert "shut" not in str(caught.value)


def test_load_key__not_set__names_the_flags() -> None:
    with pytest.raises(InvalidSetting, match=r"--signer\.keystore"):
        load_key(KeyFileSettings(), what="signer")


def test_load_key__no_keystore_there__says_so(tmp_path: Path) -> None:
    files = KeyFileSettings(keystore=tmp_path / "none", password_file=tmp_path / "none")
    with pytest.raises(InvalidSetting, match="cannot be read"):
        load_key(files, what="signer")
