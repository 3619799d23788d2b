"""A pod's own service account, read without the official client.

That client and Kopf are a third of a small program's memory; the probe runs on every node and needs
neither. Elsewhere `Connection.load(None)` does the same.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from fallow.errors import KubeconfigUnusable

DIRECTORY = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes mounts the token and the cluster's authority."""
_REREAD_SECONDS = 60.0


class ServiceAccount:
    """Credentials in a directory: `token` and `ca.crt`. The token is read again every minute."""

    proxy: str | None = None
    server_hostname: str | None = None

    def __init__(
        self, directory: Path, *, server: str, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.server = server
        self._directory = directory
        self._monotonic = monotonic
        self._header = self._read()
        self._read_at = monotonic()

    @classmethod
    def load(cls, directory: Path, environment: Mapping[str, str]) -> ServiceAccount:
        """Read where the API server is from the variables every pod has.

        Raises KubeconfigUnusable when this is no pod or the token is not mounted.
        """
        host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT")
        if not host or not port:
            raise KubeconfigUnusable("This is no pod (KUBERNETES_SERVICE_HOST is not set): set --kubeconfig.")
        return cls(directory, server=f"https://{f'[{host}]' if ':' in host else host}:{port}")

    def ssl_context(self) -> ssl.SSLContext | bool:
        """Make the TLS context with the cluster's authority. Raises KubeconfigUnusable without one."""
        path = self._directory / "ca.crt"
        try:
            return ssl.create_default_context(cafile=str(path))
        except (OSError, ssl.SSLError) as error:
            raise KubeconfigUnusable(f"The cluster's authority {path} cannot be used: {error}") from error

    async def authorization(self, *, rejected: str | None = None) -> str | None:
        """Return the Authorization header; `rejected` is one that the server refused just now."""
        if rejected == self._header or self._monotonic() - self._read_at >= _REREAD_SECONDS:
            self._header = await asyncio.to_thread(self._read)
            self._read_at = self._monotonic()
        return self._header

    def _read(self) -> str:
        path = self._directory / "token"
        try:
            return f"Bearer {path.read_text(encoding='ascii').strip()}"
        except (OSError, UnicodeDecodeError) as error:
            raise KubeconfigUnusable(f"The service account's token {path} cannot be read: {error}") from error
