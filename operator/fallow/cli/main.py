"""`fallow`: starts the programs, offers tools for those who pay, are paid, or check, and tells its version.

Imports of programs are late: `fallow hub` must not need what only the settler installs, and
`fallow --version` should not take a second.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Never

import typer

from fallow import __version__
from fallow.cli import run
from fallow.errors import FallowError, SettingsError

# What a program's own parser reads, --help included, passes through typer untouched.
_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

_HUB_TOOLS = {"restore": "restore", "secrets": "hub_secrets"}

app = typer.Typer(
    name="fallow",
    help="Idle GPU clusters become one pool: federated jobs, owner reclaim, on-chain settlement.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"fallow {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    pass


@app.command(
    context_settings=_PASSED_ON,
    help="Run the hub's operator. `fallow hub --help` explains every setting. `fallow hub restore` brings a "
    "hub that came back from a backup up to date; `fallow hub secrets` makes the keys of a new one.",
)
def hub(context: typer.Context) -> None:
    """Run the hub's operator, or restore it."""
    if context.args[:1] in (["restore"], ["secrets"]):
        name = context.args[0]
        tool: typer.Typer = importlib.import_module(f"fallow.cli.{_HUB_TOOLS[name]}").app
        tool(args=context.args[1:], prog_name=f"{context.command_path} {name}")
    run.hub(context.args)


@app.command(
    context_settings=_PASSED_ON,
    help="Run a member's agent. `fallow agent --help` explains every setting. `fallow agent leave` gives "
    "everything back first when it is to be removed.",
)
def agent(context: typer.Context) -> None:
    """Run a member's agent, or prepare its end."""
    if context.args[:1] == ["leave"]:
        typer.echo(importlib.import_module("fallow.agent.leaving").run(context.args[1:]))
    else:
        run.agent(context.args)


@app.command(
    context_settings=_PASSED_ON,
    help="Run the settler. `fallow settler --help` explains every setting; `fallow settler resume --help` "
    "how it goes on after a transaction of its key that it does not know.",
)
def settler(context: typer.Context) -> None:
    """Run the settler, or let it go on."""
    if context.args[:1] == ["resume"]:
        typer.echo(importlib.import_module("fallow.settler.resume").run(context.args[1:]))
    else:
        run.settler(context.args)


@app.command(
    context_settings=_PASSED_ON, help="Run a node's probe. `fallow probe --help` explains every setting."
)
def probe(context: typer.Context) -> None:
    """Run a node's probe."""
    run.probe(context.args)


@app.command(
    context_settings=_PASSED_ON, help="Try, as a guest, what guests must not reach: the agent starts it."
)
def canary(context: typer.Context) -> None:
    """Run a canary guest."""
    program: Callable[[list[str]], int] = importlib.import_module("fallow.canary").main
    raise typer.Exit(program(context.args))


@app.command(context_settings=_PASSED_ON, help="Check a claim, an epoch or a receipt: trusts only the chain.")
def verify(context: typer.Context) -> None:
    """Check a claim, an epoch or a receipt."""
    _tool("verify", context)


@app.command(context_settings=_PASSED_ON, help="Act on the escrow: deploy, deposit, authorize, withdraw, …")
def chain(context: typer.Context) -> None:
    """Act on the escrow."""
    _tool("chain", context)


@app.command(
    context_settings=_PASSED_ON,
    help="Let members in and see them out: `fallow provider invite`, accept, list, drain, remove, …",
)
def provider(context: typer.Context) -> None:
    """Let members in, look at them, see them out."""
    _tool("provider", context)


@app.command(context_settings=_PASSED_ON, help="Bind a payer to a namespace: `fallow account bind`.")
def account(context: typer.Context) -> None:
    """Bind a payer to a namespace."""
    _tool("account", context)


@app.command(context_settings=_PASSED_ON, help="Settled claims as CSV, for invoices: `fallow export claims`.")
def export(context: typer.Context) -> None:
    """Settled claims as CSV."""
    _tool("export", context)


@app.command(
    context_settings=_PASSED_ON,
    help="The archive in a bucket: `fallow archive fetch` copies it to a directory, checked.",
)
def archive(context: typer.Context) -> None:
    """Copy an archive in a bucket to a directory."""
    _tool("archive", context)


@app.command()
def version() -> None:
    """Show the version and exit."""
    _say_version(True)


def _tool(name: str, context: typer.Context) -> None:
    """Run a tool of the command line; imported only now, as it brings more than `--help` needs."""
    tool: typer.Typer = importlib.import_module(f"fallow.cli.{name}").app
    tool(args=context.args, prog_name=context.command_path)


def main() -> Never:
    """Run the command line; every expected error is one sentence on stderr.

    Exit status: 0 done, 2 a setting or flag is wrong, 1 anything else.
    """
    name = "kubectl fallow" if Path(sys.argv[0]).name == "kubectl-fallow" else "fallow"
    try:
        app(prog_name=name)
    except FallowError as error:
        sys.stderr.write(f"fallow: {error}\n")
        raise SystemExit(2 if isinstance(error, SettingsError) else 1) from None
    raise SystemExit(0)
