"""Who signs for the operator: a key in this process, or a signer elsewhere that never gives it away.

A remote signer is asked by the standard JSON-RPC methods (eth_signTransaction, and in ledger mode
eth_signTypedData_v4), and it is not believed: what it returns is taken apart again, and must be
exactly what was asked for, by exactly the operator's key. A signer that was tampered with can refuse
to sign; it cannot make the settler send something else.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Protocol

import aiohttp
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from hexbytes import HexBytes

from fallow.errors import InvalidSetting
from fallow.receipts import typed_data
from fallow.receipts.typed_data import Domain, SignatureError, TypedMessage, check_signed_by
from fallow.receipts.words import checksummed, to_hex
from fallow.settings import RemoteSignerSettings
from fallow.settler.refusals import SignerLies, SignerUnavailable

_UNKNOWN_METHOD = -32601
_DOMAIN_FIELDS = (
    ("name", "string"),
    ("version", "string"),
    ("chainId", "uint256"),
    ("verifyingContract", "address"),
    ("salt", "bytes32"),
)
_NUMBERS = ("chainId", "nonce", "gas", "maxFeePerGas", "maxPriorityFeePerGas", "value")


class Signer(Protocol):
    """Signs with the operator's key."""

    @property
    def address(self) -> str:
        """The key's address, checksummed."""
        ...

    async def sign_transaction(self, transaction: Mapping[str, Any]) -> bytes:
        """Return the signed bytes of an EIP-1559 transaction, given as JSON-RPC's fields with numbers."""
        ...

    async def sign_message(self, domain: Domain, message: TypedMessage) -> str:
        """Return the EIP-712 signature of a message."""
        ...


class KeySigner:
    """Signs with a key that this process holds."""

    def __init__(self, key: LocalAccount) -> None:
        self._key = key
        self.address = checksummed(key.address)

    async def sign_transaction(self, transaction: Mapping[str, Any]) -> bytes:
        """Sign at once."""
        return bytes(self._key.sign_transaction(dict(transaction)).raw_transaction)

    async def sign_message(self, domain: Domain, message: TypedMessage) -> str:
        """Sign at once."""
        return typed_data.sign(domain, message, key=self._key)


