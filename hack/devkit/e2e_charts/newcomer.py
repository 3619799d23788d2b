"""A newcomer's way: the commands of docs/getting-started.md, as they stand there, on two empty clusters.

What the page leaves to its reader is set here: where things are, and values that a test needs (no volumes are
made by anybody, and nobody waits five minutes for an epoch). Everything else is read from the page.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from devkit import image as images
from devkit.e2e_charts.people import Admin
from devkit.errors import DevkitError
from devkit.image import OUTPUT
from devkit.rig.addresses import API_PORT, OUTSIDE
from devkit.rig.bare import Cluster, bare
from devkit.rig.manifests import ROOT
from devkit.rig.real.images import BUSYBOX
from fallow import __version__

PAGE = ROOT / "docs/getting-started.md"
MOST_COMMANDS = 8
JOIN_PORT, NODE_PORT = 8443, 30843
HUB_FLAGS = (
    "--set=settler.archive.size=1Gi",
    "--set=settler.settings.epochs.maxAgeSeconds=3",
    "--set=join.service.type=NodePort",
    f"--set=join.service.nodePort={NODE_PORT}",
)
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Return the page's commands, one a block."""
    return [block.strip() for block in _BLOCK.findall(PAGE.read_text())]


def run(*, image: Path | None = None) -> dict[str, Any]:
    """Follow the page; return seconds by command. Raises DevkitError with the command that failed."""
    told = commands()
    if len(told) > MOST_COMMANDS:
        raise DevkitError(f"{PAGE.name} has {len(told)} commands; a newcomer should need {MOST_COMMANDS}.")
    if image is None:
        image = OUTPUT
        images.build(image)
    state = Path(tempfile.mkdtemp(prefix="fallow-newcomer-"))
    started = time.monotonic()
    with bare(
        state, ["hub", "member"], gpus={}, reaches={"member": ["hub"]}, node_ports={JOIN_PORT: NODE_PORT}
    ) as clusters:
        for cluster in clusters.values():
            cluster.node.load(image, name=f"docker.io/library/fallow:{__version__}")
        member = clusters["member"].node
        member.run("ctr", "--namespace=k8s.io", "images", "tag", BUSYBOX, "docker.io/library/busybox:1")
        Admin(clusters["hub"], hub_id="", files=state / "hub").offers_volume()
        seconds = _follow(told, clusters, state / "newcomer")
    return {
        "commands": len(told),
        "seconds": round(time.monotonic() - started, 1),
        "seconds_by_command": seconds,
    }


def _follow(told: list[str], clusters: dict[str, Cluster], directory: Path) -> list[float]:
    """Run each command in a shell, in a checkout with the two kubeconfigs beside it."""
    directory.mkdir()
    for name in ("helm", "examples"):
        shutil.copytree(ROOT / name, directory / name)
    for name, cluster in clusters.items():
        shutil.copy(cluster.kubeconfig, directory / f"{name}.kubeconfig")
    programs = directory / "bin"
    programs.mkdir()
    for name in ("kubectl", "helm"):
        (programs / name).symlink_to(clusters["hub"].programs[name])
    environ = {
        **os.environ,
        "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "JOIN_URL": f"https://{OUTSIDE}:{JOIN_PORT}",
        "HUB_API": f"https://{OUTSIDE}:{API_PORT}",
        "PAYEE": "0x" + "7a" * 20,
        "HUB_FLAGS": " ".join(HUB_FLAGS),
        "MEMBER_FLAGS": "--set=probe.enabled=false",
    }
    seconds = []
    for command in told:
        at = time.monotonic()
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=directory, env=environ, input="y\n", capture_output=True, text=True, timeout=660,
        )  # fmt: skip
        seconds.append(round(time.monotonic() - at, 1))
        print(f"{seconds[-1]:6.1f} s  {command.splitlines()[0]}", flush=True)
        if done.returncode:
            raise DevkitError(f"{command}\n{done.stdout}{done.stderr}\n{_seen(clusters)}")
    return seconds


def _seen(clusters: dict[str, Cluster]) -> str:
    """Return what both clusters say, for a command that failed."""
    said = []
    for name, cluster in clusters.items():
        for words in (
            ("get", "pods,events", "-A", "-o", "wide"),
            ("get", "computejobs,providers,offers", "-A", "-o", "yaml"),
            ("logs", "-n", "fallow-system", "--selector=app.kubernetes.io/name=fallow", "--tail=40"),
        ):
            try:
                said.append(f"--- {name}: {' '.join(words)}\n{cluster.kubectl(*words)}")
            except DevkitError as error:
                said.append(f"--- {name}: {error}")
    return "\n".join(said)[-20_000:]
