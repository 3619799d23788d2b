"""`fallow hub restore`: after the hub came back from a backup older than its settlements.

The settler pays nothing twice by itself; but the hub would run again what it has forgotten. This
gives it back what the archive holds: claims, and the outcomes in them. Every write is compare-and-set
and the whole can be run again: what is there already stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from fallow.cli.bundles import BundleDirectory, Epochs
from fallow.cli.chain_reads import EscrowReader
from fallow.cli.epoch_proofs import BundleFile
from fallow.cli.kubeconfigs import kubeconfig_path
from fallow.cli.ledger_reads import LedgerReader
from fallow.cli.refolding import Archived, missing, refolded
from fallow.errors import AlreadyExists, Conflict, InvalidSetting, MoneyError, NotFound
from fallow.kube import kinds
from fallow.kube.client import ApiServer
from fallow.kube.compare_and_set import write_status
from fallow.kube.conditions import condition, merged
from fallow.receipts.words import to_hex
from fallow.resources.base import API_VERSION
from fallow.resources.naming import (
    ANNOTATION_UNFOLDED,
    LABEL_JOB_NAME,
    LABEL_JOB_NAMESPACE,
    LABEL_JOB_UID,
    LABEL_PLACEMENT_UID,
    LABEL_PROVIDER,
)
from fallow.resources.settlement import SettlementSpec

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

JSON = dict[str, Any]


class NotFinished(MoneyError):  # noqa: N818 - says what happened, as in fallow.errors
    """The settler has begun an epoch that is not settled yet: nobody can tell what will be paid."""


@dataclass(slots=True)
class Done:
    """What a run did."""

    claims: int = 0
    jobs: int = 0
    settlements: int = 0
    unknown_jobs: set[str] = field(default_factory=set)


@app.command()
def restore(
    archive: Annotated[Path, typer.Option(metavar="DIR", help="Directory with all epoch bundles.")],
    kubeconfig: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of a hub cluster admin; default: KUBECONFIG.")
    ] = None,
    rpc: Annotated[str | None, typer.Option(metavar="URL", help="A JSON-RPC endpoint of the chain.")] = None,
    escrow: Annotated[str | None, typer.Option(metavar="0x…", help="The escrow contract.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
) -> None:
    """Fold the archive into job statuses, so that a restored hub runs and pays nothing again.

    Order: restore etcd; start the settler and let it finish what it had begun; run this; start the
    hub (one that runs already schedules nothing until this is done). Without --rpc and --escrow the
    hub's own Settlements count: ledger mode.
    """
    if (rpc is None) != (escrow is None):
        raise InvalidSetting("Give both --rpc and --escrow, or in ledger mode neither.")
    chain = None if rpc is None or escrow is None else EscrowReader(rpc, escrow)
    done = asyncio.run(_restore(kubeconfig, BundleDirectory(archive), chain, dry_run=dry_run))
    would = "would be " if dry_run else ""
    typer.echo(
        f"{done.claims} claims {would}given back, {done.jobs} jobs {would}brought up to date, "
        f"{done.settlements} epochs {would}marked as folded."
    )
    if done.unknown_jobs:
        typer.echo(
            f"{len(done.unknown_jobs)} jobs of the archive are not on this hub (submitted after the "
            "backup, or deleted): submit them again only for what they have not done."
        )


async def _restore(
    kubeconfig: Path | None, archive: BundleDirectory, chain: EscrowReader | None, *, dry_run: bool
) -> Done:
    async with await ApiServer.connect(kubeconfig_path(kubeconfig), name="hub") as api:
        settlements = (await api.list(kinds.SETTLEMENT)).items
        epochs: Epochs = chain or LedgerReader(
            [SettlementSpec.model_validate(one["spec"]) for one in settlements]
        )
        by_job = _by_job(archive, epochs, settlements)
        jobs = {one["metadata"]["uid"]: one for one in (await api.list(kinds.COMPUTE_JOB)).items}
        live = {one["metadata"]["uid"] for one in (await api.list(kinds.PLACEMENT)).items}
        done = Done(unknown_jobs=set(by_job) - set(jobs))
        decimals = epochs.place().decimals
        for uid in sorted(set(by_job) & set(jobs)):
            # NB: claims first. The hub takes a folded placement's claims for granted.
            for one in missing(jobs[uid], by_job[uid], live=live):
                done.claims += await _give_back(api, one, dry_run=dry_run)
            done.jobs += await _fold(
                api, jobs[uid], by_job[uid], live=live, decimals=decimals, dry_run=dry_run
            )
        for obj in settlements:
            if ANNOTATION_UNFOLDED in (obj["metadata"].get("annotations") or {}):
                done.settlements += 1
                if not dry_run:
                    patch = {"metadata": {"annotations": {ANNOTATION_UNFOLDED: None}}}
                    await api.patch(kinds.SETTLEMENT, obj["metadata"]["name"], patch)
        return done


def _by_job(archive: BundleDirectory, epochs: Epochs, settlements: list[JSON]) -> dict[str, list[Archived]]:
    """Return every archived claim once, by job UID; settled ones as their settled epoch has them."""
    found: dict[str, Archived] = {}
    last = epochs.last_epoch()
    head = epochs.commitment(last)
    for bundle in archive.settled(epochs):
        for one in _claims_of(bundle, settled=True):
            found[str(one.spec["claimId"])] = one
    abandoned = {
        one["spec"]["bundleHash"]
        for one in settlements
        if (one.get("status") or {}).get("state") == "Abandoned"
    }
    place = epochs.place()
    for bundle in archive.all():
        if bundle.content["hubId"] != to_hex(place.domain.hub_id):
            continue
        begun = bundle.content["previousCommitment"] == to_hex(head)
        if begun and to_hex(bundle.hash) not in abandoned:
            raise NotFinished(
                f"epoch {bundle.epoch} was begun and is not settled: start the settler, wait until "
                "`kubectl get settlements` shows it Confirmed or Abandoned, then run this again"
            )
        for one in _claims_of(bundle, settled=False):
            found.setdefault(str(one.spec["claimId"]), one)
    by_job: dict[str, list[Archived]] = {}
    for one in found.values():
        by_job.setdefault(str(one.spec["job"]["uid"]), []).append(one)
    return by_job


def _claims_of(bundle: BundleFile, *, settled: bool) -> Iterator[Archived]:
    commitment = to_hex(bundle.stated_commitment) if settled else None
    for entry in bundle.claims:
        yield Archived(
            namespace=entry["namespace"],
            name=entry["name"],
            spec=entry["spec"],
            epoch=bundle.epoch,
            commitment=commitment,
        )


async def _give_back(api: ApiServer, one: Archived, *, dry_run: bool) -> int:
    """Make a claim be there, and Settled if it is; returns whether anything had to be done."""
    try:
        obj = await api.get(kinds.PAYMENT_CLAIM, one.name, namespace=one.namespace)
        made = False
    except NotFound:
        if dry_run:
            return 1
        try:
            obj = await api.create(kinds.PAYMENT_CLAIM, _claim_object(one))
        except AlreadyExists:
            return await _give_back(api, one, dry_run=dry_run)
        made = True
    if one.commitment is None or obj["spec"]["claimId"] != one.spec["claimId"]:
        return int(made)
    while (obj.get("status") or {}).get("state") != "Settled":
        if dry_run:
            return 1
        made = True
        try:
            obj = await write_status(api, kinds.PAYMENT_CLAIM, obj, _settled_status(obj, one))
        except Conflict:  # the settler said something about it meanwhile
            obj = await api.get(kinds.PAYMENT_CLAIM, one.name, namespace=one.namespace)
    return int(made)


def _claim_object(one: Archived) -> JSON:
    job = one.spec["job"]
    labels = {
        LABEL_JOB_UID: job["uid"],
        LABEL_JOB_NAME: job["name"],
        LABEL_JOB_NAMESPACE: job["namespace"],
        LABEL_PLACEMENT_UID: one.placement_uid,
        LABEL_PROVIDER: one.spec["terms"]["provider"],
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "PaymentClaim",
        "metadata": {"name": one.name, "namespace": one.namespace, "labels": labels},
        "spec": dict(one.spec),
    }


def _settled_status(obj: JSON, one: Archived) -> JSON:
    status = obj.get("status") or {}
    said = [condition("Settled", True, reason="Restored", message=f"In epoch {one.epoch}, by the archive.")]
    return {
        **status,
        "state": "Settled",
        "epoch": one.epoch,
        "commitment": one.commitment,
        "message": "",
        "conditions": merged(status.get("conditions"), said, now=datetime.now(UTC)),
    }


async def _fold(
    api: ApiServer, job: JSON, claims: list[Archived], *, live: set[str], decimals: int, dry_run: bool
) -> int:
    meta = job["metadata"]
    while (status := refolded(job, claims, live=live, decimals=decimals)) is not None:
        if dry_run:
            return 1
        try:
            await write_status(api, kinds.COMPUTE_JOB, job, status)
        except Conflict:  # the hub wrote it meanwhile: look again, decide again
            job = await api.get(kinds.COMPUTE_JOB, meta["name"], namespace=meta["namespace"])
        except NotFound:
            return 0
        else:
            return 1
    return 0
