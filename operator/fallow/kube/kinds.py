"""Names of the resources that Fallow reads and writes.

Its own come from the models of `fallow.resources`, as the CRDs do: one list of names, scopes and versions.
"""

from __future__ import annotations

from fallow.kube.resource import POD as POD
from fallow.kube.resource import SERVICE_ACCOUNT as SERVICE_ACCOUNT
from fallow.kube.resource import Resource
from fallow.resources import (
    account,
    computejob,
    guestset,
    offer,
    paymentclaim,
    placement,
    provider,
    providernode,
    quote,
    settlement,
)
from fallow.resources.base import GROUP, VERSION, Kind


def _ours(kind: Kind) -> Resource:
    return Resource(GROUP, VERSION, kind.plural, kind.kind, kind.namespaced)


ACCOUNT = _ours(account.ACCOUNT)
COMPUTE_JOB = _ours(computejob.COMPUTE_JOB)
PROVIDER = _ours(provider.PROVIDER)
QUOTE = _ours(quote.QUOTE)
PROVIDER_NODE = _ours(providernode.PROVIDER_NODE)
PLACEMENT = _ours(placement.PLACEMENT)
PAYMENT_CLAIM = _ours(paymentclaim.PAYMENT_CLAIM)
SETTLEMENT = _ours(settlement.SETTLEMENT)
OFFER = _ours(offer.OFFER)
GUEST_SET = _ours(guestset.GUEST_SET)

NODE = Resource("", "v1", "nodes", "Node", namespaced=False)
NAMESPACE = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
CONFIG_MAP = Resource("", "v1", "configmaps", "ConfigMap")
SECRET = Resource("", "v1", "secrets", "Secret")
SERVICE = Resource("", "v1", "services", "Service")
EVENT = Resource("events.k8s.io", "v1", "events", "Event")
LEASE = Resource("coordination.k8s.io", "v1", "leases", "Lease")
NETWORK_POLICY = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
PRIORITY_CLASS = Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", namespaced=False)
CUSTOM_RESOURCE_DEFINITION = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
