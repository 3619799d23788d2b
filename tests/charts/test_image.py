"""What the image is built by: only pinned packages with their hashes, and a list of what is in it."""

from __future__ import annotations

import json
import re

import pytest

from devkit.charts import ROOT
from devkit.pinned import hashed, pins
from devkit.sbom import bill

CONSTRAINTS = """# made by pip-compile
aiohttp==3.14.5 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via fallow
prometheus-client==0.26.0 --hash=sha256:cc
uvloop[extra]==1.0 --hash=sha256:dd
"""


def _report(*packages: tuple[str, str], direct: bool = False) -> str:
    return json.dumps(
        {"install": [{"is_direct": direct, "metadata": {"name": n, "version": v}} for n, v in packages]}
    )


def test_pinned__when_pip_wants_a_pinned_package__then_its_line_has_all_hashes() -> None:
    assert hashed(_report(("Prometheus_Client", "0.26.0"), ("aiohttp", "3.14.5")), CONSTRAINTS) == [
        "prometheus-client==0.26.0 --hash=sha256:cc",
        "aiohttp==3.14.5  --hash=sha256:aa  --hash=sha256:bb",
    ]


@pytest.mark.parametrize("wanted", [("unknown", "1.0"), ("aiohttp", "3.14.6"), ("aiohttp", "3.14")])
def test_pinned__when_pip_wants_anything_else__then_the_build_ends(wanted: tuple[str, str]) -> None:
    with pytest.raises(LookupError, match=r"not what constraints\.txt pins"):
        hashed(_report(wanted), CONSTRAINTS)


def test_pinned__when_the_wheel_is_our_own__then_it_needs_no_pin() -> None:
    assert hashed(_report(("fallow", "0.1"), direct=True), CONSTRAINTS) == []


def test_pinned__when_reading_the_real_file__then_everything_has_a_hash() -> None:
    lines = pins((ROOT / "constraints.txt").read_text())
    assert {"kopf", "web3", "nvidia-ml-py", "hatchling"} <= set(lines)
    assert all(re.match(r"\S+==\S+  ?--hash=sha256:[0-9a-f]{64}", line) for line in lines.values())


def test_sbom__when_written__then_names_each_package_once_in_order() -> None:
    found = bill()
    names = [each["name"] for each in found["components"]]
    assert names == sorted(names)
    assert {"kopf", "web3", "fallow"} <= set(names)
    for each in found["components"]:
        assert each["purl"] == f"pkg:pypi/{each['name']}@{each['version']}"


def test_dockerfile__when_built__then_ends_without_root_and_takes_its_base_from_outside() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("FROM")] == ["FROM ${BASE} AS build", "FROM ${BASE}"]
    assert [line for line in lines if line.startswith("USER")] == ["USER 65532:65532"]
    # Nothing but what the build needs reaches the builder: no key, no log, no history.
    assert (ROOT / ".dockerignore").read_text().splitlines()[0] == "*"
