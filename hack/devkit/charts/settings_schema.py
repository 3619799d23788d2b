"""The JSON schema of `hub.settings` and its like: the programs' own settings, in a values.yaml's camelCase.

A setting that the chart itself gives (addresses of files, names that policies know) is left out, so that
setting it twice is an error rather than a riddle.
"""

from __future__ import annotations

from typing import Any

from fallow.settings import AgentSettings, HubSettings, ProbeSettings, ProgramSettings, SettlerSettings

Json = dict[str, Any]
PROGRAMS: dict[str, type[ProgramSettings]] = {
    "hub": HubSettings,
    "settler": SettlerSettings,
    "agent": AgentSettings,
    "probe": ProbeSettings,
}
_EVERYWHERE = {"kubeconfig", "hub_id", "system_namespace", "metrics_address", "payments"}
_GIVEN_BY_CHART: dict[str, set[str]] = {
    "hub": {"lease.name", "lease.enabled"},
    "settler": {
        "lease.name", "lease.enabled", "operator", "salt_key_file", "archive_directory", "chain.rpc_urls",
        "archive_s3.bucket", "archive_s3.prefix", "archive_s3.endpoint", "archive_s3.region",
        "archive_s3.credentials_file", "archive_s3.ca_file", "signer.url", "signer.address", "signer.ca_file",
        "signer.certificate_file", "signer.key_file", "signer.token_file", "dry_run", "fault_point",
    },
    "agent": {
        "provider", "hub_kubeconfig", "payee", "signer", "guests.namespace", "guests.priority_class",
        "chain.rpc_url",
    },
    "probe": {"node_name", "proc", "service_account"},
}  # fmt: skip
_KEPT = ("type", "enum", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength",
         "maxLength", "minItems", "maxItems", "description")  # fmt: skip


def schema_of_settings(program: str) -> Json:
    """Return the schema of all settings of `program` (hub, settler, agent, probe) that the chart leaves
    open.
    """
    whole = PROGRAMS[program].model_json_schema()
    return _node(whole, whole.get("$defs", {}), (), _EVERYWHERE | _GIVEN_BY_CHART[program])


def camel(name: str) -> str:
    """Return a setting's name as it stands in values: debounce_seconds → debounceSeconds."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _node(node: Json, definitions: Json, path: tuple[str, ...], left_out: set[str]) -> Json:
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[1]]
        return _node(
            {**target, **{k: v for k, v in node.items() if k != "$ref"}}, definitions, path, left_out
        )
    if "anyOf" in node:
        (some,) = (branch for branch in node["anyOf"] if branch.get("type") != "null")
        return _node({**some, "description": node.get("description", "")}, definitions, path, left_out)
    found = {key: node[key] for key in _KEPT if key in node}
    if "description" in found:
        found["description"] = " ".join(found["description"].split())
    if "items" in node:
        found["items"] = _node(node["items"], definitions, path, left_out)
    if "properties" in node:
        found["additionalProperties"] = False
        found["properties"] = {
            camel(name): _node(child, definitions, (*path, name), left_out)
            for name, child in node["properties"].items()
            if ".".join((*path, name)) not in left_out
        }
    return found
