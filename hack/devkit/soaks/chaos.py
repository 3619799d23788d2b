"""Jobs, kills and freezes of every program and API server: every promise holds, everything converges.

FALLOW_SOAK_SEED and FALLOW_SOAK_SECONDS choose the seed (else random, printed) and the time (else 300 s).
"""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path
from typing import Any

from devkit.errors import DevkitError
from devkit.rig import up
from devkit.scenario.chaos import MEMBERS, Chaos


def run() -> dict[str, Any]:
    """Run on a rig of its own; raises DevkitError with the broken promise and the seed."""
    seed = int(os.environ.get("FALLOW_SOAK_SEED") or secrets.randbelow(2**32))
    seconds = float(os.environ.get("FALLOW_SOAK_SECONDS") or 300)
    state = Path(tempfile.mkdtemp(prefix="fallow-chaos-"))
    with up(state, members=MEMBERS, say=print) as rig:
        try:
            return {"seed": seed, **Chaos(rig, seed=seed).run(seconds=seconds)}
        except AssertionError as error:
            raise DevkitError(
                f"{error}\nAgain with: FALLOW_SOAK_SEED={seed} hack/soak chaos\nLogs: {state / 'logs'}"
            ) from error
