"""`fallow chain dispute | disputes | reveal | resolve | show-twice`: what they do."""

from __future__ import annotations

from pathlib import Path

import typer
from eth_account.signers.local import LocalAccount

from fallow.cli.bundles import BundleDirectory
from fallow.cli.chain_session import (
    CommandRefused,
    Session,
    a_key,
    a_key_or_none,
    an_address,
    at_escrow,
    carry,
    confirm,
    done,
    when,
)
from fallow.errors import InvalidSetting
from fallow.receipts.epochs import pack_lines
from fallow.receipts.words import ZERO_WORD, from_hex, to_hex
from fallow.settler.bundle import Bundle
from fallow.settler.disputes import Dispute, Disputes, Status, settled_epoch
from fallow.settler.leaves import EpochLeaves, header_of, line_index
from fallow.settler.refusals import NotSettled

_WHAT_NEXT = {
    Status.FROZEN: "`fallow chain reveal` (anyone with the archive) until {}; after it, `resolve --overdue`",
    Status.REVEALED: "`fallow chain resolve` by the arbiter until {}; after it, `resolve --overdue`",
}


def dispute(
    *,
    epoch: int,
    rpc: str,
    escrow: str,
    payee: str,
    amount: str | None,
    payer: str | None,
    transaction: str | None,
    keystore: Path | None,
    password_file: Path | None,
    print_call: bool,
    yes: bool,
) -> None:
    """Freeze a line, or a part of it."""
    whom = an_address(payee, flag="--payee")
    key = a_key_or_none(keystore, password_file, print_call=print_call)
    if key is None and payer is None:
        raise InvalidSetting("--print-call needs --payer: whose line it is.")
    mine = key.address if key is not None else an_address(payer or "", flag="--payer")

    async def run(at: Session) -> None:
        module = await at.disputes()
        settlement, lines = await settled_epoch(at.escrow, epoch, transaction=transaction)
        line = line_index(lines, payer=mine, payee=whom, epoch=epoch)
        stands = await module.dispute(epoch, line)
        left = lines[line].amount - stands.frozen - stands.refunded_twice
        units = left if amount is None else at.units(amount, flag="--amount")
        if units > left:
            raise CommandRefused(f"{at.shown(left)} of that line are left to freeze, not {amount}.")
        (bond,) = await module.read("bondFor", units)
        confirm(
            f"Freeze {at.shown(units)} of the {at.shown(lines[line].amount)} that epoch {epoch} paid {whom}, "
            f"with a bond of {at.shown(bond)}, lost if the arbiter finds nothing wrong.",
            yes=yes or print_call,
        )
        # Exactly the bond: the contract never needs more of the payer's tokens.
        await carry(at.token, "approve", module.address, bond, key=key)
        what = (header_of(settlement), pack_lines(lines), line, units)
        mined = await carry(module, "freeze", *what, key=key)
        if mined is None:
            return
        stands = await module.dispute(epoch, line)
        done(f"Frozen: {at.shown(stands.frozen)} of line {line}. {_next(stands)}.", mined)

    at_escrow(rpc, escrow, run)


def disputes(*, rpc: str, escrow: str, since_block: int) -> None:
    """List the disputes."""

    async def run(at: Session) -> None:
        module = await at.disputes()
        last = await at.rpc.block_number()
        found = sorted(await module.disputed(first=since_block, last=last))
        if not found:
            typer.echo(f"No disputes in blocks {since_block} to {last}.")
        for epoch, line in found:
            stands = await module.dispute(epoch, line)
            typer.echo(
                f"epoch {epoch} line {line}  {stands.status.name}  {at.shown(stands.frozen)} of "
                f"{at.shown(stands.amount)} frozen, {at.shown(stands.revealed)} revealed\n"
                f"  payer {stands.payer}, payee {stands.payee}"
            )
            if stands.open:
                typer.echo(f"  {_next(stands)}")

    at_escrow(rpc, escrow, run)


def reveal(
    *,
    epoch: int,
    line: int,
    rpc: str,
    escrow: str,
    archive: Path,
    keystore: Path,
    password_file: Path,
    per_transaction: int,
    yes: bool,
) -> None:
    """Reveal what is not revealed yet of a line."""
    bundles = BundleDirectory(archive)
    key = a_key(keystore, password_file)

    async def run(at: Session) -> None:
        module = await at.disputes()
        leaves = await _leaves(at, bundles, epoch)
        stands = await module.dispute(epoch, line)
        indexes = [i for i in leaves.claims_of_line(line) if leaves.claim_id(i) > stands.last_claim_id]
        if stands.status is not Status.FROZEN or not indexes:
            raise CommandRefused(f"nothing of line {line} waits to be revealed: {_next(stands)}.")
        confirm(f"Publish {len(indexes)} claims of line {line} of epoch {epoch}.", yes=yes)
        for start in range(0, len(indexes), per_transaction):
            some = [leaves.leaf(index) for index in indexes[start : start + per_transaction]]
            mined = await module.write("reveal", leaves.header, line, some, key=key)
            done(f"Revealed {min(start + per_transaction, len(indexes))} of {len(indexes)}.", mined)
        typer.echo(_next(await module.dispute(epoch, line)))

    at_escrow(rpc, escrow, run)


