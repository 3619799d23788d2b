"""`fallow probe`: one process on each node that tells what its accelerators are, how well and how idle.

Reading flags and variables takes 10 MB of modules that are of no use afterwards, and a DaemonSet
would pay them on every node for ever. So the process that has read the settings replaces itself (same
process id) by one that only carries their values: `python -m fallow.probe JSON`.
"""

from __future__ import annotations

import os
import sys
from typing import Never

import pynvml  # noqa: F401 - whether it is installed is best said before the exec

from fallow.settings import ProbeSettings


def run(settings: ProbeSettings) -> Never:
    """Become the probe. Does not return: it ends on SIGTERM or SIGINT with status 0."""
    sys.stderr.flush()
    # -P: what lies in the current directory is no module of ours.
    arguments = [sys.executable, "-P", "-m", "fallow.probe", settings.model_dump_json()]
    os.execv(sys.executable, arguments)  # noqa: S606 - our own interpreter, no shell
