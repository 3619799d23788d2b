"""A values.yaml and its comments, read as data: every value with its documentation, default and schema.

The comment above a value documents it. A comment line `@schema {…}` gives what the default cannot show: a
JSON schema, or one of two short words: `kubernetes: WORD` for a type of Kubernetes' own, `settings:
PROGRAM` for the settings that a program takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from devkit.charts.settings_schema import schema_of_settings
from devkit.errors import DevkitError

Json = dict[str, Any]
_MARK = "@schema "
_SCALARS = {bool: "boolean", int: "integer", str: "string"}
_LABELS: Json = {"type": "object", "additionalProperties": {"type": "string"}}
_OBJECTS: Json = {"type": "array", "items": {"type": "object"}}
_QUANTITIES: Json = {"type": "object", "additionalProperties": {"type": ["string", "number"]}}
_KUBERNETES: dict[str, Json] = {
    "labels": _LABELS,
    "annotations": _LABELS,
    "nodeSelector": _LABELS,
    "affinity": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            name: {"type": "object"} for name in ("nodeAffinity", "podAffinity", "podAntiAffinity")
        },
    },
    "tolerations": {
        "type": "array",
        "items": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "key": {"type": "string"},
                "operator": {"enum": ["Exists", "Equal"]},
                "value": {"type": "string"},
                "effect": {"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
                "tolerationSeconds": {"type": "integer"},
            },
        },
    },
    "topologySpread": _OBJECTS,
    "peers": _OBJECTS,
    "ports": {
        "type": "array",
        "minItems": 1,
        "items": {"type": "integer", "minimum": 1, "maximum": 65535},
    },
    "resources": {
        "type": "object",
        "additionalProperties": False,
        "properties": {"requests": _QUANTITIES, "limits": _QUANTITIES},
    },
}


@dataclass(frozen=True, kw_only=True)
class Value:
    """One value of a chart: a leaf that a user sets, or a group of them."""

    path: tuple[str, ...]
    text: str
    """Its documentation; empty when the name says it all."""
    default: Any
    schema: Json
    """Without its members where it is a group."""
    members: tuple[Value, ...] = field(default=())


def read(path: Path) -> tuple[Value, ...]:
    """Return the values of a values.yaml in its order. Raises DevkitError for one whose schema nothing
    tells.
    """
    text = path.read_text()
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(node, yaml.MappingNode)
    return tuple(_members(node, text.splitlines(), ()))


def leaves(values: tuple[Value, ...]) -> Iterator[Value]:
    """Yield every value that a user sets, groups unfolded."""
    for value in values:
        if value.members:
            yield from leaves(value.members)
        else:
            yield value


def schema(values: tuple[Value, ...], *, title: str) -> Json:
    """Return the JSON schema of a chart's values: closed everywhere, so that a typing error is one."""
    root = _closed(values)
    # Helm adds `global` to the values of a chart that is used as a part of another.
    root["properties"]["global"] = {"type": "object", "description": "Not used."}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **root}


def _closed(values: tuple[Value, ...]) -> Json:
    properties = {}
    for value in values:
        inner = _closed(value.members) if value.members else value.schema
        properties[value.path[-1]] = {"description": value.text, **inner} if value.text else inner
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _members(node: yaml.MappingNode, lines: list[str], prefix: tuple[str, ...]) -> Iterator[Value]:
    for key, child in node.value:
        path = (*prefix, key.value)
        text, mark = _comment(lines, key.start_mark.line, key.start_mark.column)
        default = yaml.safe_load(yaml.serialize(child))
        if mark is not None:
            yield Value(path=path, text=text, default=default, schema=_schema(mark))
        elif isinstance(child, yaml.MappingNode) and child.value:
            inner = tuple(_members(child, lines, path))
            yield Value(path=path, text=text, default=default, schema={}, members=inner)
        elif type(default) in _SCALARS:
            yield Value(path=path, text=text, default=default, schema={"type": _SCALARS[type(default)]})
        else:
            raise DevkitError(f"{'.'.join(path)}: say its schema in a comment line `# {_MARK}{{…}}`.")


def _comment(lines: list[str], line: int, column: int) -> tuple[str, Json | None]:
    """Return the text and the mark of the comment that ends above a line."""
    start = line
    while start and lines[start - 1].startswith(" " * column + "#"):
        start -= 1
    words, mark = [], None
    for comment in (each.strip().removeprefix("#").strip() for each in lines[start:line]):
        if comment.startswith(_MARK):
            mark = yaml.safe_load(comment.removeprefix(_MARK))
        else:
            words.append(comment)
    return " ".join(words), mark


def _schema(mark: Json) -> Json:
    if "kubernetes" in mark:
        return _KUBERNETES[mark["kubernetes"]]
    if "settings" in mark:
        return schema_of_settings(mark["settings"])
    return mark
