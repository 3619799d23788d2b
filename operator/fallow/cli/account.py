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
from eth_account.signers.local import LocalAccount
from pydantic import ValidationError

from fallow.cli.chain_reads import EscrowReader
from fallow.cli.proofs import Place
from fallow.errors import AmountError, InvalidSetting
from fallow.receipts.keystores import open_keystore
from fallow.receipts.statements import (
    NotThePayersKey,
    authorization_message,
    check_authorization,
    timestamp,
    unix_seconds,
)
from fallow.receipts.typed_data import Domain, digest, sign
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
    escrow: Annotated[str, typer.Option(metavar="0x…", help="The escrow contract.")],
    expires: Annotated[
        str, typer.Option(metavar="TIME", help="Nothing new is placed from then: 2027-01-31T00:00:00Z.")
    ],
    keystore: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The payer's encrypted keystore; of a wallet, an owner's."),
    ] = None,
    password_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with its password.")
    ] = None,
    wallet: Annotated[
        str | None,
        typer.Option(metavar="0x…", help="The payer is this contract (EIP-1271). It is asked over --rpc."),
    ] = None,
    signature: Annotated[
        str | None,
        typer.Option(metavar="0x…", help="What a wallet's owners signed elsewhere, instead of --keystore."),
    ] = None,
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
    if wallet is not None and rpc is None:
        raise InvalidSetting("--wallet takes --rpc too: only the contract itself can say whether it agrees.")
    if signature is not None and wallet is None:
        raise InvalidSetting("--signature goes with --wallet; the key of any other payer is in --keystore.")
    place = _place(escrow, rpc=rpc, chain_id=chain_id, hub_id=hub_id, decimals=decimals)
    now = int(time.time())
    key = _key(keystore, password_file)
    spec = unsigned_account(
        place,
        payer=_payer(wallet, key),
        namespace_uid=namespace_uid,
        limits=AccountLimits(max_total=_amount(max_total, place), max_per_day=_amount(max_per_day, place)),
        expires_at=_instant(expires, now=now),
        nonce=now if nonce is None else nonce,
    )
    assert spec.authorization is not None
    message = authorization_message(spec, decimals=place.decimals)
    if signature is None and key is None:
        raise InvalidSetting(
            f"Have the wallet's owners sign {to_hex(digest(place.domain, message))}, then run this again "
            f"with --signature and --nonce {spec.authorization.nonce}; or give an owner's --keystore."
        )
    if signature is None:
        assert key is not None
        signature = sign(place.domain, message, key=key)
    spec = _signed(spec, signature)
    try:
        check_authorization(spec, domain=place.domain, namespace_uid=namespace_uid, decimals=place.decimals)
    except NotThePayersKey as error:
        asked = error.asked
        assert wallet is not None
        assert rpc is not None
        if not EscrowReader(rpc, escrow).contract_accepts(asked.account, asked.digest, asked.signature):
            raise InvalidSetting(f"The contract {asked.account} does not accept this signature.") from None
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
        f"The payer {spec.payer} lets namespace {namespace} spend "
        f"{max_total or 'without limit'} until {expires}. Next: kubectl apply -f "
        f"{output or '…'}, and `fallow chain authorize` if the payer is not bound at the escrow yet.",
        err=True,
    )


def _key(keystore: Path | None, password_file: Path | None) -> LocalAccount | None:
    if (keystore is None) != (password_file is None):
        raise InvalidSetting("Give both --keystore and --password-file, or neither.")
    if keystore is None or password_file is None:
        return None
    return open_keystore(keystore, password_file)


def _payer(wallet: str | None, key: LocalAccount | None) -> str:
    if wallet is None:
        if key is None:
            raise InvalidSetting("Give the payer's --keystore and --password-file, or its --wallet.")
        return str(key.address)
    try:
        return checksummed(wallet)
    except ValueError as error:
        raise InvalidSetting(f"--wallet: {error}.") from None


def _signed(spec: AccountSpec, signature: str) -> AccountSpec:
    """Return an Account with its signature. InvalidSetting for what is none."""
    assert spec.authorization is not None
    fields = spec.authorization.model_dump() | {"signature": signature.lower()}
    try:
        given = Authorization(**fields)
    except ValidationError:
        raise InvalidSetting("--signature is not 0x and pairs of hexadecimal digits.") from None
    return spec.model_copy(update={"authorization": given})


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
