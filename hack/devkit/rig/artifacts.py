"""The project's compiled contracts: their bytecode, and their types as their own ABI says them.

The rig names what it passes and what it reads; order and widths come from here, so a contract that gains a
field breaks the rig with that field's name and not with a wrong number.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from devkit.errors import RigError
from devkit.rig.manifests import ROOT

_DIRECTORY = ROOT / "operator/fallow/settler/artifacts"


@dataclass(frozen=True)
class Artifact:
    """One compiled contract."""

    name: str
    bytecode: str
    abi: list[dict[str, Any]]

    @classmethod
    def of(cls, name: str) -> "Artifact":
        content = json.loads((_DIRECTORY / f"{name}.json").read_text())
        return cls(name, content["bytecode"], content["abi"])

    def constructor_arguments(self, values: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]]:
        """Return type and value of a constructor's one struct, from its fields by name.

        Raises RigError when the fields are not exactly those of the struct.
        """
        (struct,) = next(entry for entry in self.abi if entry["type"] == "constructor")["inputs"]
        fields = [part["name"] for part in struct["components"]]
        if set(fields) != set(values):
            different = ", ".join(sorted(set(fields) ^ set(values)))
            raise RigError(f"The rig deploys {self.name} with other fields than it takes: {different}.")
        return _type_of(struct), tuple(values[name] for name in fields)

    def outputs(self, function: str) -> tuple[str, list[str]]:
        """Return the type of what a view function gives, as one tuple, and the names of its fields."""
        entry = next(e for e in self.abi if e["type"] == "function" and e["name"] == function)
        parts = entry["outputs"]
        if len(parts) == 1 and parts[0]["type"] == "tuple":
            parts = parts[0]["components"]
        return f"({','.join(_type_of(part) for part in parts)})", [part["name"] for part in parts]


def _type_of(part: Mapping[str, Any]) -> str:
    kind = str(part["type"])
    if not kind.startswith("tuple"):
        return kind
    inside = ",".join(_type_of(component) for component in part["components"])
    return f"({inside}){kind.removeprefix('tuple')}"
