"""What every chain command does alike: connect, open the key, run, and say what to do next on refusal.

web3 is imported by this module and those of its kind only; `fallow.cli.chain` imports them when a
command runs, so that `--help` stays quick.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer
from eth_account.signers.local import LocalAccount

from fallow.errors import AmountError, InvalidSetting, MoneyError
from fallow.receipts.keystores import open_keystore
from fallow.receipts.words import checksummed, to_hex
from fallow.resources.money import format_amount, parse_amount
from fallow.settler.disputes import Disputes
from fallow.settler.escrow import Contract, Escrow, Token
from fallow.settler.refusals import EscrowRefused
from fallow.settler.rpc import Inclusion, Rpc

MAX_UNITS = 2**96 - 1
"""The escrow keeps balances in 96 bits."""

_NEXT = {
    "StricterBindingNeedsNotice": "a stricter binding takes notice: add --notice; --apply once it matured.",
    "NoNotice": "nothing was announced: do the same with --notice first.",
    "NothingToWithdraw": "there is nothing to withdraw now; `fallow chain balance` says what matures when.",
    "PayeeAlreadyRegistered": "this payee is registered already; there is nothing to do.",
    "PayeeNotActive": "this address is no registered payee (yet): `fallow chain register-payee`.",
    "PayeeNotRegistered": "this address is no registered payee: `fallow chain register-payee`.",
    "RegistrationExpired": "the payee's signature has expired: run the command again.",
    "InvalidSignature": "the signature is not by that address: is it the right keystore?",
    "DepositNotExact": "this token takes a fee on transfers; the escrow takes only exact deposits.",
    "ZeroAmount": "the amount has to be above zero.",
    "SettlingPaused": "the guardian has paused settling; withdrawals go on.",
    "OwnableUnauthorizedAccount": "only the owner may do that: is it the owner's keystore?",
    "NotTheOwner": "only the escrow's owner may do that: is it the owner's keystore?",
    "NotGuardian": "only the guardian or the owner may pause: is it their keystore?",
    "NotTheArbiter": "only the arbiter rules: is it the arbiter's keystore?",
    "NotProposed": "this key was not proposed for the role: `fallow chain rotate ROLE --to` first.",
    "NotController": "this stake is not that key's: the hub's is the escrow owner's to ask back.",
    "NotThePayer": "only the payer of a line can dispute it: is it the payer's keystore?",
    "CannotAttach": "disputes are attached once, before the first epoch, and name this escrow as theirs.",
    "DisputeWindowOver": "this epoch's credits have matured and cannot be frozen any more.",
    "UnknownEpoch": "the escrow has another epoch of that number: is it the right archive?",
    "LinesMismatch": "these are not the lines of that epoch: is it the right archive?",
    "NotInEpoch": "a claim is not in that epoch as the archive has it: is it the right archive?",
    "NotOfThisLine": "a claim is not one of this line: `fallow chain disputes` lists the disputed lines.",
    "ClaimsNotAscending": "somebody else has just revealed some of these: run the command again.",
    "AlreadyRevealed": "a claim of this line was revealed for another before: `fallow chain show-twice`.",
    "AlreadyRefunded": "that claim was given back already; name the others.",
    "NotTwice": "these are one and the same payment: nothing was paid twice.",
    "NothingUnbonding": "nothing was asked back: --ask AMOUNT first.",
    "NotClosed": "the escrow is still open, or its notice period runs: a payer's way out is a notice.",
    "SignerAlreadyRegistered": "this key was named before; its last epoch can only be made earlier: --end.",
    "SignerNotValid": "this key is not named, or ends no later than that: nothing to end.",
    "EpochsNotAhead": "that epoch is settled already: name a later one.",
    "NoSuchLine": "that epoch has fewer lines; `fallow chain disputes` lists those in dispute.",
    "ERC20InsufficientBalance": "the key's account has too little of the token: send it some first.",
    "ERC20InsufficientAllowance": "the token does not let the contract take that much: approve it first.",
}
_STATUS = ("was never disputed", "waits for leaves", "waits for the arbiter", "was not revealed and refunded",
           "was ruled on", "was released")  # fmt: skip


class CommandRefused(MoneyError):  # noqa: N818 - says what happened, as in fallow.errors
    """The escrow refuses a command; the text says what to do instead."""


@dataclass(frozen=True, slots=True)
class Session:
    """One escrow at one endpoint, with its token."""

    rpc: Rpc
    escrow: Escrow
    token: Token
    decimals: int

    def units(self, text: str, *, flag: str) -> int:
        """Return an amount in smallest units. InvalidSetting names the flag."""
        try:
            amount = parse_amount(text, decimals=self.decimals)
        except AmountError as error:
            raise InvalidSetting(f"{flag}: {error}.") from None
        if not 0 <= amount <= MAX_UNITS:
            raise InvalidSetting(f"{flag} {text} is more than an escrow can hold.")
        return amount

    async def disputes(self) -> Disputes:
        """Return the escrow's disputes contract. CommandRefused when it has none."""
        found = await Disputes.of(self.escrow)
        if found is None:
            raise CommandRefused(
                f"the escrow {self.escrow.address} has no disputes contract: `fallow chain attach-disputes`, "
                "before its first epoch."
            )
        return found

    def shown(self, units: int) -> str:
        """Return smallest units as people read them."""
        return "no limit" if units >= MAX_UNITS else format_amount(units, decimals=self.decimals)


