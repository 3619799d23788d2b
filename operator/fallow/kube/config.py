"""Where an API server is and how to prove who we are.

The official client reads kubeconfigs and service accounts (tokens, token files, client
certificates, exec plugins, OIDC); from what it finds we make a plain TLS context and one
Authorization header, for our own raw requests as for Kopf. Credentials rotate: a token is read
again every minute (a kubelet renews it long before it ends) and at once after a 401.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import kopf
from kubernetes.aio import client as official
from kubernetes.aio import config as official_config

from fallow.errors import KubeconfigUnusable

_REREAD_SECONDS = 60.0


class Connection:
    """One API server: its address and this process's credentials there. Made by `load`."""

    def __init__(
        self,
        *,
        kubeconfig: Path | None,
        configuration: official.Configuration,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kubeconfig = kubeconfig
        self._configuration = configuration
        self._monotonic = monotonic
        self._read_at = monotonic()
        self._lock = asyncio.Lock()

    @classmethod
    async def load(
        cls, kubeconfig: Path | None, *, monotonic: Callable[[], float] = time.monotonic
    ) -> Connection:
        """Read a kubeconfig's current context, or without one the pod's service account.

        Raises KubeconfigUnusable with one sentence.
        """
        return cls(kubeconfig=kubeconfig, configuration=await _read(kubeconfig), monotonic=monotonic)

    @property
    def server(self) -> str:
        """Base URL without a slash at the end."""
        return str(self._configuration.host).rstrip("/")

    @property
    def proxy(self) -> str | None:
        """URL of a proxy to go through, or None."""
        return self._configuration.proxy or None

    @property
    def server_hostname(self) -> str | None:
        """Name to expect in the server's certificate where it is not the URL's (SNI), or None."""
        return self._configuration.tls_server_name or None

    def ssl_context(self) -> ssl.SSLContext | bool:
        """Make the TLS context: the cluster's authority, the client certificate if there is one."""
        if not self.server.startswith("https"):
            return True
        found = self._configuration
        context = ssl.create_default_context(cafile=found.ssl_ca_cert, cadata=found.ca_cert_data)
        if found.cert_file:
            context.load_cert_chain(found.cert_file, keyfile=found.key_file)
        if not found.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    async def authorization(self, *, rejected: str | None = None) -> str | None:
        """Return the value of the Authorization header, or None when a certificate identifies us.

        `rejected` is the value that the server just refused: credentials are then read again at
        once, unless another request did so since.
        """
        async with self._lock:
            if self._token is not None:
                stale = self._monotonic() - self._read_at >= _REREAD_SECONDS
                if stale or (rejected is not None and rejected == self._token):
                    self._configuration = await _read(self._kubeconfig)
                    self._read_at = self._monotonic()
        return self._token

    @property
    def _token(self) -> str | None:
        return self._configuration.api_key.get("BearerToken")

    async def kopf_info(self) -> kopf.ConnectionInfo:
        """Return the same for Kopf; its login handler calls this at start and after each 401."""
        header = await self.authorization(rejected=self._token)
        scheme, _, token = (header or "").partition(" ")
        found = self._configuration
        secure = self.server.startswith("https")
        return kopf.ConnectionInfo(
            server=self.server,
            ca_path=found.ssl_ca_cert if secure else None,
            insecure=not found.verify_ssl,
            certificate_path=found.cert_file if secure else None,
            private_key_path=found.key_file if secure else None,
            scheme=scheme.capitalize() or None,
            token=token or None,
            proxy_url=self.proxy,
        )


async def _read(kubeconfig: Path | None) -> official.Configuration:
    if kubeconfig is not None and not os.path.isfile(kubeconfig):  # noqa: ASYNC240 - one stat
        raise KubeconfigUnusable(f"There is no kubeconfig at {kubeconfig}.")
    configuration = official.Configuration()
    try:
        if kubeconfig is None:
            official_config.load_incluster_config(  # type: ignore[no-untyped-call]
                client_configuration=configuration, try_refresh_token=False
            )
        else:
            # Not persisted: a program does not rewrite a person's file.
            await official_config.load_kube_config(  # type: ignore[no-untyped-call]
                config_file=str(kubeconfig), client_configuration=configuration, persist_config=False
            )
    except (official_config.ConfigException, OSError, ValueError, KeyError, TypeError) as error:
        what = f"The kubeconfig {kubeconfig}" if kubeconfig else "The pod's service account"
        raise KubeconfigUnusable(f"{what} cannot be used: {error}") from error
    return configuration
