"""The committed CRDs are what the models say, and every kind keeps Kubernetes' conventions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from devkit.generate import stale_files
from fallow.resources.base import Kind
from fallow.resources.crd import render
from fallow.resources.kinds import ALL


def test_crds__when_models_changed__then_were_generated_again() -> None:
    assert stale_files() == [], "run hack/generate and commit the result"


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.kind)
def test_schema__when_rendered__then_is_structural_and_bounded(kind: Kind) -> None:
    version = render(kind)["spec"]["versions"][0]
    for path, node in _nodes(version["schema"]["openAPIV3Schema"], ""):
        assert "type" in node or node.get("x-kubernetes-int-or-string"), f"{path} has no type"
        assert not {"$ref", "anyOf", "title"} & node.keys(), path
        if node.get("type") == "array":
            assert "maxItems" in node, f"{path} is an unbounded list"
        if node.get("type") == "string" and path not in (".apiVersion", ".kind"):
            assert "maxLength" in node or "enum" in node, f"{path} is an unbounded string"


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.kind)
def test_columns__when_shown_by_kubectl__then_each_has_a_description(kind: Kind) -> None:
    version = render(kind)["spec"]["versions"][0]
    assert version["additionalPrinterColumns"]
    assert all(column["description"].endswith(".") for column in version["additionalPrinterColumns"])


def test_kinds__when_all_are_counted__then_short_names_are_unique() -> None:
    names = [name for kind in ALL for name in kind.short_names]
    assert len(ALL) == 10
    assert len(names) == len(set(names))


def _nodes(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from _nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in node:
            yield from _nodes(node[key], f"{path}[{key}]")