def an_address(text: str, *, flag: str) -> str:
    """Return an address checksummed. InvalidSetting names the flag."""
    try:
        return checksummed(text)
    except ValueError as error:
        raise InvalidSetting(f"{flag}: {error}.") from None


def a_key(keystore: Path | None, password_file: Path | None) -> LocalAccount:
    """Open the key that a command signs with."""
    if keystore is None or password_file is None:
        raise InvalidSetting("--keystore and --password-file have to be given.")
    return open_keystore(keystore, password_file)


def at_escrow(rpc_url: str, escrow: str, do: Callable[[Session], Awaitable[Any]]) -> Any:
    """Connect, check that the escrow is one, and run `do`."""
    address = an_address(escrow, flag="--escrow")

    async def run(rpc: Rpc) -> Any:
        contract = Escrow(rpc, address)
        await contract.domain()
        token = await contract.token()
        return await do(Session(rpc, contract, token, await token.decimals()))

    return at_chain(rpc_url, run)


def at_chain(rpc_url: str, do: Callable[[Rpc], Awaitable[Any]]) -> Any:
    """Connect and run `do`; what the escrow refuses becomes a sentence that says what to do next."""

    async def run() -> Any:
        async with Rpc(rpc_url) as rpc:
            return await do(rpc)

    if not rpc_url.startswith(("http://", "https://")):
        raise InvalidSetting(f"--rpc {rpc_url!r} is no URL: it starts with http:// or https://.")
    try:
        return asyncio.run(run())
    except EscrowRefused as error:
        raise CommandRefused(advice(error)) from error


def advice(error: EscrowRefused) -> str:
    """Return what a refusal means for the person at the terminal."""
    values = error.values
    if error.name == "NoticeNotMature":
        return f"the notice matures at {when(int(values[0]))}: run this again then, within 24 hours."
    if error.name == "NoticeExpired":
        return f"the notice expired at {when(int(values[0]))}: announce it again with --notice."
    if error.name == "UnbondingExpired":
        return f"the request expired at {when(int(values[0]))}: --ask again."
    if error.name == "DeadlinePassed":
        return f"the time for that ended at {when(int(values[0]))}: `fallow chain resolve --overdue` ends it."
    if error.name == "WrongStatus":
        return f"that line {_STATUS[int(values[0])]}: `fallow chain disputes` says who can do what."
    if error.name == "StakeTooSmall":
        return f"{values[0]} has less than that staked."
    if error.name == "AboveLine":
        return "that is more than is left of the line: `fallow chain disputes` says how much is frozen."
    if error.name == "TooEarly":
        return f"this can be done from {when(int(values[0]))} on."
    if error.name == "Closed":
        return "this escrow is closing, which is final, and takes no deposits: its successor is the way."
    return _NEXT.get(error.name, f"{error}.")


def when(unix: int) -> str:
    """Return Unix seconds for people."""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


async def carry(
    contract: Contract, function: str, *arguments: Any, key: LocalAccount | None
) -> Inclusion | None:
    """Send a call and wait; without a key, print it as JSON for a multisig to make, and return None."""
    if key is not None:
        return await contract.write(function, *arguments, key=key)
    call = {
        "to": contract.address,
        "value": "0",
        "data": to_hex(contract.artifact.call(function, *arguments)),
    }
    typer.echo(json.dumps({"call": f"{contract.artifact.name}.{function}", **call}))
    return None


def a_key_or_none(
    keystore: Path | None, password_file: Path | None, *, print_call: bool
) -> LocalAccount | None:
    """Open the key that a command signs with; None when the call is only printed."""
    return None if print_call else a_key(keystore, password_file)


def confirm(sentence: str, *, yes: bool) -> None:
    """Ask before something that cannot be undone; Abort (exit status 1) unless the answer is yes."""
    if yes:
        typer.echo(sentence)
    else:
        typer.confirm(f"{sentence} This cannot be undone. Go on?", abort=True)


def done(what: str, mined: Inclusion | None = None) -> None:
    """Say what happened, and where."""
    typer.echo(what)
    if mined is not None:
        typer.echo(f"  transaction {mined.hash}, block {mined.block}, gas {mined.gas_used}")
