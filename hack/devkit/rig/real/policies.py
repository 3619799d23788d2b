"""Enforces NetworkPolicies on one real node: watches a plane, writes the node's nftables.

    python -m devkit.rig.real.policies KUBECONFIG NODE     (inside the node's namespaces)

Rules stay when this process ends: what was shut stays shut.
"""

import subprocess
import sys
import threading
import time
from pathlib import Path

from devkit.rig.addresses import POD_RANGE
from devkit.rig.api import ApiError, ApiServer, Json
from devkit.rig.real import policy_rules

_PATHS = {
    "policies": "/apis/networking.k8s.io/v1/networkpolicies",
    "pods": "/api/v1/pods",
    "namespaces": "/api/v1/namespaces",
}
_WATCH_SECONDS = 20  # below the client's time-out for an answer
_PAUSE_SECONDS = 0.05


class Mirror:
    """The objects of one kind, as a thread sees them."""

    def __init__(self, client: ApiServer, path: str, changed: threading.Event) -> None:
        self._client = client
        self._path = path
        self._changed = changed
        self.synced = threading.Event()
        self.objects: dict[str, Json] = {}
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        while True:
            try:
                version = self._list()
                while True:
                    version = self._watch(version)
            except (OSError, ApiError, ValueError) as error:
                print(f"{self._path}: {error}", file=sys.stderr, flush=True)
                time.sleep(0.5)

    def _list(self) -> str:
        listed = self._client.get(self._path)
        self.objects = {_key(thing): thing for thing in listed["items"]}
        self.synced.set()
        self._changed.set()
        return str(listed["metadata"]["resourceVersion"])

    def _watch(self, version: str) -> str:
        query = {"resourceVersion": version, "timeoutSeconds": str(_WATCH_SECONDS)}
        for event in self._client.watch(self._path, allowWatchBookmarks="true", **query):
            thing = event["object"]
            if event["type"] == "ERROR":
                raise ValueError(thing.get("message", "the watch has ended"))
            version = thing["metadata"]["resourceVersion"]
            if event["type"] == "BOOKMARK":
                continue
            objects = dict(self.objects)
            if event["type"] == "DELETED":
                objects.pop(_key(thing), None)
            else:
                objects[_key(thing)] = thing
            self.objects = objects
            self._changed.set()
        return version


def main(kubeconfig: Path) -> None:
    """Enforce for as long as this process lives."""
    _load(policy_rules.shut(POD_RANGE))
    client = ApiServer.from_kubeconfig(kubeconfig)
    changed = threading.Event()
    mirrors = {name: Mirror(client, path, changed) for name, path in _PATHS.items()}
    for mirror in mirrors.values():
        mirror.synced.wait()
    written = ""
    while True:
        changed.wait()
        changed.clear()
        seen = {name: list(mirror.objects.values()) for name, mirror in mirrors.items()}
        wanted = policy_rules.ruleset(seen["policies"], seen["pods"], seen["namespaces"], pod_range=POD_RANGE)
        if wanted != written:
            _load(wanted)
            written = wanted
        time.sleep(_PAUSE_SECONDS)  # what changes together is written together


def _load(rules: str) -> None:
    """Give rules to the kernel, all or none."""
    done = subprocess.run(["nft", "-f", "-"], input=rules, text=True, capture_output=True)
    if done.returncode:
        # The rules before stay in force. Known better next time, or seen in the log.
        print(f"{done.stderr}\n{rules}", file=sys.stderr, flush=True)


def _key(thing: Json) -> str:
    metadata = thing["metadata"]
    return f"{metadata.get('namespace', '')}/{metadata['name']}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
