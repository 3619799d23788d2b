"""Kubeconfigs of the rig: one cluster, one user, everything inside; written as JSON, which is YAML."""

import json
from pathlib import Path
from typing import Any

from devkit.rig.addresses import LOOPBACK
from devkit.rig.certificates import KeyPair, base64_text


def by_certificate(pair: KeyPair) -> dict[str, Any]:
    """Return the user entry of someone who shows a client certificate."""
    return {
        "client-certificate-data": base64_text(pair.certificate),
        "client-key-data": base64_text(pair.key),
    }


def by_token(token: str) -> dict[str, Any]:
    """Return the user entry of a service account."""
    return {"token": token}


def write(
    path: Path,
    *,
    cluster: str,
    port: int,
    authority: bytes,
    user: dict[str, Any],
    namespace: str = "default",
    host: str = LOOPBACK,
) -> Path:
    """Write a kubeconfig for the API server on `port` of `host`, for the owner's eyes only."""
    server = {
        "server": f"https://{host}:{port}",
        "certificate-authority-data": base64_text(authority),
    }
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": server}],
        "users": [{"name": path.stem, "user": user}],
        "contexts": [
            {"name": cluster, "context": {"cluster": cluster, "user": path.stem, "namespace": namespace}}
        ],
        "current-context": cluster,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps(content, indent=1))
    return path
