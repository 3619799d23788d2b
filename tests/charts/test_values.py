"""A typing error in values is refused, and what is required is asked for, before anything reaches a
cluster."""

from __future__ import annotations

from typing import Any

import pytest

from devkit.charts import CHARTS, ROOT, rendering
from devkit.charts.rendering import RenderingError
from devkit.charts.settings_schema import PROGRAMS, camel, schema_of_settings
from devkit.charts.values import leaves, read
from fallow.settings import variables

HUB_MISTAKES = (
    ("hubID=0x1", "'hubID' not allowed"),
    ("hubId=0x12", "does not match pattern"),
    ("image.tags=v1", "'tags' not allowed"),
    ("image.pullPolicy=Sometimes", "must be one of"),
    ("image.digest=v1", "does not match pattern"),
    ("payments.mode=leger", "must be one of"),
    ("payments.chainID=1", "'chainID' not allowed"),
    ("payments.escrow=0x12", "does not match pattern"),
    ("payments.tokenDecimals=19", "maximum"),
    ("hub.replica=3", "'replica' not allowed"),
    ("hub.replicas=two", "want integer"),
    ("hub.replicas=0", "minimum"),
    ("hub.setting.logLevel=debug", "'setting' not allowed"),
    ("hub.settings.loglevel=debug", "'loglevel' not allowed"),
    ("hub.settings.logLevel=verbose", "must be one of"),
    ("hub.settings.cycle.debounceSecond=1", "'debounceSecond' not allowed"),
    ("hub.settings.jobs.ttlSeconds=-1", "got -1"),
    ("hub.settings.lease.name=other", "'name' not allowed"),
    ("hub.resources.limit.memory=1Gi", "'limit' not allowed"),
    ("hub.tolerations[0].operators=Exists", "'operators' not allowed"),
    ("hub.nodeSelector=gpu", "want object"),
    ("settler.operator.secret=x", "'secret' not allowed"),
    ("settler.archive.size=10G", "does not match pattern"),
    ("settler.archive.accessModes={ReadWriteMny}", "must be one of"),
    ("settler.settings.operator.keystore=/x", "'operator' not allowed"),
    ("rbac.hubAdmins={me}", "want object"),
    ("providers={Aurora}", "does not match pattern"),
    ("networkPolicy.apiServerPorts={443,https}", "want integer"),
    ("metrics.serviceMonitor.enabled=yes please", "want boolean"),
    ("crd.enabled=false", "'crd' not allowed"),
)
AGENT_MISTAKES = (
    ("provider=Aurora", "does not match pattern"),
    ("payee=me", "does not match pattern"),
    ("hub.kubeconfig=x", "'kubeconfig' not allowed"),
    ("signer.key=x", "'key' not allowed"),
    ("agent.replicas=2", "'replicas' not allowed"),
    ("agent.settings.guests.namespace=x", "'namespace' not allowed"),
    ("agent.settings.heartbeat.seconds=60", "maximum"),
    ("probe.tolerations[0].effect=NoRun", "must be one of"),
    ("probe.settings.periodSecond=5", "'periodSecond' not allowed"),
    ("probe.settings.health.ignoredXids={a}", "want integer"),
    ("guests.namespaces={a}", "'namespaces' not allowed"),
)


@pytest.mark.parametrize(
    ("chart", "mistake", "said"),
    [
        *(("fallow-hub", *each) for each in HUB_MISTAKES),
        *(("fallow-agent", *each) for each in AGENT_MISTAKES),
    ],
)
def test_values__when_something_is_mistyped__then_helm_refuses_and_names_it(
    chart: str, mistake: str, said: str
) -> None:
    with pytest.raises(RenderingError, match=r"don't meet the specifications") as refused:
        rendering.text(chart, values=[rendering.values_files(chart)["minimal"]], sets=[mistake])
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("chart", "unset", "said"),
    [
        ("fallow-hub", "hubId=", "openssl rand -hex 32"),
        ("fallow-hub", "settler.operator.existingSecret=", "the operator's keystore"),
        ("fallow-hub", "settler.saltKey.existingSecret=", "32 random bytes"),
        ("fallow-hub", "payments.mode=chain", "is required in chain mode"),
        ("fallow-hub", "payments.chainId=1", "set payments.mode=chain"),
        ("fallow-hub", "settler.replicas=2", "ReadWriteMany"),
        ("fallow-hub", "settler.signer.url=https://signer", "whose signatures to accept"),
        ("fallow-agent", "hubId=", "hubId is required"),
        ("fallow-agent", "provider=", "this cluster's name at the hub"),
        ("fallow-agent", "payee=", "the address that earns"),
        ("fallow-agent", "hub.existingSecret=", "a kubeconfig for the hub"),
        ("fallow-agent", "signer.existingSecret=", "the agent's keystore"),
    ],
)
def test_values__when_a_required_one_is_missing__then_a_sentence_says_which(
    chart: str, unset: str, said: str
) -> None:
    with pytest.raises(RenderingError) as refused:
        rendering.text(chart, values=[rendering.values_files(chart)["minimal"]], sets=[unset])
    assert said in str(refused.value)


@pytest.mark.parametrize("chart", CHARTS)
def test_values__when_full_values_are_rendered__then_no_value_was_left_out_of_them(chart: str) -> None:
    """The full set is what the server dry run vouches for: a new value must come into it."""
    import yaml

    full = yaml.safe_load(rendering.values_files(chart)["full"].read_text())
    missing = [".".join(value.path) for value in leaves(_values(chart)) if not _has(full, value.path)]
    assert set(missing) <= _DEFAULT_IN_FULL, missing


# Where the default is the fuller one: what can only be switched off, and alternatives of what is set.
_DEFAULT_IN_FULL = {
    "agent.resources", "crds.enabled", "crds.keep", "flowControl.enabled", "image.digest", "image.tag",
    "networkPolicy.enabled", "podDisruptionBudget.enabled", "probe.enabled", "probe.resources",
    "rbac.aggregate", "settler.archive.existingClaim", "settler.enabled", "settler.resources",
}  # fmt: skip


def _values(chart: str) -> Any:
    return read(ROOT / "helm" / chart / "values.yaml")


def _has(tree: Any, path: tuple[str, ...]) -> bool:
    for part in path:
        if not isinstance(tree, dict) or part not in tree:
            return False
        tree = tree[part]
    return True


@pytest.mark.parametrize("program", PROGRAMS)
def test_settings_schema__when_its_names_become_variables__then_the_program_reads_each(program: str) -> None:
    """The template writes debounceSeconds as DEBOUNCE_SECONDS; here the schema's names go the same way."""
    known = set(variables(PROGRAMS[program]))
    offered = set(_variables(schema_of_settings(program), "FALLOW_"))
    assert offered
    assert offered <= known


def _variables(node: dict[str, Any], prefix: str) -> list[str]:
    found = []
    for name, child in node["properties"].items():
        snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
        assert camel(snake) == name
        if "properties" in child:
            found += _variables(child, f"{prefix}{snake.upper()}__")
        else:
            found.append(f"{prefix}{snake.upper()}")
    return found
