"""The hub as a process of its own, with its own identity, that a test may stop, kill and start again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from devkit.rig import Rig
from integration.scripted_agent import HUB_ID


class HubProcess:
    """`fallow hub` in ledger mode, with short times. Logs go to a file that a failing test shows."""

    def __init__(self, rig: Rig, log: Path, **settings: str) -> None:
        self._log = log
        kept = ("PATH", "HOME", "TMPDIR", "LANG", "VIRTUAL_ENV")
        self._environ = {key: os.environ[key] for key in kept if key in os.environ} | {
            "FALLOW_KUBECONFIG": str(rig.identities["hub"]),
            "FALLOW_HUB_ID": HUB_ID,
            "FALLOW_LEASE__DURATION_SECONDS": "4",
            "FALLOW_LEASE__RENEW_SECONDS": "1",
            "FALLOW_METRICS_ADDRESS": "off",
            "FALLOW_LOG_FORMAT": "console",
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns at once."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(Path(sys.executable).with_name("fallow")), "hub"],
                env=self._environ,
                stdout=log,
                stderr=log,
            )

    def stop(self) -> int:
        """Ask it to end; return its exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=20)

    def freeze(self) -> None:
        """Stop it where it is, as a paused machine does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on, with no idea of the time that has passed."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it as a power cut does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(timeout=10)

    def __enter__(self) -> HubProcess:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
        if kind is not None:
            print(self._log.read_text()[-8000:])
