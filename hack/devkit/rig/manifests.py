"""Brings the project's own manifests, CRDs and RBAC, into a plane: the files that a chart would install."""

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from devkit.rig.api import ApiError, ApiServer, Json

ROOT = Path(__file__).parents[3]
_SECONDS = 30.0


class Manifests:
    """Applies objects to one plane; knows from its discovery where each kind lives."""

    def __init__(self, client: ApiServer, *, alive: Callable[[], None] = lambda: None) -> None:
        self._client = client
        self._alive = alive
        self._resources: dict[str, dict[str, Json]] = {}

    def apply(self, objects: Iterable[Json]) -> None:
        """Apply objects in order. A kind whose CRD came just before is waited for."""
        for thing in objects:
            self._client.apply(self._path(thing), thing)

    def apply_crds(self, objects: Iterable[Json]) -> None:
        """Apply CRDs and return once their kinds are served."""
        names = []
        for thing in objects:
            self._client.apply(self._path(thing), thing)
            names.append(thing["metadata"]["name"])
        root = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        for name in names:
            self._client.until(
                f"the CRD {name}",
                lambda name=name: _established(self._client.get(f"{root}/{name}")),  # type: ignore[misc]
                seconds=_SECONDS,
                alive=self._alive,
            )

    def _path(self, thing: Json) -> str:
        version, kind = thing["apiVersion"], thing["kind"]
        resource = self._resource(version, kind)
        prefix = f"/apis/{version}" if "/" in version else f"/api/{version}"
        metadata = thing["metadata"]
        if resource["namespaced"]:
            prefix += f"/namespaces/{metadata.get('namespace', 'default')}"
        return f"{prefix}/{resource['name']}/{metadata['name']}"

    def _resource(self, version: str, kind: str) -> Json:
        deadline = time.monotonic() + _SECONDS
        while kind not in self._resources.get(version, {}):
            prefix = "/apis" if "/" in version else "/api"
            try:
                listed = self._client.get(f"{prefix}/{version}")["resources"]
                self._resources[version] = {r["kind"]: r for r in listed if "/" not in r["name"]}
            except ApiError as error:
                if error.status != 404 or time.monotonic() > deadline:
                    raise
            else:
                if kind not in self._resources[version] and time.monotonic() > deadline:
                    raise ApiError(404, f"The plane serves no {kind} of {version}.")
            if kind not in self._resources.get(version, {}):
                time.sleep(0.05)
        return self._resources[version][kind]


def read(directory: Path) -> Iterator[Json]:
    """Yield the objects of all YAML files of a directory below the checkout, in the order of their names."""
    for path in sorted((ROOT / directory).glob("*.yaml")):
        yield from parse(path.read_text())


def of_provider(name: str, *, quota: bool = False) -> Iterator[Json]:
    """Yield what a hub admin creates for a provider, without (or with nothing but) its quota.

    A new plane's quota controller learns of kinds that came after it only after a minute or more, and until
    then a quota on them refuses everything: so a rig goes without.
    """
    template = (ROOT / "config/hub/provider.yaml.template").read_text()
    for thing in parse(template.replace("PROVIDER", name)):
        if (thing["kind"] == "ResourceQuota") == quota:
            yield thing


def parse(text: str) -> Iterator[Json]:
    """Yield the objects of a YAML text."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    thing: Any
    for thing in yaml.load_all(text, Loader=loader):
        if thing:
            yield thing


def _established(crd: Json) -> bool:
    conditions = (crd.get("status") or {}).get("conditions") or []
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)
