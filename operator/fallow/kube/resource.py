"""One kind of resource as an API server serves it: what a URL and an object's head need."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind as an API server serves it."""

    group: str
    """API group; "" for the core group."""
    version: str
    plural: str
    """Name in URLs, such as "computejobs"."""
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """The `apiVersion` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(
        self, *, namespace: str | None = None, name: str | None = None, subresource: str | None = None
    ) -> str:
        """Return the URL path of the collection, an object or its subresource.

        Without a namespace, the collection of a namespaced kind is that of all namespaces. Raises
        ValueError where an object's address is incomplete.
        """
        if name is not None and self.namespaced and namespace is None:
            raise ValueError(f"{self.kind} {name} needs a namespace")
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if self.namespaced and namespace is not None:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name is not None:
            parts.append(name)
        if subresource is not None:
            parts.append(subresource)
        return "/".join(parts)

    def __str__(self) -> str:
        return self.kind


POD = Resource("", "v1", "pods", "Pod")
SERVICE_ACCOUNT = Resource("", "v1", "serviceaccounts", "ServiceAccount")
