"""Keys in files: an encrypted JSON keystore (Web3 Secret Storage, version 3) and its password.

No flag, variable or prompt takes a key: those end up in shell histories and process lists.
"""

from __future__ import annotations

import json
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount

from fallow.errors import InvalidSetting
from fallow.settings import KeyFileSettings


def load_key(files: KeyFileSettings, *, what: str) -> LocalAccount:
    """Return a program's key; `what` is the settings' group. Raises as `open_keystore` does."""
    if files.keystore is None or files.password_file is None:
        raise InvalidSetting(f"--{what}.keystore and --{what}.password-file must both be set.")
    return open_keystore(files.keystore, files.password_file)


def open_keystore(keystore: Path, password_file: Path) -> LocalAccount:
    """Return the key in a keystore; the password is the file's first line.

    Raises InvalidSetting, without any secret in it, when a file cannot be read or does not fit.
    """
    try:
        content = json.loads(keystore.read_text())
        if not isinstance(content, dict):
            raise ValueError("it is no keystore")
    except (OSError, ValueError) as error:
        raise InvalidSetting(f"The keystore {keystore} cannot be read: {error}.") from None
    try:
        lines = password_file.read_text().splitlines()
    except (OSError, ValueError) as error:
        raise InvalidSetting(f"The password file {password_file} cannot be read: {error}.") from None
    try:
        account: LocalAccount = Account.from_key(Account.decrypt(content, lines[0] if lines else ""))
    except (ValueError, KeyError, TypeError):
        raise InvalidSetting(f"The password in {password_file} does not open {keystore}.") from None
    return account
