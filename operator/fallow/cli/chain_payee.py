"""`fallow chain register-payee` and `withdraw`."""

from __future__ import annotations

from pathlib import Path

from fallow.cli.chain_session import Session, a_key, at_escrow, confirm, done, when
from fallow.errors import InvalidSetting


def register_payee(
    *,
    rpc: str,
    escrow: str,
    keystore: Path,
    password_file: Path,
    sender_keystore: Path | None,
    sender_password_file: Path | None,
) -> None:
    """Register a payee by its own signature."""
    payee = a_key(keystore, password_file)
    own = sender_keystore is None and sender_password_file is None
    sender = payee if own else a_key(sender_keystore, sender_password_file)

    async def run(at: Session) -> None:
        mined = await at.escrow.register_payee(payee, sender=sender)
        active = await at.escrow.payee_active_from(payee.address)
        said = "is registered" if mined is not None else "was registered already"
        done(f"{payee.address} {said}; it can be credited from {when(active)} on.", mined)

    at_escrow(rpc, escrow, run)


def withdraw(
    *,
    rpc: str,
    escrow: str,
    keystore: Path,
    password_file: Path,
    notice: str | None,
    earned: bool,
    everything: bool,
    yes: bool,
) -> None:
    """Withdraw as a payer (announce, then execute) or as a payee."""
    if sum((notice is not None, earned, everything)) > 1:
        raise InvalidSetting("--notice, --credits and --all exclude each other.")
    key = a_key(keystore, password_file)

    async def run(at: Session) -> None:
        if earned:
            owed = await at.escrow.credits_of(key.address)
            mined = await at.escrow.withdraw_credits(key=key)
            done(f"Withdrew {at.shown(owed.withdrawable)} of {at.shown(owed.owed)} credits.", mined)
            return
        if notice is None:
            before = await at.escrow.payer(key.address)
            mined = await at.escrow.write("withdrawAll" if everything else "withdraw", key=key)
            after = await at.escrow.payer(key.address)
            done(f"Withdrew {at.shown(before.balance - after.balance)}.", mined)
            return
        units = at.units(notice, flag="--notice")
        earlier = await at.escrow.payer(key.address)
        if earlier.under_notice:
            confirm(
                f"{at.shown(earlier.under_notice)} are under notice until {when(earlier.notice_matures_at)}; "
                "another notice replaces it, and its time is lost.",
                yes=yes,
            )
        mined = await at.escrow.give_withdrawal_notice(units, key=key)
        if units == 0:
            done("The notice is cancelled.", mined)
            return
        state = await at.escrow.payer(key.address)
        matures = when(state.notice_matures_at)
        done(f"Announced {notice}: from {matures} for 24 hours, `fallow chain withdraw`.", mined)

    at_escrow(rpc, escrow, run)
