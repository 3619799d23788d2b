"""docs/getting-started.md, followed on two empty clusters of real pods. Needs root on Linux."""

from __future__ import annotations

from typing import Any

from devkit.e2e_charts import newcomer, story


def run() -> dict[str, Any]:
    """Run it with an image built for it; where that cannot be, say why."""
    if reason := story.why_not():
        print(f"Skipped: {reason}")
        return {"skipped": reason}
    return newcomer.run()
