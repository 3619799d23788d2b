"""`fallow provider`: let members in, look at them, and see them out; run by a hub admin.

A member joins by both sides: the admin invites, its agent answers with a key of its own, the admin compares
that key's fingerprint with the owner out of band and accepts. Nothing here talks to a member.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from fallow.cli import provider_steps as steps
from fallow.errors import InvalidSetting

app = typer.Typer(
    help="Let members in, look at them, see them out: for hub admins.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The provider's name.")]
Kubeconfig = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Of a hub admin; default: KUBECONFIG, ~/.kube/config.")
]
SystemNamespace = Annotated[
    str, typer.Option(metavar="NAMESPACE", help="Where the hub's programs run.", show_default=True)
]
Ttl = Annotated[str, typer.Option(metavar="TIME", help="How long the invite counts: 30m, 1h, 2d.")]
Output = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Where the invite goes, - for here; default: NAME.invite.yaml."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
SYSTEM = "fallow-system"


@app.command()
def invite(
    name: Name,
    owner: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Who owns the cluster; several may share one. Default: NAME."),
    ] = None,
    region: Annotated[str, typer.Option(metavar="REGION", help="Where it stands.")] = "unknown",
    ttl: Ttl = "1h",
    output: Output = None,
    kubeconfig: Kubeconfig = None,
    system_namespace: SystemNamespace = SYSTEM,
) -> None:
    """Make the provider's namespace and a single-use invite for its owner.

    The file is a secret until it is used: send it by a way that only the owner reads. The hub keeps its hash
    and its end, nothing else.
    """
    _write_invite(name, ttl, output, kubeconfig, system_namespace, owner=owner or name, region=region)


@app.command()
def rejoin(
    name: Name,
    ttl: Ttl = "1h",
    output: Output = None,
    kubeconfig: Kubeconfig = None,
    system_namespace: SystemNamespace = SYSTEM,
) -> None:
    """Make a new invite for a provider that is known: its key was lost, or its token ended over 30 days ago.

    With the same key it is in again at once; with another one you accept it again.
    """
    _write_invite(name, ttl, output, kubeconfig, system_namespace)


@app.command()
def accept(
    name: Name,
    rpc: Annotated[
        str | None,
        typer.Option(metavar="URL", help="JSON-RPC of the chain, to see that the payee is registered."),
    ] = None,
    yes: Yes = False,
    wait: Annotated[str, typer.Option(metavar="TIME", help="How long to wait for an answer.")] = "2m",
    kubeconfig: Kubeconfig = None,
    system_namespace: SystemNamespace = SYSTEM,
) -> None:
    """Accept who answered the invite, or whose payee or key changed; nothing is scheduled before.

    Compare the key's fingerprint with the owner out of band: it is all that tells them from somebody else who
    read the invite. On a chain the payee must be registered at the escrow.
    """

    async def run() -> None:
        async with await steps.hub(kubeconfig) as api:
            found = await steps.candidate_soon(api, name, seconds=steps.seconds_of(wait))
            typer.echo(steps.described(found))
            told = await steps.told(api, system_namespace)
            typer.echo(f"  payee       {found.payee} {steps.payee_standing(found.payee, told, rpc)}")
            if found.accepted_already:
                typer.echo(f"{name} is accepted as it is: nothing to do.")
                return
            if not yes:
                typer.confirm("Does the owner read out the same fingerprint? Accept?", abort=True)
            await steps.accept(api, found)
            typer.echo(
                f"{name} is accepted. It gets work once its Offer is open: kubectl get providers {name}"
            )

    asyncio.run(run())


@app.command("list")
def list_(
    kubeconfig: Kubeconfig = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """List all providers: where they stand, what they bring, their key, and when their token ends."""

    async def run() -> None:
        async with await steps.hub(kubeconfig) as api:
            rows = await steps.rows(api)
            if as_json:
                typer.echo(json.dumps(rows, indent=1))
            elif rows:
                typer.echo(steps.table(rows))
            else:
                typer.echo("No providers. Let one in: fallow provider invite NAME")

    asyncio.run(run())


@app.command()
def drain(
    name: Name,
    undo: Annotated[bool, typer.Option("--undo", help="Give it work again.")] = False,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Give a provider no new work; what runs there runs on."""

    async def run() -> None:
        async with await steps.hub(kubeconfig) as api:
            await steps.desire(api, name, "Active" if undo else "Drain")
        typer.echo(f"{name} gets work again." if undo else f"{name} gets no new work; what runs, runs on.")

    asyncio.run(run())


