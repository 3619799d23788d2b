"""Within an API version a schema may only grow: the checker, and this tree against the last release."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from devkit.crd_compatibility import breaks

ROOT = Path(__file__).parents[3]
BEFORE: dict[str, Any] = {
    "metadata": {"name": "things.example"},
    "spec": {
        "group": "example",
        "scope": "Namespaced",
        "names": {"kind": "Thing", "plural": "things", "shortNames": ["th"]},
        "versions": [
            {
                "name": "v1",
                "selectableFields": [{"jsonPath": ".spec.state"}],
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "required": ["name"],
                                "properties": {
                                    "name": {"type": "string", "maxLength": 10, "pattern": "^a"},
                                    "count": {"type": "integer", "minimum": 1},
                                    "state": {"type": "string", "enum": ["On", "Off"]},
                                    "list": {"type": "array", "items": {"type": "string", "maxLength": 5}},
                                },
                            }
                        },
                    }
                },
            }
        ],
    },
}


def spec_of(crd: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return found


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    crd = copy.deepcopy(BEFORE)
    change(crd)
    return crd


def against(tmp_path: Path, after: dict[str, Any] | None) -> list[str]:
    for name, crd in (("released", BEFORE), ("present", after)):
        (tmp_path / name).mkdir()
        if crd is not None:
            (tmp_path / name / "things.yaml").write_text(yaml.safe_dump(crd))
    return breaks(tmp_path / "released", tmp_path / "present")


GROWN: dict[str, Callable[[dict[str, Any]], object]] = {
    "nothing": lambda crd: None,
    "an optional field": lambda crd: spec_of(crd)["properties"].update(more={"type": "string"}),
    "a wider bound": lambda crd: spec_of(crd)["properties"]["name"].update(maxLength=20),
    "a bound less": lambda crd: spec_of(crd)["properties"]["count"].pop("minimum"),
    "a word more": lambda crd: spec_of(crd)["properties"]["state"]["enum"].append("Idle"),
    "a field that may be left out": lambda crd: spec_of(crd).pop("required"),
}
BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a field less": (lambda crd: spec_of(crd)["properties"].pop("count"), "Thing.spec.count: is gone"),
    "another type": (
        lambda crd: spec_of(crd)["properties"]["count"].update(type="string"),
        "its type was integer",
    ),
    "a field that is required now": (
        lambda crd: spec_of(crd)["required"].append("count"),
        "Thing.spec.count: is required now",
    ),
    "a bound that fell": (
        lambda crd: spec_of(crd)["properties"]["name"].update(maxLength=9),
        "maxLength fell from 10 to 9",
    ),
    "a bound that rose": (
        lambda crd: spec_of(crd)["properties"]["count"].update(minimum=2),
        "minimum rose from 1 to 2",
    ),
    "a new bound": (
        lambda crd: spec_of(crd)["properties"]["list"].update(maxItems=4),
        "maxItems fell from None to 4",
    ),
    "a word less": (
        lambda crd: spec_of(crd)["properties"]["state"]["enum"].remove("Off"),
        "Off is not allowed any more",
    ),
    "another pattern": (
        lambda crd: spec_of(crd)["properties"]["name"].update(pattern="^b"),
        "its pattern is another",
    ),
    "a bound within a list": (
        lambda crd: spec_of(crd)["properties"]["list"]["items"].update(maxLength=4),
        "Thing.spec.list[]: maxLength fell",
    ),
    "another scope": (lambda crd: crd["spec"].update(scope="Cluster"), "its scope changed"),
    "a short name less": (lambda crd: crd["spec"]["names"].pop("shortNames"), "short name th is gone"),
    "a selectable field less": (
        lambda crd: crd["spec"]["versions"][0].pop("selectableFields"),
        ".spec.state can no longer be selected by",
    ),
}


@pytest.mark.parametrize("change", GROWN.values(), ids=GROWN)
def test_schema__that_only_grew__breaks_nothing(
    tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    assert against(tmp_path, changed(change)) == []


@pytest.mark.parametrize(("change", "said"), BROKEN.values(), ids=BROKEN)
def test_schema__that_shrank__is_told_by_its_place(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    (sentence,) = against(tmp_path, changed(change))
    assert said in sentence


def test_schema__of_a_kind_that_is_gone__is_told(tmp_path: Path) -> None:
    assert against(tmp_path, None) == ["things: the kind is gone"]


def test_crds__of_this_tree__break_nothing_of_the_last_release() -> None:
    released = ROOT / "crds/released"
    assert sorted(path.name for path in released.rglob("*.yaml")), "hack/generate --release makes them"
    assert breaks(released, ROOT / "crds") == []
