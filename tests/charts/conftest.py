"""Renderings of both charts for the tests of this directory; each is made once a session."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from devkit.charts import rendering

Json = dict[str, Any]
Rendered = Callable[[str, str], list[Json]]


@pytest.fixture(scope="session")
def rendered() -> Rendered:
    """`rendered("fallow-hub", "full")`: the objects of a chart with one of its sets of values."""

    @cache
    def render(chart: str, name: str) -> list[Json]:
        return rendering.objects(chart, values=[rendering.values_files(chart)[name]])

    return render
