"""`fallow account bind`: the Account manifest by which a payer lets one namespace spend.

The payer signs chain, escrow, hub, namespace UID, limits, expiry and nonce (EIP-712); nobody can
charge a payer by merely naming it. Nothing is sent anywhere: the manifest goes to standard output
or a file, and whoever may write in the namespace applies it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
import yaml

from fallow.cli.chain_reads import EscrowReader
from fallow.cli.keystores import open_keystore
from fallow.cli.proofs import Place
from fallow.errors import AmountError, InvalidSetting
from fallow.receipts.statements import authorization_message, check_authorization, timestamp, unix_seconds
from fallow.receipts.typed_data import Domain, sign
from fallow.receipts.words import checksummed, from_hex, to_hex, uid_bytes
from fallow.resources.account import AccountLimits, AccountSpec, Authorization
from fallow.resources.base import API_VERSION
from fallow.resources.money import parse_amount

app = typer.Typer(help="Accounts: who pays for a namespace's jobs.", no_args_is_help=True)


@app.callback()
def _account() -> None:
    pass


@app.command()
def bind(
    namespace: Annotated[str, typer.Option(metavar="NAME", help="Namespace that may spend.")],
    namespace_uid: Annotated[
        str,
        typer.Option(metavar="UID", help="kubectl get ns NAME -o jsonpath={.metadata.uid}"),
    ],
    keystore: Annotated[Path, typer.Option(metavar="FILE", help="The payer's encrypted keystore.")],
    password_file: Annotated[Path, typer.Option(metavar="FILE", help="File with its password.")],
    escrow: Annotated[str, typer.Option(metavar="0x…", help="The escrow contract.")],
    expires: Annotated[
        str, typer.Option(metavar="TIME", help="Nothing new is placed from then: 2027-01-31T00:00:00Z.")
    ],
    rpc: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Read chain, hub and decimals from the escrow. Or give the three:"),
    ] = None,
    chain_id: Annotated[int | None, typer.Option(metavar="N", help="Chain id, to sign offline.")] = None,
    hub_id: Annotated[str | None, typer.Option(metavar="0x…", help="Hub id, to sign offline.")] = None,
    decimals: Annotated[
        int | None, typer.Option(metavar="N", help="The token's decimals, to sign offline.")
    ] = None,
    max_total: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="Most that may ever be charged, in the token.")
    ] = None,
    max_per_day: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="Most that may be charged in 24 hours.")
    ] = None,
    nonce: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Above that of earlier ones; default: the time.")
    ] = None,
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the Account.")] = "default",
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write there, not to stdout.")] = None,
) -> None:
    """Sign that a namespace may spend the payer's deposit, and write the Account manifest.

    Without --max-total the namespace may spend all that is deposited, as fast as the binding at the
    escrow (`fallow chain authorize`) lets it.
    """
    place = _place(escrow, rpc=rpc, chain_id=chain_id, hub_id=hub_id, decimals=decimals)
    now = int(time.time())
    key = open_keystore(keystore, password_file)
    spec = unsigned_account(
        place,
        payer=key.address,
        namespace_uid=namespace_uid,
        limits=AccountLimits(max_total=_amount(max_total, place), max_per_day=_amount(max_per_day, place)),
        expires_at=_instant(expires, now=now),
        nonce=now if nonce is None else nonce,
    )
    assert spec.authorization is not None
    message = authorization_message(spec, decimals=place.decimals)
    signature = sign(place.domain, message, key=key)
    given = spec.authorization.model_copy(update={"signature": signature})
    spec = spec.model_copy(update={"authorization": given})
    check_authorization(spec, domain=place.domain, namespace_uid=namespace_uid, decimals=place.decimals)
    manifest = {
        "apiVersion": API_VERSION,
        "kind": "Account",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec.wire(),
    }
    text = yaml.safe_dump(manifest, sort_keys=False)
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_text(text)
    typer.echo(
        f"The payer {key.address} lets namespace {namespace} spend "
        f"{max_total or 'without limit'} until {given.expires_at}. Next: kubectl apply -f "
        f"{output or '…'}, and `fallow chain authorize` if the payer is not bound at the escrow yet.",
        err=True,
    )


def unsigned_account(
    place: Place, *, payer: str, namespace_uid: str, limits: AccountLimits, expires_at: int, nonce: int
) -> AccountSpec:
    """Return the Account to sign, with a placeholder for the signature. InvalidSetting for a bad UID."""
    try:
        uid_bytes(namespace_uid)
    except ValueError:
        raise InvalidSetting(f"--namespace-uid {namespace_uid!r} is no UID of a namespace.") from None
    return AccountSpec(
        payer=payer,
        limits=limits,
        authorization=Authorization(
            chain_id=place.domain.chain_id,
            escrow=checksummed(place.domain.escrow),
            hub_id=to_hex(place.domain.hub_id),
            namespace_uid=namespace_uid,
            expires_at=timestamp(expires_at),
            nonce=nonce,
            signature="0x00",
        ),
    )


def _place(
    escrow: str, *, rpc: str | None, chain_id: int | None, hub_id: str | None, decimals: int | None
) -> Place:
    if rpc is not None:
        return EscrowReader(rpc, escrow).place()
    if chain_id is None or hub_id is None or decimals is None:
        raise InvalidSetting("Give --rpc, or all of --chain-id, --hub-id and --decimals.")
    try:
        domain = Domain(chain_id=chain_id, escrow=checksummed(escrow), hub_id=from_hex(hub_id))
    except ValueError as error:
        raise InvalidSetting(f"--escrow or --hub-id: {error}.") from None
    return Place(domain=domain, token="", decimals=decimals)


def _amount(text: str | None, place: Place) -> str | None:
    try:
        if text is not None:
            parse_amount(text, decimals=place.decimals)
    except AmountError as error:
        raise InvalidSetting(f"A limit is wrong: {error}.") from None
    return text


def _instant(text: str, *, now: int) -> int:
    try:
        instant = unix_seconds(text)
    except ValueError:
        raise InvalidSetting(f"--expires {text!r} is no time such as 2027-01-31T00:00:00Z.") from None
    if instant <= now:
        raise InvalidSetting(f"--expires {text} has passed.")
    return instant
