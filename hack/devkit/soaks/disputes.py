"""Disputes with a settler that is killed at every step of answering and telling them.

The tests of tests/integration/test_settler_disputes.py, at all of their fault points instead of the two that
hack/test takes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from devkit.errors import DevkitError

_ROOT = Path(__file__).parents[3]
_TESTS = "tests/integration/test_settler_disputes.py"


def run() -> dict[str, Any]:
    """Run them; raises DevkitError when one fails."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", _TESTS],
        cwd=_ROOT,
        env=os.environ | {"FALLOW_SOAK": "1"},
        text=True,
        capture_output=True,
        check=False,
    )
    print(done.stdout)
    passed = re.search(r"(\d+) passed", done.stdout)
    if done.returncode or passed is None:
        raise DevkitError(f"The tests of disputes fail:\n{done.stdout}{done.stderr}")
    return {"passed": int(passed[1]), "seconds": round(time.monotonic() - started, 1)}
