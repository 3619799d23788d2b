"""`fallow verify`: anyone checks a claim, an epoch or a receipt, trusting nobody but the chain.

The data come from the archive's bundle (or an object that somebody hands over), what counts comes
from the escrow over one RPC URL. Exit status: 0 verified, 1 not, 2 asked wrongly.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fallow.cli.bundles import BundleDirectory, BundleMissing, Epochs
from fallow.cli.chain_reads import EscrowReader
from fallow.cli.claim_evidence import Evidence, work_of_placement
from fallow.cli.claim_proofs import check_claim, check_receipt
from fallow.cli.epoch_proofs import BundleFile, Committed, Seen, check_claim_of, check_epoch
from fallow.cli.proofs import Report
from fallow.errors import InvalidSetting, Malformed
from fallow.receipts.words import ZERO_WORD
from fallow.resources.terms import Terms

app = typer.Typer(
    help="Check what was paid, from the archive and the chain alone: exit 0 verified, 1 not, 2 usage.",
    no_args_is_help=True,
)

Rpc = Annotated[str, typer.Option("--rpc", metavar="URL", help="A JSON-RPC endpoint of the chain.")]
EscrowAddress = Annotated[
    str, typer.Option("--escrow", metavar="0x…", help="The escrow contract: whom you trust.")
]
Archive = Annotated[
    Path | None, typer.Option("--archive", metavar="DIR", help="Directory with all epoch bundles.")
]
OneBundle = Annotated[Path | None, typer.Option("--bundle", metavar="FILE", help="Just one bundle.")]
PlacementFile = Annotated[
    Path | None,
    typer.Option(
        "--placement",
        metavar="FILE",
        help="The Placement as JSON, if somebody kept it: shows price and indexes too.",
    ),
]
NamespaceUid = Annotated[
    str | None, typer.Option("--namespace-uid", metavar="UID", help="UID of the account's namespace.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")]


@app.command()
def epoch(
    number: Annotated[int, typer.Argument(metavar="EPOCH", min=1, help="Number of the epoch.")],
    rpc: Rpc,
    escrow: EscrowAddress,
    archive: Archive = None,
    bundle: OneBundle = None,
    as_json: AsJson = False,
) -> None:
    """Check a whole epoch: bundle, leaves, roots, lines, commitment, and every claim in it."""
    reader = EscrowReader(rpc, escrow)
    report = Report()
    found, directory = _bundle_of(number, reader, archive=archive, bundle=bundle, report=report)
    if found is not None and check_epoch(found, reader.place(), _committed(reader, number), report):
        for index in range(len(found.claims)):
            single = Report()
            _check_one(found, index, reader, Evidence(contract_accepts=reader.contract_accepts), single)
            report.refused += single.refused
            for sentence in single.unproven:
                report.leave_open(sentence)
        if report.verified:
            report.prove("Every claim in it is signed by its provider and authorised by its payer.")
        _check_once(found, reader, directory, report)
    _tell(f"Epoch {number} of escrow {reader.escrow}", report, as_json=as_json)


@app.command()
def claim(
    name: Annotated[str, typer.Argument(metavar="CLAIM", help="Claim id (0x…) or name of the claim.")],
    rpc: Rpc,
    escrow: EscrowAddress,
    archive: Archive = None,
    bundle: OneBundle = None,
    placement: PlacementFile = None,
    namespace_uid: NamespaceUid = None,
    as_json: AsJson = False,
) -> None:
    """Check one claim: that it is settled, signed by all, priced right, and paid once."""
    reader = EscrowReader(rpc, escrow)
    report = Report()
    evidence = Evidence(
        placement=None if placement is None else _json_of(placement),
        namespace_uid=namespace_uid,
        contract_accepts=reader.contract_accepts,
    )
    found, directory = _bundle_with(name, reader, archive=archive, bundle=bundle, report=report)
    if found is not None:
        if check_epoch(found, reader.place(), _committed(reader, found.epoch), report):
            index = next(at for at, one in enumerate(found.claims) if _is_named(one, name))
            _check_one(found, index, reader, evidence, report)
            _check_once(found, reader, directory, report, only=found.claims[index])
    elif report.verified:
        report.refuse("NotSettled", f"No settled bundle has claim {name}.")
    _tell(f"Claim {name} at escrow {reader.escrow}", report, as_json=as_json)


@app.command()
def receipt(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A Placement or PaymentClaim as JSON; - reads stdin.")
    ],
    rpc: Rpc,
    escrow: EscrowAddress,
    placement: PlacementFile = None,
    namespace_uid: NamespaceUid = None,
    as_json: AsJson = False,
) -> None:
    """Check a receipt that is not settled yet: `kubectl get plc NAME -o json` has one."""
    reader = EscrowReader(rpc, escrow)
    report = Report()
    obj = _json_of(file)
    is_placement = obj.get("kind") == "Placement"
    evidence = Evidence(
        placement=obj if is_placement else None if placement is None else _json_of(placement),
        namespace_uid=namespace_uid,
        contract_accepts=reader.contract_accepts,
    )
    try:
        if is_placement:
            work = work_of_placement(obj, evidence)
            check_receipt(work, reader.place(), report)
            terms = work.terms
        else:
            check_claim(obj.get("spec") or obj, reader.place(), evidence, report)
            terms = Terms.model_validate((obj.get("spec") or obj).get("terms"))
        _check_registry(terms, reader, report, epoch=reader.last_epoch() + 1)
    except (Malformed, ValueError) as error:
        if report.verified:
            report.refuse("Malformed", f"{str(error).splitlines()[0]}.")
    report.leave_open("That it is paid: `fallow verify claim` shows that once it is settled.")
    _tell(f"Receipt in {file}, for escrow {reader.escrow}", report, as_json=as_json)


def _bundle_of(
    number: int, epochs: Epochs, *, archive: Path | None, bundle: Path | None, report: Report
) -> tuple[BundleFile | None, BundleDirectory | None]:
    """Return the bundle to check; a refusal and None where there is none."""
    if (archive is None) == (bundle is None):
        raise InvalidSetting("Give either --archive or --bundle.")
    if bundle is not None:
        return _read_bundle(bundle, report), None
    assert archive is not None
    directory = BundleDirectory(archive)
    wanted = epochs.commitment(number)
    if wanted == ZERO_WORD:
        last = epochs.last_epoch()
        report.refuse("NotSettled", f"Epoch {number} is not settled: the last one is {last}.")
        return None, directory
    try:
        return directory.find(wanted), directory
    except BundleMissing as error:
        report.refuse("BundleTampered" if directory.damaged else "BundleMissing", f"{error}.")
        return None, directory


def _bundle_with(
    name: str, epochs: Epochs, *, archive: Path | None, bundle: Path | None, report: Report
) -> tuple[BundleFile | None, BundleDirectory | None]:
    """Return the settled bundle with a claim."""
    if (archive is None) == (bundle is None):
        raise InvalidSetting("Give either --archive or --bundle.")
    if bundle is not None:
        found = _read_bundle(bundle, report)
        return (found if found and any(_is_named(one, name) for one in found.claims) else None), None
    assert archive is not None
    directory = BundleDirectory(archive)
    try:
        for one in directory.settled(epochs):
            if any(_is_named(entry, name) for entry in one.claims):
                return one, directory
    except BundleMissing as error:
        report.refuse("BundleTampered" if directory.damaged else "BundleMissing", f"{error}.")
    return None, directory


def _read_bundle(path: Path, report: Report) -> BundleFile | None:
    try:
        return BundleFile.of(path.read_bytes())
    except OSError as error:
        raise InvalidSetting(f"--bundle cannot be read: {error}.") from None
    except Malformed as error:
        report.refuse("BundleTampered", f"{error}.")
        return None


def _is_named(entry: Any, name: str) -> bool:
    return name in (
        entry["spec"].get("claimId"),
        entry.get("name"),
        f"{entry.get('namespace')}/{entry.get('name')}",
    )


def _committed(epochs: Epochs, number: int) -> Committed:
    return Committed(
        epoch=number,
        previous=epochs.commitment(number - 1),
        commitment=epochs.commitment(number),
    )


def _check_one(
    bundle: BundleFile, index: int, reader: EscrowReader, evidence: Evidence, report: Report
) -> None:
    before = len(report.refused)
    check_claim_of(bundle, index, reader.place(), evidence, report)
    if len(report.refused) == before:
        terms = Terms.model_validate(bundle.claims[index]["spec"]["terms"])
        _check_registry(terms, reader, report, epoch=bundle.epoch)


def _check_registry(terms: Terms, reader: EscrowReader, report: Report, *, epoch: int) -> None:
    """Say whether the payee itself vouches for the key that signed quote and receipt."""
    payee, signer = terms.quote.payee, terms.quote.signer
    if not reader.payee_active_from(payee):
        report.refuse("PayeeUnregistered", f"The payee {payee} is not registered at the escrow.")
    first, last = reader.signer_epochs(payee, signer)
    if first and first <= epoch <= last:
        report.prove(f"The payee {payee} registered the key {signer} at the escrow as its signer.")
    else:
        report.leave_open(
            f"That the key {signer} speaks for the payee {payee}: the payee has not registered it as a "
            "signer at the escrow; the hub admin's acceptance stands for it."
        )


def _check_once(
    bundle: BundleFile,
    epochs: Epochs,
    directory: BundleDirectory | None,
    report: Report,
    *,
    only: Any = None,
) -> None:
    """Check that nothing in an epoch was paid in it or an earlier one already."""
    seen = Seen()
    try:
        if directory is not None:
            for earlier in directory.settled(epochs, last=bundle.epoch - 1):
                for entry in earlier.claims:
                    seen.add(entry["spec"], earlier.epoch, Report())
    except BundleMissing as error:
        report.refuse("BundleMissing", f"Whether something was paid twice cannot be told: {error}.")
        return
    before = len(report.refused)
    for entry in bundle.claims:
        seen.add(entry["spec"], bundle.epoch, report if only is None or entry is only else Report())
    if directory is None:
        report.leave_open("That nothing of it was paid in an earlier epoch: give --archive.")
    elif len(report.refused) == before:
        what = "No attempt, and no success of an index," if only is None else "Nothing of it"
        report.prove(f"{what} was paid before in epochs 1 to {bundle.epoch}.")


def _json_of(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(sys.stdin.read() if str(path) == "-" else path.read_text())
    except (OSError, ValueError) as error:
        raise InvalidSetting(f"{path} cannot be read as JSON: {error}.") from None
    if not isinstance(found, dict):
        raise InvalidSetting(f"{path} holds no object.")
    return found


def _tell(title: str, report: Report, *, as_json: bool) -> None:
    """Print the findings and end with the exit status."""
    if as_json:
        told = {
            "verified": report.verified,
            "refused": [{"reason": one.reason, "message": one.sentence} for one in report.refused],
            "proven": report.proven,
            "unproven": report.unproven,
        }
        typer.echo(json.dumps(told, indent=2))
    else:
        typer.echo(f"{title}: {'VERIFIED' if report.verified else 'NOT VERIFIED'}")
        for heading, lines in (
            ("Refused:", [f"{one.reason}: {one.sentence}" for one in report.refused]),
            ("Proven:", report.proven),
            ("Not proven by this:", report.unproven),
        ):
            if lines:
                typer.echo(f"\n{heading}")
                for line in lines:
                    typer.echo(f"  - {line}")
    raise typer.Exit(0 if report.verified else 1)
