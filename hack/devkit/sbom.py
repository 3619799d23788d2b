"""Prints what is installed beside the running Python as a CycloneDX 1.5 bill of materials.

Standard library only: it runs inside the image while that is built, with the image's own Python. Components
are in order of their names and nothing tells the time, so the same packages give the same bytes. Source:
https://cyclonedx.org/docs/1.5/json/
"""

from __future__ import annotations

import json
import re
from importlib.metadata import Distribution, distributions
from typing import Any


def bill() -> dict[str, Any]:
    """Return the bill of materials as a JSON object."""
    components = sorted((_component(each) for each in distributions()), key=lambda each: each["name"])
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "fallow"}},
        "components": components,
    }


def _component(distribution: Distribution) -> dict[str, Any]:
    name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
    version = distribution.version
    found: dict[str, Any] = {
        "type": "library",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{name}@{version}",
    }
    if expressions := distribution.metadata.get_all("License-Expression"):
        found["licenses"] = [{"expression": expressions[0]}]
    return found


if __name__ == "__main__":
    print(json.dumps(bill(), indent=1))
