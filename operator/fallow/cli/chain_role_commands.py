"""`fallow chain stake | unstake | collect | pause | unpause | rotate | close | attach-disputes | signer`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from fallow.cli.chain_options import (
    EscrowAddress,
    MaybeKeystore,
    MaybePasswordFile,
    PrintCall,
    Rpc,
    Yes,
    commands,
)

Hub = Annotated[
    bool, typer.Option("--hub", help="The hub's stake, which the escrow's owner controls; default: your own.")
]


class Role(StrEnum):
    """Who can be replaced."""

    OPERATOR = "operator"
    ARBITER = "arbiter"
    GUARDIAN = "guardian"
    OWNER = "owner"


def stake(
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="In the token's units.")],
    rpc: Rpc,
    escrow: EscrowAddress,
    hub: Hub = False,
    keystore: MaybeKeystore = None,
    password_file: MaybePasswordFile = None,
    yes: Yes = False,
) -> None:
    """Stake tokens behind your own claims (a payee), or with --hub behind the hub's honesty (anyone)."""
    commands("chain_staking").stake(**locals())


def unstake(
    rpc: Rpc,
    escrow: EscrowAddress,
    ask: Annotated[
        str | None,
        typer.Option("--ask", metavar="AMOUNT", help="Ask so much back; 0 takes the request back."),
    ] = None,
    hub: Hub = False,
    keystore: MaybeKeystore = None,
    password_file: MaybePasswordFile = None,
    print_call: PrintCall = False,
    yes: Yes = False,
) -> None:
    """Take a stake back: --ask AMOUNT first; after the unbonding period, within 24 h, without it."""
    commands("chain_staking").unstake(**locals())


def collect(
    rpc: Rpc,
    escrow: EscrowAddress,
    keystore: MaybeKeystore = None,
    password_file: MaybePasswordFile = None,
    print_call: PrintCall = False,
) -> None:
    """Take what came back to you from disputes: bonds, or, as the beneficiary, what was slashed."""
    commands("chain_staking").collect(**locals())


def pause(
    rpc: Rpc,
    escrow: EscrowAddress,
    keystore: MaybeKeystore = None,
    password_file: MaybePasswordFile = None,
    print_call: PrintCall = False,
) -> None:
    """Stop settling at once. The guardian's or the owner's. Withdrawals go on."""
    commands("chain_roles").pause(**locals())


def unpause(
    rpc: Rpc,
    escrow: EscrowAddress,
    keystore: MaybeKeystore = None,
    password_file: MaybePasswordFile = None,
    print_call: PrintCall = False,
    yes: Yes = False,
) -> None:
    """Let settling go on. The owner's."""
    commands("chain_roles").unpause(**locals())


def rotate(
    role: Annotated[Role, typer.Argument(help="Which role gets another holder.")],
    rpc: Rpc,
    escrow: EscrowAddress,
    to: Annotated[
        str | None, typer.Option("--to", metavar="0x…", help="Propose this address (the owner's).")
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="Accept, with the proposed key, once the delay is over.")
    ] = False,
    keystore: MaybeKeystore = None,
    password_file: MaybePasswordFile = None,
    print_call: PrintCall = False,
    yes: Yes = False,
) -> None:
    """Give a role to another key: --to proposes, the new key's --accept makes it so.

    Operator and arbiter can accept after 24 hours, an owner at once; a guardian is simply named.
    The zero address takes a proposal back. Payers have authorised the hub and need not sign again.
    """
    commands("chain_roles").rotate(**(locals() | {"role": role.value}))


def close(
    rpc: Rpc,
    escrow: EscrowAddress,
    successor: Annotated[
        str, typer.Option("--successor", metavar="0x…", help="The escrow to go to; default: none is named.")
    ] = "0x" + 40 * "0",
    keystore: MaybeKeystore = None,
    password_file: MaybePasswordFile = None,
    print_call: PrintCall = False,
    yes: Yes = False,
) -> None:
    """End an escrow: no deposits from now, no settling after the notice period. The owner's, final."""
    commands("chain_roles").close(**locals())


def attach_disputes(
    module: Annotated[str, typer.Argument(metavar="0x…", help="The disputes contract.")],
    rpc: Rpc,
    escrow: EscrowAddress,
    keystore: MaybeKeystore = None,
    password_file: MaybePasswordFile = None,
    print_call: PrintCall = False,
    yes: Yes = False,
) -> None:
    """Attach the disputes contract, before the first epoch, for ever. The owner's."""
    commands("chain_roles").attach_disputes(**locals())


def signer(
    address: Annotated[str, typer.Argument(metavar="0x…", help="The agent's signing key.")],
    rpc: Rpc,
    escrow: EscrowAddress,
    until: Annotated[
        int | None,
        typer.Option("--until", metavar="EPOCH", min=1, help="Valid from the next epoch to this one."),
    ] = None,
    end: Annotated[
        int | None, typer.Option("--end", metavar="EPOCH", min=0, help="End it after this epoch instead.")
    ] = None,
    payee: Annotated[
        str | None, typer.Option("--payee", metavar="0x…", help="Only show how it stands, for this payee.")
    ] = None,
    keystore: MaybeKeystore = None,
    password_file: MaybePasswordFile = None,
    print_call: PrintCall = False,
    yes: Yes = False,
) -> None:
    """Say for which epochs a key may sign a payee's receipts. The payee's.

    Claims whose receipts were signed by a key that the payee has ended are refused after that epoch.
    A key that was never named here is taken on the hub admin's word, who accepted it.
    """
    commands("chain_roles").signer(**locals())


COMMANDS = (stake, unstake, collect, pause, unpause, rotate, close, attach_disputes, signer)