class RemoteSigner:
    """Asks a signer elsewhere. Use as an async context manager.

    Raises SignerUnavailable when it does not answer or refuses, SignerLies when what it returns is
    not what was asked for.
    """

    def __init__(self, settings: RemoteSignerSettings) -> None:
        if settings.address is None:
            raise InvalidSetting("--signer.address must be set: whose signatures to accept.")
        self.address = checksummed(settings.address)
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None
        self._token()
        self._tls = _tls(settings)

    async def __aenter__(self) -> RemoteSigner:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._tls),
            timeout=aiohttp.ClientTimeout(total=self._settings.timeout_seconds),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def sign_transaction(self, transaction: Mapping[str, Any]) -> bytes:
        """Ask for eth_signTransaction, and compare."""
        asked = {
            "from": self.address,
            "type": "0x2",
            **{name: hex(value) if name in _NUMBERS else value for name, value in transaction.items()},
        }
        asked["type"] = "0x2"
        answer = await self._ask("eth_signTransaction", [asked])
        # Some signers return the bytes, others (as geth does) the bytes and what is in them.
        raw = answer.get("raw") if isinstance(answer, Mapping) else answer
        signed = _bytes(raw)
        check_transaction(signed, transaction, sender=self.address)
        return signed

    async def sign_message(self, domain: Domain, message: TypedMessage) -> str:
        """Ask for eth_signTypedData_v4 (or its older name), and recover."""
        content = typed_content(domain, message)
        try:
            answer = await self._ask("eth_signTypedData_v4", [self.address, content])
        except _UnknownMethod:
            answer = await self._ask("eth_signTypedData", [self.address, content])
        signature = to_hex(_bytes(answer))
        try:
            check_signed_by(self.address, domain, message, signature=signature)
        except SignatureError as error:
            raise SignerLies(f"the remote signer returned another signature: {error}") from error
        return signature

    async def _ask(self, method: str, parameters: list[Any]) -> Any:
        assert self._session is not None, "RemoteSigner is used outside its `async with` block"
        token = self._token()
        try:
            async with self._session.post(
                self._settings.url or "",
                json={"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters},
                headers={"Authorization": f"Bearer {token}"} if token else {},
                allow_redirects=False,
            ) as response:
                answer = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise SignerUnavailable(f"the remote signer does not answer: {type(error).__name__}") from error
        if not isinstance(answer, Mapping) or "result" not in answer:
            said = answer.get("error") if isinstance(answer, Mapping) else answer
            code = said.get("code") if isinstance(said, Mapping) else None
            text = said.get("message") if isinstance(said, Mapping) else said
            kind = _UnknownMethod if code == _UNKNOWN_METHOD else SignerUnavailable
            raise kind(f"the remote signer refuses {method}: {text}")
        return answer["result"]

    def _token(self) -> str:
        """Read the token, which may be renewed while the settler runs."""
        path = self._settings.token_file
        try:
            return "" if path is None else path.read_text().strip()
        except OSError as error:
            raise InvalidSetting(f"The signer's token cannot be read: {error}") from None


class _UnknownMethod(SignerUnavailable):
    """The signer knows no such method."""


def check_transaction(raw: bytes, asked: Mapping[str, Any], *, sender: str) -> None:
    """Raise SignerLies unless `raw` is exactly the transaction that was asked for, by `sender`."""
    try:
        found = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
        signed_by = checksummed(str(Account.recover_transaction(HexBytes(raw))))
    except Exception as error:  # whatever a decoder makes of bytes that are no transaction
        raise SignerLies("the remote signer returned no signed EIP-1559 transaction") from error
    if signed_by != sender:
        raise SignerLies(f"the remote signer signed with the key of {signed_by}, not of {sender}")
    said = {name: found.get(name) for name in (*_NUMBERS, "type", "accessList")}
    said |= {"to": to_hex(bytes(found["to"])), "data": to_hex(bytes(found["data"]))}
    want = {name: asked.get(name, 0) for name in _NUMBERS}
    want |= {"type": 2, "accessList": (), "to": str(asked["to"]).lower(), "data": str(asked["data"]).lower()}
    said["accessList"] = tuple(said["accessList"] or ())
    for name, wanted in want.items():
        if said[name] != wanted:
            raise SignerLies(f"the remote signer signed another transaction: its {name} differs")


def typed_content(domain: Domain, message: TypedMessage) -> dict[str, Any]:
    """Return a message as eth_signTypedData_v4 takes it."""
    name, _, inner = message.TYPE.partition("(")
    members = [tuple(each.split(" ")) for each in inner.rstrip(")").split(",")]
    values = [getattr(message, each.name) for each in fields(message)]  # type: ignore[arg-type]
    return {
        "types": {
            "EIP712Domain": [{"name": each, "type": kind} for each, kind in _DOMAIN_FIELDS],
            name: [{"name": each, "type": kind} for kind, each in members],
        },
        "primaryType": name,
        "domain": {
            "name": "Fallow",
            "version": "1",
            "chainId": domain.chain_id,
            "verifyingContract": domain.escrow,
            "salt": to_hex(domain.hub_id),
        },
        "message": {
            each: to_hex(value) if isinstance(value, bytes) else value
            for (_, each), value in zip(members, values, strict=True)
        },
    }


def _bytes(text: object) -> bytes:
    try:
        return bytes.fromhex(str(text).removeprefix("0x"))
    except ValueError:
        raise SignerLies("the remote signer returned no bytes") from None


def _tls(settings: RemoteSignerSettings) -> ssl.SSLContext | bool:
    if not (settings.url or "").startswith("https:"):
        return True
    try:
        context = ssl.create_default_context(
            cafile=None if settings.ca_file is None else str(settings.ca_file)
        )
        if settings.certificate_file is not None and settings.key_file is not None:
            context.load_cert_chain(settings.certificate_file, settings.key_file)
    except OSError as error:  # ssl.SSLError is one
        raise InvalidSetting(f"The signer's certificates cannot be read: {error}") from None
    return context
