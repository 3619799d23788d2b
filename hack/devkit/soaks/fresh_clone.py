"""A fresh clone with empty caches: hack/demo alone sets everything up, runs, and exits 0; so does hack/test.

Needs the network, and a quarter of an hour on two cores. Only what is committed is tested.
"""

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from devkit.errors import DevkitError

ROOT = Path(__file__).parents[3]
LIMIT_SECONDS = 45 * 60
_CACHES = ("FALLOW_CACHE", "XDG_CACHE_HOME", "GOCACHE", "GOMODCACHE", "GOPATH")


def run() -> dict[str, Any]:
    """Clone, run the demo twice (cold, then warm), then all tests; raises DevkitError when one fails."""
    with tempfile.TemporaryDirectory(prefix="fallow-fresh-") as directory:
        home, clone = Path(directory) / "home", Path(directory) / "clone"
        home.mkdir()
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        # Nothing that this checkout or its user has built before may help.
        hidden = {*_CACHES, "PYTHONPATH", "VIRTUAL_ENV", "KUBEBUILDER_ASSETS"}
        environ = {key: value for key, value in os.environ.items() if key not in hidden}
        own = str(ROOT / ".venv" / "bin")
        path = os.pathsep.join(part for part in environ["PATH"].split(os.pathsep) if part != own)
        environ |= {"HOME": str(home), "PATH": path}
        return {
            "cold": _demo(clone, environ, Path(directory) / "cold.json"),
            "warm": _demo(clone, environ, Path(directory) / "warm.json"),
            "test": _test(clone, environ),
        }


def _test(clone: Path, environ: dict[str, str]) -> dict[str, Any]:
    started = time.monotonic()
    command = [str(clone / "hack" / "test")]
    done = subprocess.run(command, env=environ, cwd=clone, stdin=subprocess.DEVNULL, timeout=LIMIT_SECONDS)
    if done.returncode != 0:
        raise DevkitError(f"hack/test in a fresh clone exited {done.returncode}.")
    return {"seconds": round(time.monotonic() - started, 1)}


def _demo(clone: Path, environ: dict[str, str], figures: Path) -> dict[str, Any]:
    started = time.monotonic()
    command = [str(clone / "hack" / "demo"), "--json", str(figures)]
    done = subprocess.run(command, env=environ, cwd=clone, stdin=subprocess.DEVNULL, timeout=LIMIT_SECONDS)
    if done.returncode != 0:
        raise DevkitError(f"hack/demo in a fresh clone exited {done.returncode}.")
    seconds = round(time.monotonic() - started, 1)
    return {"seconds": seconds, "figures": json.loads(figures.read_text())}
