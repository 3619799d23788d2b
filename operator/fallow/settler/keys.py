"""The settler's secrets besides the operator's key, read from files once at start."""

from __future__ import annotations

from pathlib import Path

from eth_account.signers.local import LocalAccount

from fallow.errors import InvalidSetting
from fallow.receipts.epochs import MIN_SALT_KEY_BYTES
from fallow.receipts.keystores import load_key
from fallow.settings import KeyFileSettings


def load_revealer_key(files: KeyFileSettings) -> LocalAccount | None:
    """Return the key that answers disputes; None where a person does."""
    if files.keystore is None and files.password_file is None:
        return None
    return load_key(files, what="disputes.revealer")


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
