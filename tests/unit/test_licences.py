"""Every installed dependency may be used by an Apache-2.0 project."""

from __future__ import annotations

import re
from importlib.metadata import Distribution, distributions

COMPATIBLE = re.compile(
    r"apache|\bmit\b|mit-0|bsd|isc|psf|python software foundation|mpl-2\.0"
    r"|mozilla public license 2\.0|cnri|public domain",
    re.IGNORECASE,
)
"""MPL-2.0 is file-level copyleft: fine to depend on unchanged."""


def _licence(distribution: Distribution) -> str:
    metadata = distribution.metadata
    stated = str(metadata["License-Expression"] or metadata["License"] or "")
    classifiers = [entry for entry in metadata.get_all("Classifier") or () if entry.startswith("License")]
    return stated.splitlines()[0] if stated else ";".join(classifiers)


def test_licences__when_dependencies_are_installed__then_each_is_compatible() -> None:
    stated = {item.metadata["Name"]: _licence(item) for item in distributions()}
    assert len(stated) > 50
    odd = {name: text for name, text in stated.items() if not COMPATIBLE.search(text) or "GPL" in text}
    assert odd == {}
