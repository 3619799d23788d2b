"""Reads of an escrow over plain JSON-RPC: all that a verifier needs, without web3.

One endpoint, a handful of view functions with static arguments. Whoever verifies trusts this
endpoint for what the chain says; nothing else here is trusted.
"""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from fallow.cli.proofs import Place
from fallow.errors import InvalidSetting, MoneyError, Retryable
from fallow.receipts.contract_signatures import ContractSignature, is_yes
from fallow.receipts.typed_data import Domain
from fallow.receipts.words import address_word, checksummed, keccak, to_hex, uint_word


class EndpointUnusable(Retryable):
    """The RPC endpoint does not answer, or answers with an error."""


class NoEscrowThere(MoneyError):  # noqa: N818 - says what happened, as in fallow.errors
    """There is no escrow at that address on that chain."""


class EscrowReader:
    """View functions of one escrow, as of the newest block."""

    def __init__(self, url: str, escrow: str, *, timeout_seconds: float = 10.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise InvalidSetting(f"--rpc {url!r} is no URL: it starts with http:// or https://.")
        try:
            self.escrow = checksummed(escrow)
        except ValueError as error:
            raise InvalidSetting(f"--escrow: {error}.") from None
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._place: Place | None = None

    def place(self) -> Place:
        """Return chain, escrow, hub and token, as the escrow itself says them.

        Raises NoEscrowThere when no escrow answers, MoneyError when it signs for another domain.
        """
        if self._place is None:
            chain_id = int(self.request("eth_chainId"), 16)
            domain = Domain(chain_id=chain_id, escrow=self.escrow, hub_id=self._view("hubId()"))
            if self._view("domainSeparator()") != domain.separator():
                raise MoneyError(f"the contract {self.escrow} signs for another domain than Fallow's")
            token = self._address(self._view("token()"))
            decimals = int.from_bytes(self._call(token, "decimals()"), "big")
            self._place = Place(domain=domain, token=token, decimals=decimals)
        return self._place

    def last_epoch(self) -> int:
        """Return the number of the last settled epoch."""
        return int.from_bytes(self._view("lastEpoch()"), "big")

    def commitment(self, epoch: int) -> bytes:
        """Return an epoch's commitment; zeros when it is not settled."""
        return self._view("commitments(uint64)", uint_word(epoch, bits=64))

    def payee_active_from(self, payee: str) -> int:
        """Return from when on (Unix seconds) a payee is registered; 0 when it is not."""
        return int.from_bytes(self._view("payeeActiveFrom(address)", address_word(payee)), "big")

    def signer_epochs(self, payee: str, signer: str) -> tuple[int, int]:
        """Return the epochs [from, until] in which a payee lets a key sign for it; (0, 0) for never."""
        answer = self._call(
            self.escrow, "signerOf(address,address)", address_word(payee) + address_word(signer), words=2
        )
        return int.from_bytes(answer[:32], "big"), int.from_bytes(answer[32:64], "big")

    def contract_accepts(self, account: str, digest: bytes, signature: bytes) -> bool:
        """Say whether `account` is a contract that accepts a signature of `digest` (EIP-1271)."""
        if len(self._bytes(self.request("eth_getCode", account, "latest"))) == 0:
            return False
        data = ContractSignature(account, digest, signature).call_data()
        try:
            answer = self.request("eth_call", {"to": account, "data": to_hex(data)}, "latest")
        except EndpointUnusable:
            return False  # it reverted, which is a no
        return is_yes(self._bytes(answer))

    def request(self, method: str, *parameters: Any) -> Any:
        """Make one JSON-RPC request. Raises EndpointUnusable for anything but a result."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters})
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            self._url, body.encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_seconds) as answer:  # noqa: S310
                said = json.load(answer)
        except (OSError, ValueError) as error:
            raise EndpointUnusable(f"the RPC endpoint {self._url} does not answer: {error}") from error
        if not isinstance(said, dict) or "result" not in said:
            problem = said.get("error") if isinstance(said, dict) else said
            raise EndpointUnusable(f"the RPC endpoint {self._url} refuses {method}: {problem}")
        return said["result"]

    def _view(self, function: str, arguments: bytes = b"") -> bytes:
        return self._call(self.escrow, function, arguments)

    def _call(self, to: str, function: str, arguments: bytes = b"", *, words: int = 1) -> bytes:
        data = keccak(function.encode())[:4] + arguments
        answer = self._bytes(self.request("eth_call", {"to": to, "data": to_hex(data)}, "latest"))
        if len(answer) < 32 * words:
            raise NoEscrowThere(f"{to} does not answer {function} on this chain: is --escrow right?")
        return answer[: 32 * words]

    @staticmethod
    def _address(word: bytes) -> str:
        return checksummed(to_hex(word[12:]))

    @staticmethod
    def _bytes(text: Any) -> bytes:
        try:
            return bytes.fromhex(str(text).removeprefix("0x"))
        except ValueError as error:
            raise EndpointUnusable("the RPC endpoint answers nonsense") from error
