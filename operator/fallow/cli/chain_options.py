"""The options that chain commands share, and how a command finds its code.

web3 takes seconds to import, so each command imports what it needs when it runs.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated, Any

import typer

from fallow.errors import SettingsError

Rpc = Annotated[str, typer.Option("--rpc", metavar="URL", help="A JSON-RPC endpoint of the chain.")]
EscrowAddress = Annotated[str, typer.Option("--escrow", metavar="0x…", help="The escrow contract.")]
Keystore = Annotated[Path, typer.Option("--keystore", metavar="FILE", help="Encrypted keystore that signs.")]
PasswordFile = Annotated[Path, typer.Option("--password-file", metavar="FILE", help="Its password.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before what cannot be undone.")]

# Roles are multisigs where money is real, and a multisig has no keystore.
MaybeKeystore = Annotated[
    Path | None, typer.Option("--keystore", metavar="FILE", help="Encrypted keystore that signs.")
]
MaybePasswordFile = Annotated[
    Path | None, typer.Option("--password-file", metavar="FILE", help="Its password.")
]
PrintCall = Annotated[
    bool,
    typer.Option("--print-call", help="Send nothing: print the call, as JSON, for a multisig to make."),
]
Epoch = Annotated[int, typer.Argument(metavar="EPOCH", min=1, help="Number of the epoch.")]
LineNumber = Annotated[
    int, typer.Option("--line", metavar="N", min=0, help="Number of the line in the epoch, from 0.")
]
Archive = Annotated[Path, typer.Option("--archive", metavar="DIR", help="Directory with all epoch bundles.")]


def commands(name: str) -> Any:
    """Import a module of commands, which imports web3. SettingsError when that is not installed."""
    try:
        return importlib.import_module(f"fallow.cli.{name}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "fallow":
            raise
        raise SettingsError(f'`fallow chain` needs {error.name}: pip install "fallow[settler]".') from error
