"""A hub whose etcd is restored from a snapshot, as an administrator restores one after losing a cluster.

The rig's one etcd serves every plane, so the snapshot is restored beside it: an etcd of its own, from
which the hub's API server starts again. The members go on with what they have, as real ones would.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from devkit.errors import RigError
from devkit.rig import Rig
from devkit.rig.api import ApiServer
from devkit.rig.planes import plain_environment
from devkit.rig.ports import Ports
from devkit.scenario.submitting import GROUP
from devkit.toolchain import ensure

_READY_SECONDS = 60.0
_RESTORED = "etcd-restored"


def snapshot(rig: Rig, path: Path) -> None:
    """Save a snapshot of the rig's etcd, as `etcdctl snapshot save` does for backups."""
    (server,) = _values(_command(rig, "hub.apiserver"), "--etcd-servers")
    _run([str(ensure("etcdctl")["etcdctl"]), f"--endpoints={server}", "snapshot", "save", str(path)])


@contextmanager
def restored(rig: Rig, path: Path) -> Iterator[None]:
    """Kill the hub's control plane and Fallow's programs on it, restore the snapshot, start the plane.

    The block runs with the hub's API server as it was at the snapshot and without hub and settler:
    who starts them, and when, is its business.
    """
    for name in ("hub", "settler"):
        rig.processes.kill(rig.fallow[name])
    for name in ("hub.controller-manager", "hub.apiserver"):
        rig.processes.kill(name)
    data = rig.state / "etcd" / "restored"
    with Ports() as ports:
        client, peer = (f"http://127.0.0.1:{ports.hold()}" for _ in range(2))
        cluster = [f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}"]
        restore = [str(ensure("etcdutl")["etcdutl"]), "snapshot", "restore", str(path), f"--data-dir={data}"]
        _run([*restore, *cluster])
        command = [str(rig.programs.get("etcd") or ensure("etcd")["etcd"]), f"--data-dir={data}", *cluster]
        command += [f"--listen-client-urls={client}", f"--advertise-client-urls={client}"]
        command += [f"--listen-peer-urls={peer}", "--unsafe-no-fsync", "--log-level=warn"]
        for url in (client, peer):
            ports.release(int(url.rsplit(":", 1)[1]))
        rig.processes.start(_RESTORED, command, environ=plain_environment())
    server = [
        f"--etcd-servers={client}" if word.startswith("--etcd-servers=") else word
        for word in _command(rig, "hub.apiserver")
    ]
    rig.processes.start("hub.apiserver", server, environ=plain_environment())
    api = rig.hub_client()
    # Ready is said before every kind of ours is served again.
    for kind in ("computejobs", "placements", "paymentclaims", "settlements", "accounts", "providers"):
        _until_served(api, f"{GROUP}/{kind}")
    rig.processes.start_again("hub.controller-manager")
    yield


def _until_served(api: ApiServer, path: str) -> None:
    api.until(f"the restored {path}", lambda: "items" in api.get(path), seconds=_READY_SECONDS)


def _command(rig: Rig, name: str) -> list[str]:
    saved = json.loads((rig.state / "run" / f"{name}.json").read_text())
    return [str(word) for word in saved["command"]]


def _values(command: Sequence[str], flag: str) -> list[str]:
    return [word.partition("=")[2] for word in command if word.startswith(f"{flag}=")]


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        raise RigError(f"{' '.join(command[:3])} failed: {done.stderr.strip()[-500:]}")
