"""Runs `fallow probe` as its DaemonSet would, on a rig's node with fake hardware.

The process gets what a pod would have: a token that is bound to a pod on that node, in a directory as
Kubernetes mounts it, and the variables that lead to the API server. Nothing else of the rig is lent to it.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Sequence
from pathlib import Path
from urllib.error import HTTPError

from devkit.errors import RigError
from devkit.fake_nvml import environment
from devkit.rig.api import ApiServer

NAMESPACE = "fallow-probe"
_SECONDS = 60.0


class Daemon:
    """The probe of one node; `directory` keeps its credentials, hardware script and log."""

    def __init__(self, kubeconfig: Path, node: str, directory: Path) -> None:
        self.node = node
        self.script = directory / "hardware.ini"
        self.account = directory / "account"
        self.log = directory / "probe.log"
        self.client = ApiServer.from_kubeconfig(kubeconfig)
        cluster = json.loads(kubeconfig.read_text())["clusters"][0]["cluster"]
        self.host, self.port = str(cluster["server"]).removeprefix("https://").split(":")
        self.account.mkdir(parents=True)
        (self.account / "ca.crt").write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
        (self.account / "token").write_text(self._token())

    def start(self, library: Path | None, *flags: str) -> Running:
        """Start the probe with the fake `library`, or on a node without any."""
        environ = environment(library, self.script)
        environ = {name: value for name, value in environ.items() if not name.startswith("FALLOW_")}
        environ |= {"KUBERNETES_SERVICE_HOST": self.host, "KUBERNETES_SERVICE_PORT": self.port}
        command = [sys.executable, "-m", "fallow", "probe", f"--node-name={self.node}"]
        command.append(f"--service-account={self.account}")
        return Running([*command, *flags], environ, self.log)

    def _token(self) -> str:
        """Have a pod on the node, and the token that the kubelet would mount into it."""
        name = f"probe-{uuid.uuid4().hex[:8]}"
        container = {"name": "probe", "image": "fallow"}
        spec = {"nodeName": self.node, "serviceAccountName": "probe", "containers": [container]}
        pod = self.client.post(
            f"/api/v1/namespaces/{NAMESPACE}/pods", {"metadata": {"name": name}, "spec": spec}
        )
        reference = {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": pod["metadata"]["uid"]}
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 3600, "boundObjectRef": reference},
        }
        path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/probe/token"
        return str(self.client.post(path, request)["status"]["token"])


class Running:
    """A probe's process."""

    def __init__(self, command: Sequence[str], environ: dict[str, str], log: Path) -> None:
        self._log = log
        self._skip = log.stat().st_size if log.exists() else 0
        with log.open("ab") as out:
            self.process = subprocess.Popen(command, env=environ, stdout=out, stderr=out)

    def said(self) -> str:
        """Return what it has logged."""
        return self._log.read_bytes()[self._skip :].decode(errors="replace")

    def url(self) -> str:
        """Wait until its metrics are served and return where. Raises RigError."""
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            for line in self.said().splitlines():
                event = json.loads(line) if line.startswith("{") and line.endswith("}") else {}
                if event.get("event") == "metrics served":
                    return str(event["url"])
            time.sleep(0.05)
        raise RigError(f"The probe serves no metrics:\n{self.said()[-2000:]}")

    def ask(self, path: str) -> tuple[int, str]:
        """Return status and text of a GET."""
        try:
            with urllib.request.urlopen(self.url() + path, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def stop(self) -> int:
        """End it as the kubelet does and return its exit status."""
        self.process.terminate()
        return self.process.wait(20)
