"""Keys of a rig: fresh ones for each, in the files in which the programs expect them."""

import json
import secrets
from dataclasses import dataclass
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount

from devkit.rig.certificates import write_private

_PBKDF2_ROUNDS = 1000
"""Enough to exercise the format; these keys are worth nothing, and a start should not take a second."""


@dataclass(frozen=True)
class KeyFile:
    """A key and the encrypted keystore that holds it."""

    account: LocalAccount
    keystore: Path
    password_file: Path


def new_key() -> LocalAccount:
    account: LocalAccount = Account.create()
    return account


def new_key_file(directory: Path, name: str) -> KeyFile:
    """Make a key; write DIRECTORY/NAME.json and DIRECTORY/NAME.password."""
    account = new_key()
    password = secrets.token_hex(16)
    directory.mkdir(parents=True, exist_ok=True)
    store = Account.encrypt(account.key, password, kdf="pbkdf2", iterations=_PBKDF2_ROUNDS)
    keystore = write_private(directory / f"{name}.json", json.dumps(store).encode())
    password_file = write_private(directory / f"{name}.password", f"{password}\n".encode())
    return KeyFile(account, keystore, password_file)
