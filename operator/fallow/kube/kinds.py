"""Names of the resources that Fallow reads and writes: what a URL and an object's head need."""

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


def _ours(plural: str, kind: str, *, namespaced: bool = True) -> Resource:
    return Resource("fallow.dev", "v1alpha1", plural, kind, namespaced)


ACCOUNT = _ours("accounts", "Account")
COMPUTE_JOB = _ours("computejobs", "ComputeJob")
PROVIDER = _ours("providers", "Provider", namespaced=False)
QUOTE = _ours("quotes", "Quote")
PROVIDER_NODE = _ours("providernodes", "ProviderNode")
PLACEMENT = _ours("placements", "Placement")
PAYMENT_CLAIM = _ours("paymentclaims", "PaymentClaim")
SETTLEMENT = _ours("settlements", "Settlement", namespaced=False)
OFFER = _ours("offers", "Offer", namespaced=False)
GUEST_SET = _ours("guestsets", "GuestSet")
FALLOW = (
    ACCOUNT,
    COMPUTE_JOB,
    PROVIDER,
    QUOTE,
    PROVIDER_NODE,
    PLACEMENT,
    PAYMENT_CLAIM,
    SETTLEMENT,
    OFFER,
    GUEST_SET,
)

POD = Resource("", "v1", "pods", "Pod")
NODE = Resource("", "v1", "nodes", "Node", namespaced=False)
NAMESPACE = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
CONFIG_MAP = Resource("", "v1", "configmaps", "ConfigMap")
SECRET = Resource("", "v1", "secrets", "Secret")
SERVICE = Resource("", "v1", "services", "Service")
SERVICE_ACCOUNT = Resource("", "v1", "serviceaccounts", "ServiceAccount")
EVENT = Resource("events.k8s.io", "v1", "events", "Event")
LEASE = Resource("coordination.k8s.io", "v1", "leases", "Lease")
NETWORK_POLICY = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
PRIORITY_CLASS = Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", namespaced=False)
CUSTOM_RESOURCE_DEFINITION = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
