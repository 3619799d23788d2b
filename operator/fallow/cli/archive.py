"""`fallow archive fetch`: the archive's bundles from a bucket into a directory, each checked by its name.

Whoever verifies, restores a hub or writes invoices reads a directory: of a settler's volume, or what
this command made of its bucket.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from fallow.errors import InvalidSetting
from fallow.receipts.words import from_hex
from fallow.settings import S3Settings
from fallow.settler.archive import SUFFIX
from fallow.settler.archive_s3 import S3Store
from fallow.settler.faults import Faults
from fallow.settler.refusals import ArchiveDamaged

app = typer.Typer(help="The archive of epoch bundles, where it is a bucket.", no_args_is_help=True)


@app.callback()
def _archive() -> None:
    pass


@app.command()
def fetch(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to; made when missing. What is there is kept.")
    ],
    bucket: Annotated[str, typer.Option(metavar="NAME", help="The archive's bucket.")],
    prefix: Annotated[str, typer.Option(metavar="PATH/", help="What all names begin with.")] = "",
    endpoint: Annotated[str | None, typer.Option(metavar="URL", help="A store other than Amazon's.")] = None,
    region: Annotated[str, typer.Option(help="The bucket's region.")] = "us-east-1",
    credentials_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keys in a section [default]; not in variables.")
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What the store's certificate is signed by.")
    ] = None,
) -> None:
    """Fetch all bundles that DIR lacks, each under the name that its content has."""
    try:
        settings = S3Settings(
            bucket=bucket,
            prefix=prefix,
            endpoint=endpoint,
            region=region,
            credentials_file=credentials_file,
            ca_file=ca_file,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidSetting(f"--{first['loc'][0]}: {first['msg']}.") from None
    store = S3Store(settings, faults=Faults())
    directory.mkdir(parents=True, exist_ok=True)
    fetched = 0
    for name in store.names():
        path = directory / name
        if path.exists():
            continue
        bundle = store.get(name)
        if bundle.hash != from_hex(name.removesuffix(SUFFIX)):
            raise ArchiveDamaged(f"{name} was changed: its content has another hash")
        partial = path.with_suffix(".partial")
        with bundle.open() as source, partial.open("wb") as copy:
            shutil.copyfileobj(source, copy)
        partial.replace(path)
        fetched += 1
    typer.echo(f"{fetched} bundles fetched to {directory}.")