def resolve(
    *,
    epoch: int,
    line: int,
    rpc: str,
    escrow: str,
    reject: list[str] | None,
    nothing_wrong: bool,
    overdue: bool,
    keystore: Path | None,
    password_file: Path | None,
    print_call: bool,
    yes: bool,
) -> None:
    """Rule on a line, or end an overdue dispute."""
    if sum((bool(reject), nothing_wrong, overdue)) != 1:
        raise InvalidSetting("Give --reject CLAIM-ID (one or more), --nothing-wrong, or --overdue.")
    rejected = sorted({_claim_id(text) for text in reject or ()})
    key = a_key_or_none(keystore, password_file, print_call=print_call)

    async def run(at: Session) -> None:
        module = await at.disputes()
        stands = await module.dispute(epoch, line)
        if overdue:
            mined = await carry(module, "conclude", epoch, line, key=key)
        else:
            what = (
                f"reject {len(rejected)} claims" if rejected else "reject nothing: the payer loses its bond"
            )
            confirm(
                f"Rule on line {line} of epoch {epoch}, {at.shown(stands.frozen)} frozen: {what}.",
                yes=yes or print_call,
            )
            mined = await carry(module, "rule", epoch, line, rejected, key=key)
        if mined is None:
            return
        ended = await module.outcome(epoch, line, first=mined.block, last=mined.block)
        assert ended is not None, "the dispute ended in that block"
        done(
            f"Ended: {at.shown(ended.refunded)} back to {stands.payer}, {at.shown(ended.released)} to "
            f"{stands.payee}.",
            mined,
        )

    at_escrow(rpc, escrow, run)


def show_twice(
    *, claim: str, rpc: str, escrow: str, archive: Path, keystore: Path, password_file: Path, yes: bool
) -> None:
    """Prove that a claim was paid twice."""
    wanted = _claim_id(claim)
    bundles = BundleDirectory(archive)
    key = a_key(keystore, password_file)

    async def run(at: Session) -> None:
        module = await at.disputes()
        head = await at.escrow.head()
        found: list[EpochLeaves] = []
        for number in range(head.last_epoch, 0, -1):
            leaves = await _leaves(at, bundles, number)
            if any(one.spec["claimId"] == to_hex(wanted) for one in leaves.bundle.claims()):
                found.append(leaves)
        if len(found) < 2:
            raise CommandRefused(f"the archive has claim {claim} in {len(found)} settled epochs, not in two.")
        later, earlier = found[0], found[-1]
        await _show(at, module, later, earlier, wanted=wanted, key=key, yes=yes)

    at_escrow(rpc, escrow, run)


async def _show(
    at: Session,
    module: Disputes,
    later: EpochLeaves,
    earlier: EpochLeaves,
    *,
    wanted: bytes,
    key: LocalAccount,
    yes: bool,
) -> None:
    epochs = earlier.bundle.settlement.epoch, later.bundle.settlement.epoch
    confirm(f"Show that {to_hex(wanted)} was paid in epochs {epochs[0]} and {epochs[1]}.", yes=yes)
    index = later.find(wanted)
    before = (await module.read("slashedFor", wanted))[0]
    mined = await module.write(
        "showTwice",
        later.header,
        later.leaf(index),
        later.lines,
        later.line_of(index),
        earlier.header,
        earlier.leaf(earlier.find(wanted)),
        key=key,
    )
    slashed = (await module.read("slashedFor", wanted))[0] - before
    stands = await module.dispute(epochs[1], later.line_of(index))
    done(
        f"Shown: {at.shown(slashed)} slashed from the hub's stake; {at.shown(stands.refunded_twice)} of that "
        "line given back to its payer so far.",
        mined,
    )


async def _leaves(at: Session, archive: BundleDirectory, epoch: int) -> EpochLeaves:
    commitment = await at.escrow.commitment(epoch)
    if commitment == ZERO_WORD:
        raise NotSettled(f"epoch {epoch} is not settled at {at.escrow.address}.")
    return EpochLeaves(Bundle(archive.find(commitment).data))


def _claim_id(text: str) -> bytes:
    try:
        return from_hex(text)
    except ValueError as error:
        raise InvalidSetting(f"No claim id: {error}.") from None


def _next(stands: Dispute) -> str:
    said = _WHAT_NEXT.get(stands.status)
    return "it is over" if said is None else f"next: {said.format(when(stands.deadline))}"
