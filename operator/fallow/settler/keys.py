"""The settler's secrets, read from files once at start: operator's key, revealer's key, salt key."""

from __future__ import annotations

import json
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount

from fallow.errors import InvalidSetting
from fallow.receipts.epochs import MIN_SALT_KEY_BYTES
from fallow.settings import KeyFileSettings


def load_operator_key(files: KeyFileSettings) -> LocalAccount:
    """Return the key in the encrypted keystore. InvalidSetting, without any secret in it, otherwise."""
    return _load(files, flag="--operator", whose="operator's")


def load_revealer_key(files: KeyFileSettings) -> LocalAccount | None:
    """Return the key that answers disputes; None where a person does."""
    if files.keystore is None and files.password_file is None:
        return None
    return _load(files, flag="--disputes.revealer", whose="revealer's")


def _load(files: KeyFileSettings, *, flag: str, whose: str) -> LocalAccount:
    if files.keystore is None or files.password_file is None:
        raise InvalidSetting(f"{flag}.keystore and {flag}.password-file must both be set.")
    try:
        keystore = json.loads(files.keystore.read_text())
        password = files.password_file.read_text().splitlines()[0]
    except (OSError, ValueError, IndexError) as error:
        raise InvalidSetting(f"The {whose} keystore or password file cannot be read: {error}") from None
    try:
        account: LocalAccount = Account.from_key(Account.decrypt(keystore, password))
    except (ValueError, KeyError, TypeError):
        raise InvalidSetting(f"The password does not open the keystore {files.keystore}.") from None
    return account


def load_salt_key(path: Path | None) -> bytes:
    """Return the bytes that a file holds in hexadecimal. InvalidSetting when it has fewer than 32."""
    if path is None:
        raise InvalidSetting("--salt-key-file (FALLOW_SALT_KEY_FILE) must be set.")
    try:
        key = bytes.fromhex(path.read_text().strip().removeprefix("0x"))
    except (OSError, ValueError):
        raise InvalidSetting(f"{path} cannot be read as hexadecimal digits.") from None
    if len(key) < MIN_SALT_KEY_BYTES:
        raise InvalidSetting(f"{path} must hold at least {2 * MIN_SALT_KEY_BYTES} hexadecimal digits.")
    return key
