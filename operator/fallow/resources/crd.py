"""From a `Kind` to its CustomResourceDefinition.

pydantic gives JSON Schema; the API server wants a *structural* schema: no references, no titles, no nulls,
every node typed. Validation that a schema cannot say stands in CEL rules (`x-kubernetes-validations`).
Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

from __future__ import annotations

from typing import Any

from fallow.resources.base import GROUP, VERSION, Kind, Model

_KEPT = (
    "type", "format", "description", "enum", "default", "pattern", "minimum", "maximum",
    "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties",
)  # fmt: skip


def render(kind: Kind) -> dict[str, Any]:
    """Return the CustomResourceDefinition of a kind as a JSON object."""
    properties: dict[str, Any] = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": _whole(_schema_of(kind.spec)) if kind.spec_is_written_whole else _schema_of(kind.spec),
    }
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [
            {
                "name": column.name,
                "type": column.type,
                "description": column.description,
                "jsonPath": column.path,
                **({"priority": 1} if column.wide else {}),
            }
            for column in kind.columns
        ],
    }
    if kind.status is not None:
        properties["status"] = _whole(_schema_of(kind.status))
        version["subresources"] = {"status": {}}
    if kind.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in kind.selectable]
    schema: dict[str, Any] = {
        "description": kind.description,
        "type": "object",
        "properties": properties,
        "required": ["spec"],
    }
    if kind.rules:
        schema["x-kubernetes-validations"] = list(kind.rules)
    version["schema"] = {"openAPIV3Schema": schema}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{kind.plural}.{GROUP}",
            "labels": {"app.kubernetes.io/part-of": "fallow"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": list(kind.short_names),
                "categories": list(kind.categories),
            },
            "versions": [version],
        },
    }


def _whole(schema: dict[str, Any]) -> dict[str, Any]:
    """Have fields owned together: `managedFields` then names one field, not each of a hundred."""
    return {**schema, "x-kubernetes-map-type": "atomic"}


def _schema_of(model: type[Model]) -> dict[str, Any]:
    raw = model.model_json_schema(by_alias=True, mode="validation")
    return _structural(raw, raw.get("$defs", {}))


def _structural(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return one node without references, nulls and pydantic's own keys."""
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[1]]
        # What stands beside a reference (description, default) overrules what it refers to.
        return _structural(
            {**target, **{key: value for key, value in node.items() if key != "$ref"}}, definitions
        )
    if "anyOf" in node:
        options = [option for option in node["anyOf"] if option.get("type") != "null"]
        rest = {key: value for key, value in node.items() if key != "anyOf"}
        if len(options) > 1:
            return _int_or_string(options, rest)
        return _structural({**options[0], **rest}, definitions)
    result = {
        key: node[key]
        for key in _KEPT
        if key in node and not (key == "default" and node[key] in (None, [], {}, ""))
    }
    if "const" in node:
        result["enum"] = [node["const"]]
        result.setdefault("type", "string")
    if isinstance(result.get("default"), dict):
        # A default that is an object would repeat every nested default; the API server fills those by itself.
        result["default"] = {}
    if "properties" in node:
        result["properties"] = {
            name: _structural(child, definitions) for name, child in node["properties"].items()
        }
        if required := node.get("required"):
            result["required"] = required
    elif isinstance(node.get("additionalProperties"), dict):
        result["additionalProperties"] = _structural(node["additionalProperties"], definitions)
    if "items" in node:
        result["items"] = _structural(node["items"], definitions)
    result.update({key: value for key, value in node.items() if key.startswith("x-kubernetes-")})
    return result


def _int_or_string(options: list[dict[str, Any]], rest: dict[str, Any]) -> dict[str, Any]:
    assert {option["type"] for option in options} == {"integer", "string"}, options
    kept = {key: rest[key] for key in ("description",) if key in rest}
    return {**kept, "x-kubernetes-int-or-string": True}
