"""`fallow chain pause | unpause | rotate | close | attach-disputes | signer`: what they do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from fallow.cli.chain_session import Session, a_key_or_none, an_address, at_escrow, carry, confirm, done, when
from fallow.errors import InvalidSetting
from fallow.receipts.words import ZERO_ADDRESS

_PROPOSE = {
    "operator": "proposeOperator",
    "arbiter": "proposeArbiter",
    "guardian": "setGuardian",
    "owner": "transferOwnership",
}
_ACCEPT = {"operator": "acceptOperator", "arbiter": "acceptArbiter", "owner": "acceptOwnership"}
_TOLD = {"operator": "proposedOperator", "arbiter": "arbiterAcceptableFrom"}


def pause(**given: Any) -> None:
    """Stop settling."""
    _simply("pause", "Settling is paused. Withdrawals go on; `fallow chain unpause` is the owner's.", **given)


def unpause(*, yes: bool, **given: Any) -> None:
    """Let settling go on."""
    confirm("Let the operator settle again.", yes=yes or given["print_call"])
    _simply("unpause", "Settling goes on.", **given)


def _simply(
    function: str,
    said: str,
    *,
    rpc: str,
    escrow: str,
    keystore: Path | None,
    password_file: Path | None,
    print_call: bool,
) -> None:
    key = a_key_or_none(keystore, password_file, print_call=print_call)

    async def run(at: Session) -> None:
        mined = await carry(at.escrow, function, key=key)
        if mined is not None:
            done(said, mined)

    at_escrow(rpc, escrow, run)


def rotate(
    *,
    role: str,
    rpc: str,
    escrow: str,
    to: str | None,
    accept: bool,
    keystore: Path | None,
    password_file: Path | None,
    print_call: bool,
    yes: bool,
) -> None:
    """Propose the next holder of a role, or accept."""
    if accept == (to is not None):
        raise InvalidSetting("Give --to ADDRESS (the owner proposes) or --accept (the proposed key).")
    if accept and role not in _ACCEPT:
        raise InvalidSetting("A guardian is named by the owner with --to, and has nothing to accept.")
    next_holder = None if to is None else an_address(to, flag="--to")
    key = a_key_or_none(keystore, password_file, print_call=print_call)

    async def run(at: Session) -> None:
        contract = await at.disputes() if role == "arbiter" else at.escrow
        if next_holder is None:
            mined = await carry(contract, _ACCEPT[role], key=key)
            if mined is not None and key is not None:
                done(f"{key.address} is the {role} now.", mined)
                if role == "operator":
                    typer.echo("Next: the settler runs with this key's keystore; the old one refuses itself.")
            return
        confirm(f"Make {next_holder} the next {role} of {at.escrow.address}.", yes=yes or print_call)
        mined = await carry(contract, _PROPOSE[role], next_holder, key=key)
        if mined is None:
            return
        if next_holder == ZERO_ADDRESS:
            done("The proposal is taken back.", mined)
        elif role in _TOLD:
            accepts = when(int((await contract.read(_TOLD[role]))[-1]))
            done(f"{next_holder} can accept from {accepts} on: `fallow chain rotate {role} --accept`.", mined)
        elif role in _ACCEPT:
            done(f"{next_holder} can accept now: `fallow chain rotate {role} --accept`.", mined)
        else:
            done(f"{next_holder} is the {role} now.", mined)

    at_escrow(rpc, escrow, run)


def close(
    *,
    rpc: str,
    escrow: str,
    successor: str,
    keystore: Path | None,
    password_file: Path | None,
    print_call: bool,
    yes: bool,
) -> None:
    """End an escrow."""
    following = an_address(successor, flag="--successor")
    key = a_key_or_none(keystore, password_file, print_call=print_call)

    async def run(at: Session) -> None:
        named = "nowhere" if following == ZERO_ADDRESS else following
        confirm(
            f"Close {at.escrow.address}: no deposits from now on, no settling after the notice period. "
            f"Payers are sent to {named}.",
            yes=yes or print_call,
        )
        mined = await carry(at.escrow, "close", following, key=key)
        if mined is None:
            return
        (ends,) = await at.escrow.read("closesAt")
        done(
            f"Closing: what runs can be settled until {when(ends)}; then payers `withdraw --all` without "
            "notice and payees as their credits mature.",
            mined,
        )
        typer.echo("Next: point hub and settler at the successor; see migration in docs/hub-admin.md.")

    at_escrow(rpc, escrow, run)


def attach_disputes(
    *,
    module: str,
    rpc: str,
    escrow: str,
    keystore: Path | None,
    password_file: Path | None,
    print_call: bool,
    yes: bool,
) -> None:
    """Attach the disputes contract."""
    address = an_address(module, flag="MODULE")
    key = a_key_or_none(keystore, password_file, print_call=print_call)

    async def run(at: Session) -> None:
        confirm(
            f"Let {address} decide about resting credits of {at.escrow.address}, for ever.",
            yes=yes or print_call,
        )
        mined = await carry(at.escrow, "attachDisputes", address, key=key)
        if mined is not None:
            done("Disputes are attached.", mined)

    at_escrow(rpc, escrow, run)


def signer(
    *,
    address: str,
    rpc: str,
    escrow: str,
    until: int | None,
    end: int | None,
    payee: str | None,
    keystore: Path | None,
    password_file: Path | None,
    print_call: bool,
    yes: bool,
) -> None:
    """Name a signer, end one, or show how one stands."""
    agent = an_address(address, flag="ADDRESS")
    if sum(each is not None for each in (until, end, payee)) != 1:
        raise InvalidSetting("Give --until EPOCH to name it, --end EPOCH to end it, or --payee to look.")
    whose = None if payee is None else an_address(payee, flag="--payee")
    key = None if whose is not None else a_key_or_none(keystore, password_file, print_call=print_call)

    async def run(at: Session) -> None:
        if whose is not None:
            await _show_signer(at, whose, agent)
            return
        if end is not None:
            confirm(f"Pay no receipts of {agent} in epochs after {end}.", yes=yes or print_call)
            mined = await carry(at.escrow, "endSigner", agent, end, key=key)
        else:
            mined = await carry(at.escrow, "addSigner", agent, until, key=key)
        if mined is not None and key is not None:
            await _show_signer(at, key.address, agent)
            done("Done.", mined)

    at_escrow(rpc, escrow, run)


async def _show_signer(at: Session, payee: str, agent: str) -> None:
    ((first, last),) = await at.escrow.read("signerOf", payee, agent)
    said = f"signs in epochs {first} to {last}" if first else "was never named at the escrow"
    typer.echo(f"{agent} {said}, for {payee}.")
