"""The escrow contract and its token, as typed calls: reads at a block, and writes with a key.

The settler reads and settles through it; the CLI, the rig and the demo deploy, deposit, bind and
register with it. Writes here send and wait: right for a person at a terminal. The settler's own
epochs take the longer way of `fallow.settler.chain`.

    async with Rpc(url) as rpc:
        token = await Token.deploy(rpc, key=deployer)
        escrow = await Escrow.deploy(rpc, EscrowConfig(token=token.address, …), key=deployer)
        await escrow.deposit(5_000_000, key=payer)
        await escrow.bind(cap=1_000_000, min_interval_seconds=0, key=payer)
        await escrow.register_payee(payee_key, sender=deployer)
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eth_abi.exceptions import DecodingError
from eth_account.signers.local import LocalAccount

from fallow.errors import MoneyError
from fallow.receipts.messages import PayeeRegistration
from fallow.receipts.typed_data import Domain, sign
from fallow.receipts.words import ZERO_ADDRESS, bytes_word, checksummed, to_hex
from fallow.settler.abi import Artifact, artifact
from fallow.settler.refusals import ChainUnavailable, TransactionFailed
from fallow.settler.rpc import Block, Inclusion, Rpc, block_word

DAY_SECONDS = 86_400
_POLL_SECONDS = 0.05
_SEND_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EscrowConfig:
    """What a deployment is made of; immutable but for owner, guardian and operator.

    The defaults of the three durations (seconds) are for money; rigs want them short.
    """

    token: str
    hub_id: bytes
    owner: str
    operator: str
    guardian: str
    fee_collector: str = ZERO_ADDRESS
    max_fee_basis_points: int = 0
    notice_seconds: int = 7 * DAY_SECONDS
    payee_delay_seconds: int = DAY_SECONDS
    dispute_window_seconds: int = 3 * DAY_SECONDS

    def as_tuple(self) -> tuple[Any, ...]:
        """Return the constructor's struct."""
        return (
            checksummed(self.token),
            bytes_word(self.hub_id),
            checksummed(self.owner),
            checksummed(self.operator),
            checksummed(self.guardian),
            checksummed(self.fee_collector),
            self.max_fee_basis_points,
            self.notice_seconds,
            self.payee_delay_seconds,
            self.dispute_window_seconds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PayerState:
    """A payer as of one block; amounts in smallest units, times in (Unix) seconds."""

    balance: int
    """Debitable, money under notice included."""
    cap: int
    """Most per epoch; 0 when never bound."""
    last_debit_at: int
    min_interval_seconds: int
    under_notice: int
    notice_matures_at: int

    @property
    def bound(self) -> bool:
        """Whether it may be debited at all."""
        return self.cap > 0


@dataclass(frozen=True, slots=True)
class Credits:
    """What a payee is owed, and the part of it that it could withdraw now."""

    owed: int
    withdrawable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Where the chain of epochs stands as of one block."""

    last_epoch: int
    commitment: bytes
    operator: str
    paused: bool


class Contract:
    """One deployed contract at one endpoint."""

    def __init__(self, rpc: Rpc, address: str, contract: Artifact) -> None:
        self.rpc = rpc
        self.address = checksummed(address)
        self.artifact = contract

    async def read(self, function: str, *arguments: Any, block: Block = "latest") -> tuple[Any, ...]:
        """Call a view. Raises ChainUnavailable when nothing sensible answers at the address."""
        data = self.artifact.call(function, *arguments)
        answer = await self.rpc.call(self.address, data, block=block, errors=self.artifact.errors)
        try:
            return self.artifact.answer(function, answer)
        except DecodingError as error:
            raise ChainUnavailable(f"{self.address} is no {self.artifact.name} on this chain") from error

    async def read_all(
        self, *reads: tuple[str, Sequence[Any]], block: Block = "latest"
    ) -> list[tuple[Any, ...]]:
        """Call several views (function, arguments) in one request. Raises as `read` does."""
        calls = [
            ("eth_call", ({"to": self.address, "data": to_hex(self.artifact.call(name, *arguments))}, word))
            for word in [block_word(block)]
            for name, arguments in reads
        ]
        answers = await self.rpc.ask(*calls)
        try:
            return [
                self.artifact.answer(name, bytes.fromhex(str(answer).removeprefix("0x")))
                for (name, _), answer in zip(reads, answers, strict=True)
            ]
        except (DecodingError, ValueError) as error:
            raise ChainUnavailable(f"{self.address} is no {self.artifact.name} on this chain") from error

    async def write(self, function: str, *arguments: Any, key: LocalAccount) -> Inclusion:
        """Send a call and wait until it is mined.

        Raises EscrowRefused (by class) when it would revert, TransactionFailed when it did.
        """
        data = self.artifact.call(function, *arguments)
        return await send(self.rpc, to=self.address, data=data, key=key, contract=self.artifact)


class Token(Contract):
    """An ERC-20 token; `mint` exists on rigs only."""

    def __init__(self, rpc: Rpc, address: str) -> None:
        super().__init__(rpc, address, artifact("TestToken"))

    @classmethod
    async def deploy(cls, rpc: Rpc, *, key: LocalAccount) -> Token:
        """Deploy the worthless test token (6 decimals)."""
        return cls(rpc, await create(rpc, artifact("TestToken").creation(), key=key))

    async def mint(self, account: str, amount: int, *, key: LocalAccount) -> Inclusion:
        """Make new units for `account`."""
        return await self.write("mint", checksummed(account), amount, key=key)

    async def balance(self, account: str, *, block: Block = "latest") -> int:
        """Return the tokens of `account`, outside the escrow."""
        return int((await self.read("balanceOf", checksummed(account), block=block))[0])

    async def decimals(self) -> int:
        """Return its decimal places."""
        return int((await self.read("decimals"))[0])

    async def approve(self, spender: str, amount: int, *, key: LocalAccount) -> Inclusion:
        """Let `spender` take up to `amount`."""
        return await self.write("approve", checksummed(spender), amount, key=key)


class Escrow(Contract):
    """A deployed FallowEscrow."""

    def __init__(self, rpc: Rpc, address: str) -> None:
        super().__init__(rpc, address, artifact("FallowEscrow"))
        self._last = 0

    @classmethod
    async def deploy(cls, rpc: Rpc, config: EscrowConfig, *, key: LocalAccount) -> Escrow:
        """Deploy an escrow; `key` pays the gas and gets no rights by it."""
        code = artifact("FallowEscrow").creation(config.as_tuple())
        return cls(rpc, await create(rpc, code, key=key))

    async def domain(self) -> Domain:
        """Return the EIP-712 domain, checked against what the contract computes itself.

        Raises MoneyError when they differ: then nothing signed here would count there.
        """
        (hub_id,) = await self.read("hubId")
        domain = Domain(chain_id=await self.rpc.chain_id(), escrow=self.address, hub_id=bytes(hub_id))
        (separator,) = await self.read("domainSeparator")
        if bytes(separator) != domain.separator():
            raise MoneyError(f"the escrow {self.address} signs for another domain than this code")
        return domain

    async def head(self, *, block: Block = "latest") -> Head:
        """Return last epoch, its commitment, operator and pause; pass a block's number, not
        "latest", where they have to fit together.
        """
        # NB: the commitment of the last epoch known so far is asked along, since it mostly is the last.
        (last,), (operator,), (paused,), (commitment,) = await self.read_all(
            ("lastEpoch", ()), ("operator", ()), ("paused", ()), ("commitments", (self._last,)), block=block
        )
        if last != self._last:
            self._last = int(last)
            commitment = await self.commitment(self._last, block=block)
        return Head(
            last_epoch=self._last,
            commitment=bytes(commitment),
            operator=checksummed(operator),
            paused=bool(paused),
        )

    async def last_epoch(self, *, block: Block = "latest") -> int:
        """Return the number of the last settled epoch; 0 before the first."""
        return int((await self.read("lastEpoch", block=block))[0])

    async def commitment(self, epoch: int, *, block: Block = "latest") -> bytes:
        """Return an epoch's commitment; zeros when it is not settled."""
        return bytes((await self.read("commitments", epoch, block=block))[0])

    async def token(self) -> Token:
        """Return the escrow's one token."""
        (address,) = await self.read("token")
        return Token(self.rpc, address)

    async def payer(self, account: str, *, block: Block = "latest") -> PayerState:
        """Return a payer's balance, binding and notice."""
        account = checksummed(account)
        ((balance, cap, last_debit_at, min_interval),), ((under_notice, matures_at),) = await self.read_all(
            ("payerOf", (account,)), ("noticeOf", (account,)), block=block
        )
        return PayerState(
            balance=balance,
            cap=cap,
            last_debit_at=last_debit_at,
            min_interval_seconds=min_interval,
            under_notice=min(under_notice, balance),
            notice_matures_at=matures_at,
        )

    async def credits_of(self, payee: str, *, block: Block = "latest") -> Credits:
        """Return what a payee is owed."""
        owed, withdrawable = await self.read("creditsOf", checksummed(payee), block=block)
        return Credits(owed, withdrawable)

    async def payee_active_from(self, payee: str, *, block: Block = "latest") -> int:
        """Return from when on a payee can be credited, in Unix seconds; 0 when not registered."""
        ((active_from,),) = await self.read_all(("payeeActiveFrom", (checksummed(payee),)), block=block)
        return int(active_from)

    async def deposit(self, amount: int, *, key: LocalAccount, payer: str | None = None) -> Inclusion:
        """Deposit `amount` of the key's tokens for `payer` (the key's own address by default)."""
        await (await self.token()).approve(self.address, amount, key=key)
        return await self.write("deposit", checksummed(payer or key.address), amount, key=key)

    async def bind(self, *, cap: int, min_interval_seconds: int, key: LocalAccount) -> Inclusion:
        """Let the hub debit the key's balance: at most `cap` an epoch, once per interval."""
        return await self.write("bind", cap, min_interval_seconds, key=key)

    async def give_withdrawal_notice(self, amount: int, *, key: LocalAccount) -> Inclusion:
        """Announce a withdrawal."""
        return await self.write("giveWithdrawalNotice", amount, key=key)

    async def withdraw(self, *, key: LocalAccount) -> Inclusion:
        """Withdraw what was announced and has matured."""
        return await self.write("withdraw", key=key)

    async def withdraw_credits(self, *, key: LocalAccount) -> Inclusion:
        """Withdraw a payee's matured credits."""
        return await self.write("withdrawCredits", key=key)

    async def register_payee(
        self, payee: LocalAccount, *, sender: LocalAccount, valid_seconds: int = 3600
    ) -> Inclusion | None:
        """Register a payee by its own signature, sent by `sender`; None when it is registered already."""
        if await self.payee_active_from(payee.address):
            return None
        deadline = await self.rpc.block_time() + valid_seconds
        registration = PayeeRegistration(payee=payee.address, deadline=deadline)
        signature = sign(await self.domain(), registration, key=payee)
        arguments = (payee.address, deadline, bytes.fromhex(signature[2:]))
        return await self.write("registerPayee", *arguments, key=sender)


async def send(rpc: Rpc, *, to: str | None, data: bytes, key: LocalAccount, contract: Artifact) -> Inclusion:
    """Sign, send, and wait until mined; for one sender of this key at a time."""
    nonce = await rpc.nonce(key.address)
    signed = await rpc.sign(key, to=to, data=data, nonce=nonce, fees=await rpc.fees(), errors=contract.errors)
    await rpc.broadcast(signed.raw)
    async with asyncio.timeout(_SEND_TIMEOUT_SECONDS):
        # A chain tells nobody when a transaction is mined: it has to be asked.
        while (mined := await rpc.inclusion(signed.hash)) is None:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_SECONDS)
    if not mined.succeeded:
        raise TransactionFailed(f"transaction {signed.hash} was mined and reverted")
    return mined


async def create(rpc: Rpc, code: bytes, *, key: LocalAccount) -> str:
    """Deploy creation code and return the new contract's address."""
    mined = await send(rpc, to=None, data=code, key=key, contract=artifact("FallowEscrow"))
    with rpc.failures():
        receipt = await rpc.w3.eth.get_transaction_receipt(mined.hash)  # type: ignore[arg-type]
    return checksummed(str(receipt["contractAddress"]))
