"""`fallow chain deposit`, `authorize` and `balance`."""

from __future__ import annotations

from pathlib import Path

import typer

from fallow.cli.chain_session import (
    MAX_UNITS,
    CommandRefused,
    Session,
    a_key,
    an_address,
    at_escrow,
    confirm,
    done,
    when,
)
from fallow.errors import InvalidSetting
from fallow.settler.rpc import Rpc

DAY_SECONDS = 86_400


def deposit(
    *,
    amount: str,
    rpc: str,
    escrow: str,
    keystore: Path,
    password_file: Path,
    payer: str | None,
    yes: bool,
) -> None:
    """Deposit tokens of the key for a payer."""
    key = a_key(keystore, password_file)
    whom = key.address if payer is None else an_address(payer, flag="--for")

    async def run(at: Session) -> None:
        units = at.units(amount, flag="AMOUNT")
        if units == 0:
            raise InvalidSetting("AMOUNT has to be above zero.")
        has = await at.token.balance(key.address)
        if has < units:
            raise CommandRefused(
                f"{key.address} has {at.shown(has)} of the token {at.token.address}, not {amount}: "
                "send it some first."
            )
        if whom != key.address:
            confirm(f"Deposit {amount} of {key.address} for {whom}, who alone gets it back.", yes=yes)
        mined = await at.escrow.deposit(units, key=key, payer=whom)
        state = await at.escrow.payer(whom)
        done(f"Deposited {amount} for {whom}: its balance is {at.shown(state.balance)}.", mined)
        if not state.bound:
            typer.echo("Next: `fallow chain authorize`, without which the hub cannot debit it.")

    at_escrow(rpc, escrow, run)


def authorize(
    *,
    rpc: str,
    escrow: str,
    keystore: Path,
    password_file: Path,
    cap: str | None,
    min_interval_seconds: int,
    notice: bool,
    apply: bool,
    yes: bool,
) -> None:
    """Bind the payer to the hub, or announce or apply a stricter binding."""
    if apply == (cap is not None):
        raise InvalidSetting("Give --cap AMOUNT, or --apply for what was announced.")
    key = a_key(keystore, password_file)

    async def run(at: Session) -> None:
        if apply:
            mined = await at.escrow.write("applyBindingNotice", key=key)
            done(f"The announced binding of {key.address} is effective.", mined)
            return
        assert cap is not None
        units = at.units(cap, flag="--cap")
        if notice:
            mined = await at.escrow.write("giveBindingNotice", units, min_interval_seconds, key=key)
            _, _, matures = (await at.escrow.read("bindingNoticeOf", key.address))[0]
            done(
                f"Announced. From {when(int(matures))} for 24 hours: `fallow chain authorize --apply`.", mined
            )
            return
        if units == 0:
            raise InvalidSetting("--cap 0 revokes the binding, which takes notice: add --notice.")
        often = "in every epoch" if min_interval_seconds == 0 else f"every {min_interval_seconds} s"
        daily = "" if min_interval_seconds == 0 else _per_day(at, units, min_interval_seconds)
        if min_interval_seconds == 0:
            typer.echo(
                "Warning: with --min-interval-seconds 0 every epoch may debit the cap again. Who stole the "
                "operator's key could debit the whole balance in minutes: right for tests only.",
                err=True,
            )
        confirm(
            f"Let the hub debit {key.address} by up to {at.shown(units)} {often}{daily}. Making it "
            "stricter takes notice.",
            yes=yes,
        )
        mined = await at.escrow.bind(cap=units, min_interval_seconds=min_interval_seconds, key=key)
        done(f"{key.address} is bound: at most {at.shown(units)} {often}.", mined)
        typer.echo("Next: `fallow account bind` for each namespace that may spend.")

    at_escrow(rpc, escrow, run)


def balance(*, address: str, rpc: str, escrow: str) -> None:
    """Show what an address has at the escrow."""
    whom = an_address(address, flag="ADDRESS")

    async def run(at: Session) -> None:
        payer = await at.escrow.payer(whom)
        owed = await at.escrow.credits_of(whom)
        active = await at.escrow.payee_active_from(whom)
        now = await _now(at.rpc)
        rows = [
            ("outside, in the token", at.shown(await at.token.balance(whom))),
            ("deposited", at.shown(payer.balance)),
            ("under notice", at.shown(payer.under_notice)),
        ]
        if payer.under_notice:
            rows.append(("notice matures", when(payer.notice_matures_at)))
        if payer.bound:
            rows.append(("most per debit", at.shown(payer.cap)))
            rows.append(("least seconds between", str(payer.min_interval_seconds)))
        else:
            rows.append(("bound to this hub", "no"))
        registered = "no" if not active else "yes" if active <= now else f"from {when(active)}"
        rows += [
            ("registered as payee", registered),
            ("credits owed", at.shown(owed.owed)),
            ("of them withdrawable", at.shown(owed.withdrawable)),
        ]
        for name, value in rows:
            typer.echo(f"{name:<24}{value}")

    at_escrow(rpc, escrow, run)


async def _now(rpc: Rpc) -> int:
    return await rpc.block_time()


def _per_day(at: Session, units: int, interval: int) -> str:
    most = units * -(-DAY_SECONDS // interval)
    return "" if most >= MAX_UNITS else f", so at most {at.shown(most)} a day"
