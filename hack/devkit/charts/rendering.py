"""Helm at work: a chart and values in, objects or text out."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from devkit.charts import ROOT
from devkit.errors import DevkitError
from devkit.toolchain import ensure

Json = dict[str, Any]
NAMESPACE = "fallow-system"


class RenderingError(DevkitError):
    """Helm refused the chart or its values; the message is helm's."""


def values_files(chart: str) -> dict[str, Path]:
    """Return the sets of values in helm/CHART/ci by name: minimal has what is required, full sets all."""
    return {path.stem: path for path in sorted((ROOT / "helm" / chart / "ci").glob("*.yaml"))}


def text(chart: str, *, values: Iterable[Path] = (), sets: Iterable[str] = ()) -> str:
    """Return what `helm template` makes of a chart. Raises RenderingError with helm's own sentence."""
    # Paths relative to the checkout: they stand in helm's messages.
    options = [f"--values={path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}" for path in values]
    options += [f"--set={each}" for each in sets]
    return helm("template", chart, f"helm/{chart}", f"--namespace={NAMESPACE}", *options)


def objects(chart: str, *, values: Iterable[Path] = (), sets: Iterable[str] = ()) -> list[Json]:
    """Return the objects that a chart renders to, in the order in which helm applies them."""
    return parse(text(chart, values=values, sets=sets))


def parse(rendered: str) -> list[Json]:
    """Return the objects of a rendered text."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [each for each in yaml.load_all(rendered, Loader=loader) if each]


def helm(*arguments: str) -> str:
    """Run helm from the checkout's root and return what it says. Raises RenderingError."""
    command = [str(ensure("helm")["helm"]), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise RenderingError(f"{done.stderr}{done.stdout}".strip())
    return done.stdout
