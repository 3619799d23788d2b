"""Every rendering as a committed file, so that a change of a template shows in its review as what it does.

CRDs are left out: they are compared with crds/ already.
"""

from __future__ import annotations

from pathlib import Path

from devkit.charts import CHARTS, ROOT, rendering

DIRECTORY = ROOT / "tests" / "charts" / "snapshots"


def files() -> dict[Path, str]:
    """Return the snapshot of each chart with each of its sets of values. Runs helm."""
    return {
        DIRECTORY / f"{chart}-{name}.yaml": _without_crds(rendering.text(chart, values=[path]))
        for chart in CHARTS
        for name, path in rendering.values_files(chart).items()
    }


def present() -> list[Path]:
    """Return the snapshots that there are."""
    return sorted(DIRECTORY.glob("*"))


def _without_crds(text: str) -> str:
    documents = (each.strip("\n") for each in text.split("---\n"))
    kept = [each for each in documents if each and "kind: CustomResourceDefinition" not in each]
    lines = "\n---\n".join(kept).splitlines()
    return "\n".join(line.rstrip() for line in lines) + "\n"
