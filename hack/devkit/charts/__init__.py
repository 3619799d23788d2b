"""The Helm charts: what is generated for them, from them, and how they are rendered.

values.yaml is the source of a chart's schema and README (`values`, `settings_schema`, `pages`); the charts
are the source of `config/` (`plain`) and of the table of rights in docs/security.md (`access`). `python -m
devkit.charts` is the `charts` step of hack/test.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CHARTS = {"fallow-hub": "hub", "fallow-agent": "member"}
"""Chart → the plane it is for."""
