"""`fallow chain dispute | disputes | reveal | resolve | show-twice`, as typer shows them."""

from __future__ import annotations

from typing import Annotated

import typer

from fallow.cli.chain_options import (
    Archive,
    Epoch,
    EscrowAddress,
    Keystore,
    LineNumber,
    MaybeKeystore,
    MaybePasswordFile,
    PasswordFile,
    PrintCall,
    Rpc,
    Yes,
    commands,
)


def dispute(
    epoch: Epoch,
    rpc: Rpc,
    escrow: EscrowAddress,
    payee: Annotated[str, typer.Option("--payee", metavar="0x…", help="Whom the line pays.")],
    amount: Annotated[
        str | None, typer.Option("--amount", metavar="AMOUNT", help="Part of the line; default: all of it.")
    ] = None,
    payer: Annotated[
        str | None, typer.Option("--payer", metavar="0x…", help="With --print-call: whose line it is.")
    ] = None,
    transaction: Annotated[
        str | None,
        typer.Option("--transaction", metavar="0x…", help="What settled the epoch; default: searched for."),
    ] = None,
    keystore: MaybeKeystore = None,
    password_file: MaybePasswordFile = None,
    print_call: PrintCall = False,
    yes: Yes = False,
) -> None:
    """Freeze your own line of an epoch, or a part of it, while its credit rests. A payer's.

    Takes a bond, which is lost only by a ruling that finds nothing wrong. Nobody has to show you the
    claims first: the hub has to reveal leaves that sum to the line in time, or you are refunded.
    """
    commands("chain_disputing").dispute(**locals())


def disputes(
    rpc: Rpc,
    escrow: EscrowAddress,
    since_block: Annotated[int, typer.Option(min=0, help="Look from this block on.")] = 0,
) -> None:
    """List the disputes of an escrow: how each stands, and who has to do what until when."""
    commands("chain_disputing").disputes(**locals())


def reveal(
    epoch: Epoch,
    line: LineNumber,
    rpc: Rpc,
    escrow: EscrowAddress,
    archive: Archive,
    keystore: Keystore,
    password_file: PasswordFile,
    per_transaction: Annotated[
        int, typer.Option(min=1, max=200, help="Leaves per transaction: about 60,000 gas each.")
    ] = 50,
    yes: Yes = False,
) -> None:
    """Reveal the claims of a disputed line from the archive. Anyone's: the proof stands by itself.

    Publishes the leaves: claim ids, hashes, seconds, prices and amounts. Goes on where an earlier,
    interrupted run stopped.
    """
    commands("chain_disputing").reveal(**locals())


def resolve(
    epoch: Epoch,
    line: LineNumber,
    rpc: Rpc,
    escrow: EscrowAddress,
    reject: Annotated[
        list[str] | None,
        typer.Option("--reject", metavar="0x…", help="A claim id to reject; may be given several times."),
    ] = None,
    nothing_wrong: Annotated[
        bool, typer.Option("--nothing-wrong", help="Reject nothing: the payer loses its bond.")
    ] = False,
    overdue: Annotated[
        bool, typer.Option("--overdue", help="End a dispute whose deadline has passed. Anyone's.")
    ] = False,
    keystore: MaybeKeystore = None,
    password_file: MaybePasswordFile = None,
    print_call: PrintCall = False,
    yes: Yes = False,
) -> None:
    """End a dispute: the arbiter's ruling (--reject or --nothing-wrong), or --overdue by anyone.

    A rejected claim goes back to its payer as far as it is frozen, and is slashed from the payee's
    stake; the rest is released. Overdue: what was not revealed is refunded and slashed from the
    hub's stake; what was revealed and not ruled on is released.
    """
    commands("chain_disputing").resolve(**locals())


def show_twice(
    claim: Annotated[str, typer.Argument(metavar="CLAIM-ID", help="The claim id that was paid twice.")],
    rpc: Rpc,
    escrow: EscrowAddress,
    archive: Archive,
    keystore: Keystore,
    password_file: PasswordFile,
    yes: Yes = False,
) -> None:
    """Show that a claim was paid in two epochs. Anyone's, at any time.

    The hub's stake is slashed by at most the claim, once; while the second payment rests, its payer
    gets it back.
    """
    commands("chain_disputing").show_twice(**locals())


COMMANDS = (dispute, disputes, reveal, resolve, show_twice)
