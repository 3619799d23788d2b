"""JSON-RPC to anvil: read, sign and send, deploy. Only what setting up a chain needs, without web3.

(web3 takes three seconds to import, an eighth of what a rig may take to come up.)
"""

import http.client
import json
import time
from typing import Any

from eth_abi.abi import decode, encode
from eth_account.signers.local import LocalAccount
from eth_utils.abi import function_signature_to_4byte_selector
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from devkit.errors import RigError

_GAS = 6_000_000
_GWEI = 10**9
_MINED_SECONDS = 15.0


class Rpc:
    """One end point on the loopback."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.url = f"http://127.0.0.1:{port}"
        self._chain_id: int | None = None

    def call(self, method: str, *parameters: Any) -> Any:
        """Call one method; raises RigError with the node's words, OSError when there is no answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        try:
            connection.request("POST", "/", json.dumps(body), {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if "error" in answer:
            raise RigError(f"{method}: {answer['error'].get('message')}")
        return answer["result"]

    def chain_id(self) -> int:
        if self._chain_id is None:
            self._chain_id = int(self.call("eth_chainId"), 16)
        return self._chain_id

    def give(self, address: str, *, ether: int) -> None:
        """Set the native balance of `address`, for gas."""
        self.call("anvil_setBalance", address, hex(ether * 10**18))

    def send(self, sender: LocalAccount, to: str, signature: str, *arguments: Any) -> dict[str, Any]:
        """Sign and send a call such as `deposit(address,uint96)`; return the receipt of its success."""
        return self._transact(sender, to, _encoded(signature, arguments))

    def deploy(self, sender: LocalAccount, bytecode: str, types: str = "", *arguments: Any) -> str:
        """Deploy a contract; return its address. `types` are its constructor's, as in "(address,uint8)"."""
        parameters = encode([types], [arguments]) if types else b""
        receipt = self._transact(sender, None, bytes.fromhex(bytecode.removeprefix("0x")) + parameters)
        return to_checksum_address(receipt["contractAddress"])

    def sum_of_events(self, to: str, signature: str, *, first_topic: str) -> int:
        """Sum the one unindexed uint256 of all events such as `Withdrawn(address,uint256)` of an address."""
        topics = ["0x" + keccak(text=signature).hex(), "0x" + first_topic.removeprefix("0x").rjust(64, "0")]
        logs = self.call(
            "eth_getLogs", {"address": to, "fromBlock": "0x0", "toBlock": "latest", "topics": topics}
        )
        return sum(int(log["data"], 16) for log in logs)

    def read(self, to: str, signature: str, returns: str, *arguments: Any) -> Any:
        """Call a view function; returns its one value of type `returns`."""
        data = "0x" + _encoded(signature, arguments).hex()
        result = self.call("eth_call", {"to": to, "data": data}, "latest")
        return decode([returns], bytes.fromhex(result.removeprefix("0x")))[0]

    def _transact(self, sender: LocalAccount, to: str | None, data: bytes) -> dict[str, Any]:
        """Sign and send one transaction; return the receipt of its success."""
        transaction: dict[str, Any] = {
            "type": 2,
            "chainId": self.chain_id(),
            "nonce": int(self.call("eth_getTransactionCount", sender.address, "pending"), 16),
            "gas": _GAS,
            "maxFeePerGas": 100 * _GWEI,
            "maxPriorityFeePerGas": _GWEI,
            "value": 0,
            "data": data,
        }
        if to is not None:
            transaction["to"] = to
        signed = sender.sign_transaction(transaction)
        hash_ = self.call("eth_sendRawTransaction", "0x" + bytes(signed.raw_transaction).hex())
        receipt = self._receipt(hash_)
        if receipt is None or receipt["status"] != "0x1":
            how = "was not mined" if receipt is None else "failed"
            raise RigError(f"Setting up the chain: transaction {hash_} {how}.")
        return receipt

    def _receipt(self, transaction_hash: str) -> dict[str, Any] | None:
        """Wait for a receipt: anvil answers before it has mined."""
        deadline = time.monotonic() + _MINED_SECONDS
        while True:
            receipt: dict[str, Any] | None = self.call("eth_getTransactionReceipt", transaction_hash)
            if receipt is not None or time.monotonic() > deadline:
                return receipt
            time.sleep(0.01)


def _encoded(signature: str, arguments: tuple[Any, ...]) -> bytes:
    types = signature[signature.index("(") + 1 : -1]
    encoded = encode(types.split(","), arguments) if types else b""
    return bytes(function_signature_to_4byte_selector(signature)) + encoded
