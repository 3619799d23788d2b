"""`fallow export claims`: what was settled, as CSV, for invoices.

From the archive and the chain (or a ledger's Settlements): what the hub itself still holds does not
matter, and what was only archived, never settled, is not in it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from fallow.cli.bundles import BundleDirectory, Epochs
from fallow.cli.chain_reads import EscrowReader
from fallow.cli.epoch_proofs import BundleFile
from fallow.cli.ledger_reads import LedgerReader
from fallow.errors import InvalidSetting
from fallow.receipts.words import checksummed, to_hex
from fallow.resources.money import format_amount, parse_amount

app = typer.Typer(help="Settled claims, for bookkeeping.", no_args_is_help=True)

COLUMNS = (
    "provider", "owner", "account", "payer", "payee", "job", "job_uid", "placement_uid", "claim_id",
    "finished", "seconds", "price_per_task_hour", "amount", "token", "epoch", "commitment", "chain_id",
    "escrow",
)  # fmt: skip
TOTALS = ("provider", "owner", "account", "payer", "payee", "token", "claims", "seconds", "amount")

Row = dict[str, Any]


@app.callback()
def _export() -> None:
    pass


@app.command()
def claims(
    archive: Annotated[Path, typer.Option(metavar="DIR", help="Directory with all epoch bundles.")],
    since: Annotated[
        str, typer.Option(metavar="DATE", help="Work that ended on or after it (UTC): 2027-01-01.")
    ],
    until: Annotated[str | None, typer.Option(metavar="DATE", help="And before it.")] = None,
    rpc: Annotated[str | None, typer.Option(metavar="URL", help="A JSON-RPC endpoint of the chain.")] = None,
    escrow: Annotated[str | None, typer.Option(metavar="0x…", help="The escrow contract.")] = None,
    settlements: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Ledger mode, instead: kubectl get settlements -o json."),
    ] = None,
    provider: Annotated[str | None, typer.Option(metavar="NAME", help="Only this provider's.")] = None,
    account: Annotated[
        str | None, typer.Option(metavar="NS/NAME", help="Only what this account paid.")
    ] = None,
    totals: Annotated[bool, typer.Option("--totals", help="One row per provider and account.")] = False,
    csv_file: Annotated[
        str, typer.Option("--csv", metavar="FILE", help="Write there; - is standard output.")
    ] = "-",
) -> None:
    """Write settled claims as CSV, sorted by provider and account.

    Work is dated by when the hub saw it finish. Amounts are decimal strings of the token.
    """
    first = _day(since, flag="--since")
    last = None if until is None else _day(until, flag="--until")
    rows = [
        row
        for bundle in BundleDirectory(archive).settled(_epochs(rpc, escrow, settlements))
        for row in rows_of(bundle)
        if row["finished"] >= first
        and (last is None or row["finished"] < last)
        and provider in (None, row["provider"])
        and account in (None, row["account"])
    ]
    rows.sort(key=lambda row: (row["provider"], row["account"], row["finished"], row["claim_id"]))
    text = as_csv(TOTALS, totals_of(rows)) if totals else as_csv(COLUMNS, rows)
    if csv_file == "-":
        typer.echo(text, nl=False)
        return
    try:
        Path(csv_file).write_text(text)
    except OSError as error:
        raise InvalidSetting(f"--csv cannot be written: {error}.") from None
    typer.echo(f"{len(rows)} claims written to {csv_file}.", err=True)


def rows_of(bundle: BundleFile) -> Iterator[Row]:
    """Return a bundle's claims as rows."""
    head, commitment = bundle.content, to_hex(bundle.stated_commitment)
    for entry in bundle.claims:
        spec: Mapping[str, Any] = entry["spec"]
        terms = spec["terms"]
        seen = spec["observations"]
        yield {
            "provider": terms["provider"],
            "owner": terms["ownerId"],
            "account": f"{terms['accountNamespace']}/{terms['accountName']}",
            "payer": checksummed(terms["account"]["payer"]),
            "payee": checksummed(terms["quote"]["payee"]),
            "job": f"{spec['job']['namespace']}/{spec['job']['name']}",
            "job_uid": spec["job"]["uid"],
            "placement_uid": spec["placement"]["uid"],
            "claim_id": spec["claimId"],
            "finished": seen.get("finishedAt") or spec["receipt"]["periodEnd"],
            "seconds": spec["seconds"],
            "price_per_task_hour": terms["pricePerTaskHour"],
            "amount": spec["amount"],
            "token": checksummed(terms["token"]),
            "epoch": bundle.epoch,
            "commitment": commitment,
            "chain_id": head["chainId"],
            "escrow": head["escrow"],
            "_decimals": terms["tokenDecimals"],
        }


def totals_of(rows: Iterable[Row]) -> list[Row]:
    """Return one row per provider and account (and whatever else an invoice must not mix)."""
    sums: dict[tuple[str, ...], Row] = {}
    for row in rows:
        key = tuple(str(row[name]) for name in TOTALS[:6])
        total = sums.setdefault(key, {**row, "claims": 0, "seconds": 0, "units": 0})
        total["claims"] += 1
        total["seconds"] += row["seconds"]
        total["units"] += parse_amount(row["amount"], decimals=row["_decimals"])
    return [
        {**total, "amount": format_amount(total["units"], decimals=total["_decimals"])}
        for _, total in sorted(sums.items())
    ]


def as_csv(columns: tuple[str, ...], rows: Iterable[Row]) -> str:
    """Return rows as CSV with a heading. A text that a spreadsheet would run is quoted by an apostrophe."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _harmless(row[name]) for name in columns})
    return out.getvalue()


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value


def _epochs(rpc: str | None, escrow: str | None, settlements: Path | None) -> Epochs:
    if settlements is not None and rpc is None and escrow is None:
        return LedgerReader.of_file(settlements)
    if settlements is None and rpc is not None and escrow is not None:
        return EscrowReader(rpc, escrow)
    raise InvalidSetting("Give --rpc and --escrow, or in ledger mode --settlements.")


def _day(text: str, *, flag: str) -> str:
    """Return a day or time as timestamps are written here, so that texts compare as times do."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidSetting(f"{flag} {text!r} is no date such as 2027-01-31.") from None
    instant = instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")
