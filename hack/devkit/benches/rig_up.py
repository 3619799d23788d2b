"""How long a rig takes to be ready: planes alone, and with a chain and all of Fallow."""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from devkit.rig import default_members, up
from devkit.toolchain import CONTROL_PLANES, contracts_toolchain, ensure

RUNS = 3


def run() -> dict[str, Any]:
    """Bring rigs up and down; seconds of each, with the toolchain cached."""
    ensure(*CONTROL_PLANES)
    contracts_toolchain()
    return {
        "members": 2,
        "planes": _times(with_fallow=False),
        "everything": _times(with_fallow=True),
    }


def _times(*, with_fallow: bool) -> dict[str, Any]:
    ready, ended = [], []
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory(prefix="fallow-bench-") as directory:
            members = default_members(2, nodes=2, gpus_per_node=8)
            rig = up(Path(directory), members=members, with_fallow=with_fallow)
            started = time.monotonic()
            rig.down()
            ended.append(time.monotonic() - started)
            ready.append(rig.ready_seconds)
    return {"up_seconds": _figures(ready), "down_seconds": _figures(ended)}


def _figures(seconds: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(seconds), 2), "worst": round(max(seconds), 2)}
