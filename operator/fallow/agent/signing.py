"""The provider's signing key, read from an encrypted keystore once at start."""

from __future__ import annotations

import json

from eth_account import Account
from eth_account.signers.local import LocalAccount

from fallow.errors import InvalidSetting
from fallow.settings import KeyFileSettings


def load_key(files: KeyFileSettings, *, what: str) -> LocalAccount:
    """Return the key in a keystore file (Ethereum, version 3).

    Raises InvalidSetting, with neither key nor password in it, when a file is missing or does not open.
    """
    if files.keystore is None or files.password_file is None:
        raise InvalidSetting(f"--{what}.keystore and --{what}.password-file must both be set.")
    try:
        keystore = json.loads(files.keystore.read_text())
        password = files.password_file.read_text().splitlines()[0]
    except (OSError, ValueError, IndexError) as error:
        raise InvalidSetting(f"The {what}'s keystore or password file cannot be read: {error}") from error
    try:
        secret = Account.decrypt(keystore, password)
    except (ValueError, KeyError, TypeError):
        raise InvalidSetting(f"The password does not open the keystore {files.keystore}.") from None
    account: LocalAccount = Account.from_key(secret)
    return account
