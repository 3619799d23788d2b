"""`fallow chain`: what a payer, a payee, an owner, a guardian or an arbiter does at the escrow, by hand.

Keys come from encrypted keystores; for a multisig, a call is printed instead of sent. What cannot be
undone asks first (`--yes` answers). Exit status: 0 done, 1 refused or failed (with what to do next),
2 asked wrongly.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fallow.cli import chain_dispute_commands, chain_role_commands
from fallow.cli.chain_options import EscrowAddress, Keystore, PasswordFile, Rpc, Yes, commands

app = typer.Typer(
    help="Act on the escrow contract. Keys are encrypted keystores, never flags.", no_args_is_help=True
)

_DAY = 86_400


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
    commands("chain_deploy").deploy(**locals())


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
    commands("chain_payer").deposit(**locals())


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
    commands("chain_payer").authorize(**locals())


@app.command()
def balance(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="A payer or payee.")],
    rpc: Rpc,
    escrow: EscrowAddress,
) -> None:
    """Show what a payer has and allows, and what a payee is owed. Signs nothing."""
    commands("chain_payer").balance(**locals())


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
    commands("chain_payee").register_payee(**locals())


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
    everything: Annotated[
        bool, typer.Option("--all", help="Of a closed escrow: all, without notice.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Take money out: a payer's announced and matured withdrawal, or a payee's credits.

    A payer first announces with --notice AMOUNT; once matured, the same command without --notice,
    within 24 hours. Under notice the money can still be debited for what has run.
    """
    commands("chain_payee").withdraw(**locals())


for command in (*chain_dispute_commands.COMMANDS, *chain_role_commands.COMMANDS):
    app.command()(command)