@app.command()
def rotate(name: Name, yes: Yes = False, kubeconfig: Kubeconfig = None) -> None:
    """Make every token of a provider worthless; an agent that holds its key gets a new one by itself.

    Guests are not touched. For a new *key*: delete the agent's Secret fallow-agent-identity in the member,
    then `fallow provider rejoin` and `accept`.
    """
    if not yes:
        typer.confirm(f"Revoke all tokens of {name}?", abort=True)

    async def run() -> None:
        async with await steps.hub(kubeconfig) as api:
            await steps.revoke(api, name)
            await steps.let_in(api, name)
        typer.echo(f"All tokens of {name} are worthless within 15 s; its agent renews.")

    asyncio.run(run())


@app.command()
def remove(
    name: Name,
    timeout: Annotated[str, typer.Option(metavar="TIME", help="How long to wait for pay.")] = "15m",
    yes: Yes = False,
    kubeconfig: Kubeconfig = None,
) -> None:
    """See a provider out: revoke its tokens, move its work, settle what is owed, leave nothing behind.

    Unfinished tasks run elsewhere, and what its last report backs is paid. To let its guests finish
    first: `fallow provider drain`, wait, then remove. Run it again if it was cut off.
    """
    if not yes:
        typer.confirm(f"Remove {name}? Its unfinished tasks run again elsewhere, unpaid.", abort=True)

    async def run() -> str:
        async with await steps.hub(kubeconfig) as api:
            await steps.desire(api, name, "Removed")
            await steps.revoke(api, name)
            typer.echo(f"{name}: tokens revoked. Waiting until what is owed is settled.")
            left = await steps.settled(api, name, seconds=steps.seconds_of(timeout))
            if left:
                return left
            await steps.forget(api, name)
        typer.echo(f"{name} is gone. Its Settlements stay, and the archive.")
        return ""

    if left := asyncio.run(run()):
        typer.echo(f"{left} Look at `kubectl get claims -n provider-{name}`, then run this again.", err=True)
        raise typer.Exit(1)


def _write_invite(
    name: str,
    ttl: str,
    output: Path | None,
    kubeconfig: Path | None,
    system_namespace: str,
    **terms: str,
) -> None:
    path = output or Path(f"{name}.invite.yaml")
    to_stdout = path == Path("-")
    if not to_stdout and path.exists():
        raise InvalidSetting(f"{path} exists: remove it, or choose another with --output.")
    seconds = steps.seconds_of(ttl)

    async def run() -> str:
        async with await steps.hub(kubeconfig) as api:
            invite = await steps.invite(api, name, seconds, system_namespace=system_namespace, **terms)
        manifest = steps.manifest(invite)
        if to_stdout:
            typer.echo(manifest, nl=False)
        else:
            path.touch(mode=0o600)
            path.write_text(manifest)
        return invite.expires

    expires = asyncio.run(run())
    typer.echo(
        f"{'An invite' if to_stdout else f'Wrote {path}'}: good for one agent until {expires}. Send it to "
        "the owner, who runs:\n\n"
        f"  kubectl apply -f {path}\n"
        f"  helm install fallow-agent helm/fallow-agent -n {SYSTEM} \\\n"
        "    --set invite.existingSecret=fallow-invite --set payee=0x…\n\n"
        f"Then compare fingerprints with the owner and run:  fallow provider accept {name}",
        err=to_stdout,
    )
