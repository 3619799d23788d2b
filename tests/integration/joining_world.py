"""A hub whose door is open, and agents that come by invite: the parties of joining, as processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from devkit.rig import Rig
from devkit.scenario.joining import GROUP, door_settings, unpacked
from integration.command_line import Ended, fallow
from integration.hub_process import HubProcess

PAYEE = "0x" + "7a" * 20


def hub_with_door(rig: Rig, directory: Path, **settings: str) -> HubProcess:
    """Return a hub that serves joining on a port of its own; not started."""
    return HubProcess(rig, directory / "hub.log", **door_settings(rig, directory), **settings)


class Admin:
    """The hub admin at the command line."""

    def __init__(self, rig: Rig) -> None:
        self._kubeconfig = str(rig.identities["hub_admin"])
        self._client = rig.client("hub_admin")

    def __call__(self, command: str, *arguments: str) -> Ended:
        """Run `fallow provider COMMAND`."""
        return fallow("provider", command, *arguments, "--kubeconfig", self._kubeconfig)

    def invite(self, name: str, path: Path, **options: str) -> Path:
        """Invite, and return the file."""
        flags = [part for key, value in options.items() for part in (f"--{key}", value)]
        ended = self("invite", name, "--output", str(path), *flags)
        assert ended.returncode == 0, ended.stderr
        assert path.stat().st_mode & 0o077 == 0, "an invite is a secret until it is used"
        return unpacked(path)

    def row(self, name: str) -> dict[str, Any]:
        """Return a provider's row of `list`."""
        ended = self("list", "--json")
        assert ended.returncode == 0, ended.stderr
        found: dict[str, Any] = next(row for row in json.loads(ended.stdout) if row["name"] == name)
        return found

    def condition(self, name: str, kind: str) -> tuple[str, str]:
        """Return a condition's status and reason; ("", "") where there is none yet."""
        status = self._client.get(f"{GROUP}/providers/{name}").get("status") or {}
        for one in status.get("conditions") or ():
            if one["type"] == kind:
                return one["status"], one["reason"]
        return "", ""


class InvitedAgent:
    """`fallow agent` on a member, with an invite and nothing else of the hub's."""

    def __init__(
        self, kubeconfig: Path, invite: Path, log: Path, *, payee: str = PAYEE, secret: str | None = None
    ) -> None:
        self.log = log
        kept = ("PATH", "HOME", "TMPDIR", "LANG", "VIRTUAL_ENV")
        self._environ = {key: os.environ[key] for key in kept if key in os.environ} | {
            "FALLOW_KUBECONFIG": str(kubeconfig),
            "FALLOW_JOIN__INVITE_FILE": str(invite),
            "FALLOW_PAYEE": payee,
            "FALLOW_METRICS_ADDRESS": "off",
        }
        if secret:
            self._environ["FALLOW_JOIN__IDENTITY_SECRET"] = secret
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns at once."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(Path(sys.executable).with_name("fallow")), "agent"],
                env=self._environ,
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        """End it, by force if it does not go."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=10)
        self._process = None

    def tail(self) -> str:
        """Return the end of its log, for a test that fails."""
        return self.log.read_text()[-4000:]

    def __enter__(self) -> InvitedAgent:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop()
        if kind is not None:
            print(self.tail())
