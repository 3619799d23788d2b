"""Whether new CRDs still take every object that the last release wrote, and say to its readers what it said.

Agents and hubs one minor version apart share one API server, and stored objects outlive upgrades; so within
an API version a schema may only grow: optional fields, wider bounds, more words in a list. `hack/generate
--release` puts the present schemas into crds/released; a test compares every later state with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]
_SMALLEST = ("minimum", "minLength", "minItems", "minProperties")
_LARGEST = ("maximum", "maxLength", "maxItems", "maxProperties")


def breaks(released: Path, present: Path) -> list[str]:
    """Return one sentence for each way in which the CRDs in `present` break those in `released`."""
    found = []
    for path in sorted(released.rglob("*.yaml")):
        now = present / path.relative_to(released)
        if not now.exists():
            found.append(f"{path.stem}: the kind is gone")
            continue
        found += list(_kind(yaml.safe_load(path.read_text()), yaml.safe_load(now.read_text())))
    return found


def _kind(before: Json, after: Json) -> Iterator[str]:
    kind = before["spec"]["names"]["kind"]
    for what in ("scope", "group"):
        if before["spec"][what] != after["spec"][what]:
            yield f"{kind}: its {what} changed"
    for name in ("kind", "plural"):
        if before["spec"]["names"][name] != after["spec"]["names"][name]:
            yield f"{kind}: its {name} changed"
    for short in set(before["spec"]["names"].get("shortNames", [])) - set(
        after["spec"]["names"].get("shortNames", [])
    ):
        yield f"{kind}: its short name {short} is gone"
    versions = {one["name"]: one for one in after["spec"]["versions"]}
    for one in before["spec"]["versions"]:
        if one["name"] not in versions:
            yield f"{kind}: version {one['name']} is gone"
            continue
        now = versions[one["name"]]
        yield from _schema(f"{kind}", one["schema"]["openAPIV3Schema"], now["schema"]["openAPIV3Schema"])
        gone = {f["jsonPath"] for f in one.get("selectableFields", [])} - {
            f["jsonPath"] for f in now.get("selectableFields", [])
        }
        for path in sorted(gone):
            yield f"{kind}: {path} can no longer be selected by"


def _schema(path: str, before: Json, after: Json) -> Iterator[str]:
    """Compare what two schemas allow at one place; `after` has to allow all that `before` did."""
    if before.get("type") != after.get("type"):
        yield f"{path}: its type was {before.get('type')}, is {after.get('type')}"
        return
    for name in sorted(set(after.get("required", ())) - set(before.get("required", ()))):
        yield f"{path}.{name}: is required now"
    if "enum" in after:
        for word in sorted(set(before.get("enum", ["anything"])) - set(after["enum"])):
            yield f"{path}: {word} is not allowed any more"
    if "pattern" in after and after["pattern"] != before.get("pattern"):
        yield f"{path}: its pattern is another; show that it is wider, then release it"
    for bound in _SMALLEST:
        if after.get(bound, float("-inf")) > before.get(bound, float("-inf")):
            yield f"{path}: {bound} rose from {before.get(bound)} to {after[bound]}"
    for bound in _LARGEST:
        if after.get(bound, float("inf")) < before.get(bound, float("inf")):
            yield f"{path}: {bound} fell from {before.get(bound)} to {after[bound]}"
    kept = before.get("x-kubernetes-preserve-unknown-fields")
    if kept and not after.get("x-kubernetes-preserve-unknown-fields"):
        yield f"{path}: unknown fields vanish now"
    yield from _inside(path, before, after)


def _inside(path: str, before: Json, after: Json) -> Iterator[str]:
    now = after.get("properties", {})
    for name, schema in before.get("properties", {}).items():
        if name in now:
            yield from _schema(f"{path}.{name}", schema, now[name])
        elif not after.get("x-kubernetes-preserve-unknown-fields"):
            yield f"{path}.{name}: is gone"
    for inner in ("items", "additionalProperties"):
        if isinstance(before.get(inner), dict) and isinstance(after.get(inner), dict):
            yield from _schema(f"{path}[]", before[inner], after[inner])
