"""`fallow chain stake | unstake | collect`: what they do."""

from __future__ import annotations

from pathlib import Path

from fallow.cli.chain_session import (
    CommandRefused,
    Session,
    a_key,
    a_key_or_none,
    at_escrow,
    carry,
    confirm,
    done,
    when,
)
from fallow.errors import InvalidSetting


def stake(
    *,
    amount: str,
    rpc: str,
    escrow: str,
    hub: bool,
    keystore: Path | None,
    password_file: Path | None,
    yes: bool,
) -> None:
    """Stake tokens of the key."""
    key = a_key(keystore, password_file)

    async def run(at: Session) -> None:
        module = await at.disputes()
        units = at.units(amount, flag="AMOUNT")
        if units == 0:
            raise InvalidSetting("AMOUNT has to be above zero.")
        has = await at.token.balance(key.address)
        if has < units:
            raise CommandRefused(f"{key.address} has {at.shown(has)} of the token, not {amount}.")
        (unbonding,) = await module.read("unbondingPeriod")
        whose = at.escrow.address if hub else key.address
        confirm(
            f"Stake {amount} {'for the hub' if hub else 'behind your own claims'}: it can be slashed, and "
            f"comes back {unbonding // 86_400} days after it is asked for"
            f"{', to the owner of the escrow' if hub else ''}.",
            yes=yes,
        )
        await at.token.approve(module.address, units, key=key)
        mined = await module.write("stake", whose, units, key=key)
        ((staked, _, _),) = await module.read("stakeOf", whose)
        done(f"Staked {amount}; {whose} has {at.shown(staked)} staked.", mined)

    at_escrow(rpc, escrow, run)


def unstake(
    *,
    rpc: str,
    escrow: str,
    ask: str | None,
    hub: bool,
    keystore: Path | None,
    password_file: Path | None,
    print_call: bool,
    yes: bool,
) -> None:
    """Ask a stake back, or take what was asked for."""
    key = a_key_or_none(keystore, password_file, print_call=print_call)
    if key is None and not hub:
        raise InvalidSetting("--print-call is for the hub's stake (--hub): a payee has its keystore.")

    async def run(at: Session) -> None:
        module = await at.disputes()
        whose = at.escrow.address if hub or key is None else key.address
        if ask is None:
            mined = await carry(module, "withdrawStake", whose, key=key)
            done("The stake is back.", mined) if mined is not None else None
            return
        units = at.units(ask, flag="--ask")
        ((_, unbonding, unbonds_at),) = await module.read("stakeOf", whose)
        if unbonding:
            confirm(
                f"{at.shown(unbonding)} were asked back and come at {when(unbonds_at)}; asking again "
                "replaces that, and its time is lost.",
                yes=yes or print_call,
            )
        mined = await carry(module, "startUnbonding", whose, units, key=key)
        if mined is None:
            return
        ((_, unbonding, unbonds_at),) = await module.read("stakeOf", whose)
        if not unbonding:
            done("The request is taken back.", mined)
        else:
            done(
                f"Asked {at.shown(unbonding)} back: from {when(unbonds_at)} for 24 hours, "
                f"`fallow chain unstake{' --hub' if hub else ''}`.",
                mined,
            )

    at_escrow(rpc, escrow, run)


def collect(
    *, rpc: str, escrow: str, keystore: Path | None, password_file: Path | None, print_call: bool
) -> None:
    """Take what came back from disputes."""
    key = a_key_or_none(keystore, password_file, print_call=print_call)

    async def run(at: Session) -> None:
        module = await at.disputes()
        there = 0 if key is None else (await module.read("collectable", key.address))[0]
        mined = await carry(module, "collect", key=key)
        if mined is not None:
            done(f"Collected {at.shown(there)}.", mined)

    at_escrow(rpc, escrow, run)
