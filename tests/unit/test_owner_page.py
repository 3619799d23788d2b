"""The owner's page lists every right that the agent has in a member, and none that it has not."""

from __future__ import annotations

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
Row = tuple[str, str, str]
"""Kind (and the one object it is for), where, verbs."""


def page() -> set[Row]:
    """Read the table of docs/owner.md."""
    rows = set()
    for line in (ROOT / "docs/owner.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 6 and cells[2] in ("everywhere", "`fallow-guests`", "`fallow-system`"):
            assert cells[4], f"no reason is given: {line}"
            rows.add((cells[1].replace("`", ""), cells[2].strip("`"), cells[3]))
    return rows


def chart() -> set[Row]:
    """Read the roles that the chart binds to the agent."""
    rows = set()
    for each in yaml.safe_load_all((ROOT / "config/member/rbac.yaml").read_text()):
        if each is None or each["kind"] not in ("ClusterRole", "Role"):
            continue
        where = each["metadata"].get("namespace", "everywhere")
        for rule in each["rules"]:
            only = f" {rule['resourceNames'][0]} only" if "resourceNames" in rule else ""
            for resource in rule["resources"]:
                rows.add((resource + only, where, ", ".join(rule["verbs"])))
    return rows


def test_owner_page__rights_of_the_agent__are_all_there_with_their_reasons() -> None:
    assert page() == chart()
