"""Payers that are contracts (EIP-1271), asked over the owner's own RPC endpoint, without a chain client.

A cycle cannot wait for an answer. So a question is asked in the background, the placement waits meanwhile,
and an answer wakes the next cycle. An endpoint that is down, late, of another chain, or that talks nonsense
gives no answer: after a while the placement is handed back with a sentence, and runs elsewhere.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import structlog

from fallow.agent.admission import StillAsking
from fallow.receipts.contract_signatures import ContractSignature, is_yes
from fallow.receipts.words import to_hex
from fallow.settings import AgentChainSettings

log = structlog.get_logger(__name__)

YES_SECONDS = 300.0
"""How long a yes counts for other placements of the same payer; each account asks for it once."""
NO_SECONDS = 30.0
"""How long a no, or no answer, does."""
PAUSE_SECONDS = 1.0
"""Between two tries of one question."""
_MAX_ANSWER_BYTES = 65_536


class ContractPayers:
    """Questions and answers; nothing of it is kept over a restart, after which it is asked again."""

    def __init__(
        self,
        settings: AgentChainSettings,
        *,
        chain_id: int,
        wake: Callable[[], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._chain_id = chain_id
        self._wake = wake
        self._monotonic = monotonic
        self._answers: dict[ContractSignature, tuple[float, str]] = {}
        """When it was answered, and why not; "" for a yes."""
        self._asking: dict[ContractSignature, asyncio.Task[None]] = {}

    def refusal(self, asked: ContractSignature, *, trust_hub: bool) -> str:
        """Return why a payer's authorization does not hold, or "" when its contract accepts it.

        `trust_hub` is what the Offer says for when there is no endpoint to ask. Raises StillAsking until
        there is an answer.
        """
        if not self._settings.rpc_url:
            if trust_hub:
                return ""
            return (
                f"no key of {asked.account} signed; should it be a contract, this agent has no RPC endpoint "
                "(--chain.rpc-url) to ask it, and the Offer does not trust the hub for it"
            )
        known = self._answers.get(asked)
        if known is not None:
            at, why = known
            if self._monotonic() - at < (NO_SECONDS if why else YES_SECONDS):
                return why
        if asked not in self._asking:
            task = asyncio.get_running_loop().create_task(self._ask(asked), name="contract-payer")
            self._asking[asked] = task
            task.add_done_callback(lambda _: self._asking.pop(asked, None))
        raise StillAsking

    async def close(self) -> None:
        """Ask no more."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, asked: ContractSignature) -> None:
        deadline = self._monotonic() + self._settings.patience_seconds
        why = await self._try(asked)
        while why is None and self._monotonic() + PAUSE_SECONDS < deadline:
            await asyncio.sleep(PAUSE_SECONDS)
            why = await self._try(asked)
        if why is None:
            seconds = self._settings.patience_seconds
            why = (
                f"the RPC endpoint gave no usable answer for {seconds:g} s about the contract {asked.account}"
            )
        if len(self._answers) > 10_000:
            self._answers.clear()
        self._answers[asked] = self._monotonic(), why
        self._wake()

    async def _try(self, asked: ContractSignature) -> str | None:
        """Return why not, "" for a yes, or None for no usable answer."""
        try:
            timeout = aiohttp.ClientTimeout(total=self._settings.rpc_timeout_seconds)
            async with aiohttp.ClientSession(timeout=timeout) as session:
                said = await self._request(session, "eth_chainId")
                chain_id = int(str(said.get("result")), 16)
                if chain_id != self._chain_id:
                    return f"the RPC endpoint is of chain {chain_id}, the escrow on chain {self._chain_id}"
                call = {"to": asked.account, "data": to_hex(asked.call_data()), "gas": hex(500_000)}
                said = await self._request(session, "eth_call", call, "latest")
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            # NB: never the whole address: many carry a key.
            host = urlsplit(self._settings.rpc_url or "").hostname
            log.warning("the RPC endpoint does not answer", host=host, error=type(error).__name__)
            return None
        if "error" in said:  # it reverted, or there is no such account: a no
            return f"the contract {asked.account} does not accept the authorization"
        try:
            answer = bytes.fromhex(str(said["result"]).removeprefix("0x"))
        except (KeyError, ValueError):
            return None
        return "" if is_yes(answer) else f"no key of {asked.account} signed, and no contract there accepts it"

    async def _request(self, session: aiohttp.ClientSession, method: str, *parameters: Any) -> dict[str, Any]:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        async with session.post(str(self._settings.rpc_url), json=body) as answer:
            raw = await answer.content.read(_MAX_ANSWER_BYTES)
            said = json.loads(raw)
        if not isinstance(said, dict):
            raise ValueError("no JSON-RPC answer")
        return said
