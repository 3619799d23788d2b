"""Which kubeconfig a command uses: kubectl's, or a pod's own service account where there is none."""

from __future__ import annotations

import os
from pathlib import Path


def kubeconfig_path(given: Path | None) -> Path | None:
    """Return the flag's, else KUBECONFIG's first, else ~/.kube/config where there is one; None in a pod."""
    if given is not None:
        return given
    named = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
    if named:
        return Path(named)
    home = Path.home() / ".kube" / "config"
    return home if home.is_file() else None
