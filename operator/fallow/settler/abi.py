"""The contracts as Python calls them: committed artifacts, encoding of calls, decoding of answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError

from fallow.receipts.words import keccak
from fallow.settler.refusals import selectors
from fallow.settler.rpc import encoded_types


@dataclass(frozen=True)
class Artifact:
    """One compiled contract."""

    name: str
    abi: tuple[dict[str, Any], ...]
    bytecode: bytes
    errors: dict[bytes, tuple[str, list[str]]]

    def creation(self, *arguments: Any) -> bytes:
        """Return the code that deploys it with these constructor arguments."""
        return self.bytecode + encode(self._entry("constructor", None)[0], arguments)

    def call(self, function: str, *arguments: Any) -> bytes:
        """Return the call data of a function."""
        types, _ = self._entry("function", function)
        return keccak(f"{function}({','.join(types)})".encode())[:4] + encode(types, arguments)

    def arguments(self, function: str, data: bytes) -> tuple[Any, ...]:
        """Return the arguments of a call of a function. DecodingError when the data is no such call."""
        types, _ = self._entry("function", function)
        if data[:4] != keccak(f"{function}({','.join(types)})".encode())[:4]:
            raise DecodingError(f"no call of {function}")
        return tuple(decode(types, data[4:]))

    def answer(self, function: str, data: bytes) -> tuple[Any, ...]:
        """Return what a function answered. Raises eth_abi's DecodingError when it makes no sense."""
        return tuple(decode(self._entry("function", function)[1], data))

    def event_signature(self, event: str) -> str:
        """Return an event's name with its types, whose keccak is its first topic."""
        return f"{event}({','.join(self._entry('event', event)[0])})"

    def event_data(self, event: str, data: bytes) -> tuple[Any, ...]:
        """Return the values of an event that are not topics. DecodingError when they make no sense."""
        (entry,) = (one for one in self.abi if one["type"] == "event" and one["name"] == event)
        return tuple(decode(encoded_types([one for one in entry["inputs"] if not one["indexed"]]), data))

    def _entry(self, kind: str, name: str | None) -> tuple[list[str], list[str]]:
        for entry in self.abi:
            if entry["type"] == kind and entry.get("name") == name:
                return encoded_types(entry["inputs"]), encoded_types(entry.get("outputs", []))
        if kind == "constructor":
            return [], []
        raise KeyError(f"{self.name} has no {kind} {name}")


@cache
def artifact(name: str) -> Artifact:
    """Return a shipped contract: "FallowEscrow", "FallowDisputes" or, for rigs, "TestToken"."""
    return read_artifact((files("fallow.settler") / "artifacts" / f"{name}.json").read_text())


def read_artifact(text: str) -> Artifact:
    """Read an artifact file as `hack/generate --contracts` writes it."""
    content = json.loads(text)
    return Artifact(
        name=content["contract"],
        abi=tuple(content["abi"]),
        bytecode=bytes.fromhex(content["bytecode"].removeprefix("0x")),
        errors=selectors(content["abi"]),
    )
