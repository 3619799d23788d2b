"""One Ethereum JSON-RPC endpoint through web3, with failures turned into Fallow's types at the edge.

`web3` raises dozens of classes from four libraries; here they become ChainUnavailable (look again
later) or the revert's own class. Only this package imports web3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
from eth_account.signers.local import LocalAccount
from web3 import AsyncHTTPProvider, AsyncWeb3
from web3.exceptions import ContractLogicError, TransactionNotFound, Web3Exception, Web3RPCError
from web3.types import RPCEndpoint, TxParams

from fallow.receipts.words import checksummed, keccak, to_hex
from fallow.settler.refusals import ChainUnavailable, FeesTooHigh, from_revert

Block = int | str
"""A block's number, or "latest"."""

_GAS_SLACK_PERCENT = 130
_HARMLESS = (
    "already known",
    "already imported",
    "nonce too low",
    "replacement transaction underpriced",
    "less than block base fee",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fees:
    """EIP-1559 fees of one transaction, in wei per gas."""

    max_fee: int
    max_priority_fee: int
    base: int = 0
    """Base fee of the next block, where it was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenBlock:
    """A block as an endpoint shows it; time in Unix seconds."""

    number: int
    hash: str
    time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SentTransaction:
    """A mined transaction, as much of it as tells whose it is."""

    hash: str
    to: str | None
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """One event of a contract."""

    topics: tuple[bytes, ...]
    data: bytes
    block: int
    transaction: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedTransaction:
    """A transaction that exists, whether or not anyone has seen it."""

    hash: str
    raw: str
    nonce: int
    gas_limit: int
    fees: Fees


@dataclass(frozen=True, slots=True, kw_only=True)
class Inclusion:
    """Where a transaction was mined, and whether it did what it should."""

    hash: str
    block: int
    block_hash: str
    gas_used: int
    succeeded: bool


class Rpc:
    """One endpoint. Use as an async context manager, or call `close`."""

    def __init__(self, url: str, *, timeout_seconds: float = 10.0) -> None:
        self.url = url
        self.name = _without_secrets(url)
        """Scheme, host and port: what may be logged. The rest of an address often is a key."""
        self.provider = AsyncHTTPProvider(
            url,
            request_kwargs={"timeout": aiohttp.ClientTimeout(total=timeout_seconds)},
            exception_retry_configuration=None,
        )
        self.w3: AsyncWeb3[AsyncHTTPProvider] = AsyncWeb3(self.provider)
        # It asks for the chain's number before each call, to compare it with one that we never give.
        self.w3.middleware_onion.remove("validation")
        self._takes_batches = True

    async def __aenter__(self) -> Self:
        # web3's own session opens a connection for each request.
        await self.provider.cache_async_session(aiohttp.ClientSession(raise_for_status=True))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close its connections."""
        await self.provider.disconnect()

    async def ask(self, *calls: tuple[str, Sequence[Any]]) -> list[Any]:
        """Ask several things (method, parameters) in one request; returns what was answered, as JSON.

        For what is asked all the time: a tenth of what web3's own ways cost. Raises
        ChainUnavailable when any of it was not answered.
        """
        if len(calls) > 1 and self._takes_batches:
            with self.failures():
                found = await self.provider.make_batch_request([(RPCEndpoint(m), list(p)) for m, p in calls])
            if isinstance(found, list) and len(found) == len(calls):
                return [self._result(each) for each in found]
            self._takes_batches = False  # some endpoints take one question at a time
        results = []
        for method, parameters in calls:
            with self.failures():
                answer = await self.provider.make_request(RPCEndpoint(method), list(parameters))
            results.append(self._result(answer))
        return results

    def _result(self, answer: Any) -> Any:
        if not isinstance(answer, Mapping) or "result" not in answer:
            error = answer.get("error") if isinstance(answer, Mapping) else answer
            raise self._unavailable(str(error.get("message") if isinstance(error, Mapping) else error))
        return answer["result"]

    async def chain_id(self) -> int:
        """Return the chain's number."""
        with self.failures():
            return int(await self.w3.eth.chain_id)

    async def block_number(self) -> int:
        """Return the newest block's number."""
        with self.failures():
            return int(await self.w3.eth.block_number)

    async def block_time(self, block: Block = "latest") -> int:
        """Return a block's time in Unix seconds."""
        with self.failures():
            found = await self.w3.eth.get_block(block)  # type: ignore[arg-type]
            return int(found["timestamp"])

    async def block(self, block: Block = "latest") -> SeenBlock:
        """Return a block. Raises ChainUnavailable when the endpoint does not have it."""
        (found,) = await self.ask(("eth_getBlockByNumber", (block_word(block), False)))
        with self.failures():
            if not isinstance(found, Mapping):
                raise ValueError(f"there is no block {block}")
            try:
                number, time = int(found["number"], 16), int(found["timestamp"], 16)
                return SeenBlock(number=number, hash=str(found["hash"]).lower(), time=time)
            except (KeyError, TypeError) as error:
                raise ValueError("what should be a block is none") from error

    async def sent(self, sender: str, nonce: int, *, block: int) -> SentTransaction | None:
        """Return the transaction of `sender` with `nonce` in a block, or None."""
        with self.failures():
            found = await self.w3.eth.get_block(block, True)
            for each in found["transactions"]:
                if isinstance(each, Mapping) and (str(each["from"]), int(each["nonce"])) == (sender, nonce):
                    to = each.get("to")
                    return SentTransaction(
                        hash=to_hex(bytes(each["hash"])),
                        to=None if to is None else checksummed(str(to)),
                        data=bytes(each["input"]),
                    )
        return None

    async def has_code(self, address: str, *, block: Block = "latest") -> bool:
        """Say whether a contract was there at a block."""
        with self.failures():
            return bool(await self.w3.eth.get_code(checksummed(address), block))  # type: ignore[arg-type]

    async def call(
        self,
        to: str,
        data: bytes,
        *,
        sender: str | None = None,
        block: Block = "latest",
        gas: int | None = None,
        errors: Mapping[bytes, tuple[str, list[str]]] | None = None,
    ) -> bytes:
        """Execute a call without sending it, with at most `gas`, and return its answer.

        Raises EscrowRefused (or its subclass by `errors`) when it reverts.
        """
        transaction: TxParams = {"to": checksummed(to), "data": to_hex(data)}  # type: ignore[typeddict-item]
        if sender is not None:
            transaction["from"] = checksummed(sender)
        if gas is not None:
            transaction["gas"] = gas
        with self.failures(errors):
            return bytes(await self.w3.eth.call(transaction, block))  # type: ignore[arg-type]

    async def call_data(self, transaction: str) -> bytes:
        """Return what a transaction called its contract with."""
        with self.failures():
            return bytes((await self.w3.eth.get_transaction(transaction))["input"])  # type: ignore[arg-type]

    async def logs(self, address: str, topics: Sequence[Any], *, first: int, last: int) -> list[Log]:
        """Return a contract's events of blocks `first` to `last`, both inclusive, in their order.

        Each of `topics` is 32 bytes, or a list of which any may stand there.
        """
        wanted = [[to_hex(each) for each in one] if isinstance(one, list) else to_hex(one) for one in topics]
        asked: Any = {
            "address": checksummed(address), "topics": wanted, "fromBlock": first, "toBlock": last
        }  # fmt: skip
        with self.failures():
            found = await self.w3.eth.get_logs(asked)
        return [
            Log(
                topics=tuple(bytes(each) for each in one["topics"]),
                data=bytes(one["data"]),
                block=int(one["blockNumber"]),
                transaction=to_hex(bytes(one["transactionHash"])),
            )
            for one in found
        ]

    async def fees(self, *, ceiling: int | None = None) -> Fees:
        """Return fees that get into one of the next blocks: tip of recent blocks + twice the base fee.

        `ceiling` (wei per gas) bounds them. FeesTooHigh when not even the next block's base fee and
        a tip fit below it: waiting is then cheaper than paying.
        """
        with self.failures():
            history = await self.w3.eth.fee_history(5, "latest", [50])
        base = int(history["baseFeePerGas"][-1])
        tips = sorted(int(block[0]) for block in history.get("reward", []) if block)
        tip = max(tips[len(tips) // 2] if tips else 0, 1)
        if ceiling is not None:
            if base + tip > ceiling:
                raise FeesTooHigh(needed=base + tip, ceiling=ceiling)
            return Fees(max_fee=min(2 * base + tip, ceiling), max_priority_fee=tip, base=base)
        return Fees(max_fee=2 * base + tip, max_priority_fee=tip, base=base)

    async def nonce(self, address: str, *, block: Block = "latest") -> int:
        """Return how many transactions of `address` are mined: the next nonce."""
        with self.failures():
            return int(await self.w3.eth.get_transaction_count(checksummed(address), block))  # type: ignore[arg-type]

    async def prepare(
        self,
        sender: str,
        *,
        to: str | None,
        data: bytes,
        nonce: int,
        fees: Fees,
        errors: Mapping[bytes, tuple[str, list[str]]] | None = None,
    ) -> dict[str, Any]:
        """Return a transaction (contract creation when `to` is None), ready to be signed.

        Its gas limit is the estimate and 30 %; the estimate is an execution too, so what reverts
        raises here.
        """
        transaction: dict[str, Any] = {"data": to_hex(data), "value": 0}
        if to is not None:
            transaction["to"] = checksummed(to)
        with self.failures(errors):
            estimate = int(await self.w3.eth.estimate_gas({"from": sender, **transaction}))  # type: ignore[typeddict-item]
        return transaction | {
            "chainId": await self.chain_id(),
            "type": 2,
            "nonce": nonce,
            "gas": estimate * _GAS_SLACK_PERCENT // 100,
            "maxFeePerGas": fees.max_fee,
            "maxPriorityFeePerGas": fees.max_priority_fee,
        }

    async def sign(
        self,
        key: LocalAccount,
        *,
        to: str | None,
        data: bytes,
        nonce: int,
        fees: Fees,
        errors: Mapping[bytes, tuple[str, list[str]]] | None = None,
    ) -> SignedTransaction:
        """Prepare and sign a transaction without sending it. Raises as `prepare` does."""
        transaction = await self.prepare(key.address, to=to, data=data, nonce=nonce, fees=fees, errors=errors)
        return as_signed(bytes(key.sign_transaction(transaction).raw_transaction), transaction, fees=fees)

    async def broadcast(self, raw: str) -> None:
        """Hand a signed transaction to the network.

        One that it knows already is no error, nor is one whose nonce is used, or taken by a dearer
        one that waits: it was mined a moment ago, or something else was or will be; whoever looks
        next sees which. Nor is one that pays too little just now: it is handed on again.
        """
        try:
            with self.failures():
                await self.w3.eth.send_raw_transaction(raw)  # type: ignore[arg-type]
        except ChainUnavailable as error:
            # NB: no error code tells these apart, only texts, of geth and of those who copied it.
            if not any(text in str(error).lower() for text in _HARMLESS):
                raise

    async def inclusion(self, hash_: str) -> Inclusion | None:
        """Return where a transaction was mined, or None when it was not (yet)."""
        try:
            with self.failures():
                receipt = await self.w3.eth.get_transaction_receipt(hash_)  # type: ignore[arg-type]
        except _Unknown:
            return None
        return Inclusion(
            hash=hash_,
            block=int(receipt["blockNumber"]),
            block_hash=to_hex(bytes(receipt["blockHash"])),
            gas_used=int(receipt["gasUsed"]),
            succeeded=int(receipt["status"]) == 1,
        )

    @contextmanager
    def failures(self, errors: Mapping[bytes, tuple[str, list[str]]] | None = None) -> Iterator[None]:
        """Turn what web3 and aiohttp raise inside the block into Fallow's types."""
        try:
            yield
        except ContractLogicError as error:
            data = error.data if isinstance(error.data, str) else ""
            raise from_revert(_unhex(data), known=errors or {}) from error
        except TransactionNotFound as error:
            raise _Unknown(str(error)) from error
        except Web3RPCError as error:
            answer: Any = error.rpc_response or {}
            found = answer.get("error", {}).get("data") if isinstance(answer, dict) else None
            if isinstance(found, str) and found.startswith("0x") and errors is not None:
                raise from_revert(_unhex(found), known=errors) from error
            raise self._unavailable(str(error.message)) from error
        except (Web3Exception, aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise self._unavailable(f"{type(error).__name__} {error}") from error

    def _unavailable(self, said: str) -> ChainUnavailable:
        # NB: some libraries put the whole address into their messages, its key included.
        return ChainUnavailable(f"{self.name}: {said.replace(self.url, self.name)}")


class _Unknown(ChainUnavailable):
    """The endpoint does not know the transaction."""


def as_signed(raw: bytes, transaction: Mapping[str, Any], *, fees: Fees) -> SignedTransaction:
    """Return a transaction and the bytes that it was signed to."""
    return SignedTransaction(
        hash=to_hex(keccak(raw)),
        raw=to_hex(raw),
        nonce=transaction["nonce"],
        gas_limit=transaction["gas"],
        fees=fees,
    )


def block_word(block: Block) -> str:
    """Return a block as JSON-RPC names it."""
    return hex(block) if isinstance(block, int) else block


def _without_secrets(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")


def _unhex(text: str) -> bytes:
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        return b""


def encoded_types(inputs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return ABI types of parameters for eth_abi, tuples unfolded."""
    return [
        f"({','.join(encoded_types(each['components']))}){each['type'][5:]}"
        if str(each["type"]).startswith("tuple")
        else str(each["type"])
        for each in inputs
    ]
