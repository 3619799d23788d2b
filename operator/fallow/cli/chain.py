"""`fallow chain`: what a payer, a payee, an owner or an arbiter does at the escrow, by hand.

Keys come from encrypted keystores. What cannot be undone asks first (`--yes` answers). Exit status:
0 done, 1 refused or failed (with what to do next), 2 asked wrongly. web3 takes seconds to import, so
each command imports what it needs when it runs.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated, Any

import typer

from fallow.errors import SettingsError

app = typer.Typer(
    help="Act on the escrow contract. Keys are encrypted keystores, never flags.", no_args_is_help=True
)

Rpc = Annotated[str, typer.Option("--rpc", metavar="URL", help="A JSON-RPC endpoint of the chain.")]
EscrowAddress = Annotated[str, typer.Option("--escrow", metavar="0x…", help="The escrow contract.")]
Keystore = Annotated[Path, typer.Option("--keystore", metavar="FILE", help="Encrypted keystore that signs.")]
PasswordFile = Annotated[Path, typer.Option("--password-file", metavar="FILE", help="Its password.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before what cannot be undone.")]
Address = Annotated[str, typer.Option(metavar="0x…")]

_DAY = 86_400


def _commands(name: str) -> Any:
    """Import the commands' module, which imports web3."""
    try:
        return importlib.import_module(f"fallow.cli.{name}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "fallow":
            raise
        raise SettingsError(f'`fallow chain` needs {error.name}: pip install "fallow[settler]".') from error


@app.command()
def deploy(
    rpc: Rpc,
    keystore: Keystore,
    password_file: PasswordFile,
    token: Annotated[str, typer.Option(metavar="0x…", help="The ERC-20 that is paid with, for ever.")],
    hub_id: Annotated[str, typer.Option(metavar="0x…", help="The hub's id: 32 bytes, for ever.")],
    owner: Annotated[str, typer.Option(metavar="0x…", help="May unpause, rotate, close. A multisig.")],
    operator: Annotated[str, typer.Option(metavar="0x…", help="Address of the settler's key.")],
    guardian: Annotated[str, typer.Option(metavar="0x…", help="May pause settling, and nothing else.")],
    arbiter: Annotated[str, typer.Option(metavar="0x…", help="Rules on revealed disputes. A multisig.")],
    beneficiary: Annotated[str, typer.Option(metavar="0x…", help="Gets slashed stakes and lost bonds.")],
    fee_collector: Annotated[str, typer.Option(metavar="0x…", help="Gets the hub's fee.")] = "0x" + 40 * "0",
    max_fee_basis_points: Annotated[int, typer.Option(min=0, max=10_000, help="Largest fee, for ever.")] = 0,
    notice_seconds: Annotated[int, typer.Option(min=0, help="Notice of payers' withdrawals.")] = 7 * _DAY,
    payee_delay_seconds: Annotated[int, typer.Option(min=0, help="From registration to active.")] = _DAY,
    dispute_window_seconds: Annotated[int, typer.Option(min=1, help="One of two windows.")] = 3 * _DAY,
    minimum_bond: Annotated[str, typer.Option(metavar="AMOUNT", help="Least bond of a dispute.")] = "10",
    bond_basis_points: Annotated[int, typer.Option(min=0, max=10_000, help="Bond, of what is frozen.")] = 100,
    reveal_seconds: Annotated[int, typer.Option(min=1, help="For revealing leaves.")] = 2 * _DAY,
    arbitration_seconds: Annotated[int, typer.Option(min=1, help="For the ruling.")] = 7 * _DAY,
    unbonding_seconds: Annotated[int, typer.Option(min=1, help="Of stakes.")] = 30 * _DAY,
    audit: Annotated[str | None, typer.Option(metavar="REF", help="Audit of these contracts.")] = None,
    yes: Yes = False,
) -> None:
    """Deploy an escrow and its disputes module, and attach the one to the other.

    On every chain that is not a known test chain this refuses unless owner and arbiter are two
    multisig contracts and --audit names an audit. The deploying key gets no rights by deploying.
    """
    _commands("chain_deploy").deploy(**locals())


@app.command()
def deposit(
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="In the token's units, such as 250.50.")],
    rpc: Rpc,
    escrow: EscrowAddress,
    keystore: Keystore,
    password_file: PasswordFile,
    payer: Annotated[
        str | None, typer.Option("--for", metavar="0x…", help="Payer to credit; default: the key's own.")
    ] = None,
    yes: Yes = False,
) -> None:
    """Deposit tokens for a payer. It gets them back by `withdraw`, after notice."""
    _commands("chain_payer").deposit(**locals())


@app.command()
def authorize(
    rpc: Rpc,
    escrow: EscrowAddress,
    keystore: Keystore,
    password_file: PasswordFile,
    cap: Annotated[str | None, typer.Option(metavar="AMOUNT", help="Most per debit; 0 revokes.")] = None,
    min_interval_seconds: Annotated[
        int, typer.Option(min=0, max=2**24 - 1, help="Least time between two debits.")
    ] = 3600,
    notice: Annotated[bool, typer.Option("--notice", help="Announce a stricter binding.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Make the announced one effective.")] = False,
    yes: Yes = False,
) -> None:
    """Let the hub debit the payer: at most --cap, once per interval.

    That is also the most that a stolen operator key can take of this payer. Looser takes effect at
    once; stricter (or --cap 0) has to be announced with --notice, and made effective with --apply
    within 24 hours of its maturity.
    """
    _commands("chain_payer").authorize(**locals())


@app.command()
def balance(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="A payer or payee.")],
    rpc: Rpc,
    escrow: EscrowAddress,
) -> None:
    """Show what a payer has and allows, and what a payee is owed. Signs nothing."""
    _commands("chain_payer").balance(**locals())


@app.command()
def register_payee(
    rpc: Rpc,
    escrow: EscrowAddress,
    keystore: Keystore,
    password_file: PasswordFile,
    sender_keystore: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Who pays the gas; default: the payee.")
    ] = None,
    sender_password_file: Annotated[Path | None, typer.Option(metavar="FILE", help="Its password.")] = None,
) -> None:
    """Register a payee by its own signature: it can be credited after the escrow's delay."""
    _commands("chain_payee").register_payee(**locals())


@app.command()
def withdraw(
    rpc: Rpc,
    escrow: EscrowAddress,
    keystore: Keystore,
    password_file: PasswordFile,
    notice: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="Announce a payer's withdrawal; 0 cancels it.")
    ] = None,
    earned: Annotated[bool, typer.Option("--credits", help="Withdraw a payee's matured credits.")] = False,
    yes: Yes = False,
) -> None:
    """Take money out: a payer's announced and matured withdrawal, or a payee's credits.

    A payer first announces with --notice AMOUNT; once matured, the same command without --notice,
    within 24 hours. Under notice the money can still be debited for what has run.
    """
    _commands("chain_payee").withdraw(**locals())
