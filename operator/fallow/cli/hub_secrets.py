"""`fallow hub secrets`: the keys of a new hub, as Secrets that its chart mounts.

Printed once and kept nowhere else. Pipe it into `kubectl create`, which refuses to replace what is there: the
operator's key signs settlements, and whoever loses the salt key cannot make an epoch's roots again.
"""

from __future__ import annotations

import json
import secrets
from typing import Annotated

import typer
import yaml
from eth_account import Account

from fallow.resources.naming import SYSTEM_NAMESPACE

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_KEYSTORE_ROUNDS = 262_144
"""PBKDF2 rounds, as common wallets use. The password lies in the same Secret: this is the file's format, and
what protects the key is who may read that Secret."""


@app.command()
def make(
    namespace: Annotated[
        str, typer.Option(metavar="NAMESPACE", help="Where the hub's programs run.")
    ] = SYSTEM_NAMESPACE,
) -> None:
    """Print a manifest: the namespace, and the Secrets fallow-operator and fallow-salt with fresh keys.

    fallow hub secrets | kubectl create -f -
    """
    key, password = Account.create(), secrets.token_urlsafe(32)
    keystore = Account.encrypt(key.key, password, kdf="pbkdf2", iterations=_KEYSTORE_ROUNDS)
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        _secret(
            "fallow-operator", namespace, {"keystore": json.dumps(keystore), "password": password + "\n"}
        ),
        _secret("fallow-salt", namespace, {"salt": secrets.token_hex(32) + "\n"}),
    ]
    typer.echo(yaml.safe_dump_all(objects, sort_keys=False), nl=False)
    typer.echo(f"The operator's address is {key.address}. Back both Secrets up.", err=True)


def _secret(name: str, namespace: str, data: dict[str, str]) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": data,
    }
