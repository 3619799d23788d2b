"""How the guests of one gang find and reach each other: a Service, a NetworkPolicy, and their environment.

The headless Service publishes addresses of pods that are not ready yet, since rank 0 is only ready once the
others have joined; the policy opens what the cage closes, between the pods of this one placement. Both are
made before the first pod, are owned by the GuestSet, and go when the last pod has gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog

from fallow.agent.books import Book
from fallow.agent.work import Work
from fallow.errors import AlreadyExists, FallowError, Invalid, NotFound, NotLeading
from fallow.kube.client import ApiServer
from fallow.kube.kinds import NETWORK_POLICY, SERVICE
from fallow.kube.resource import Resource
from fallow.kube.writers import Writers
from fallow.resources import naming

log = structlog.get_logger(__name__)

RENDEZVOUS_PORT = 29500
"""PyTorch's own default."""


def hostname(rank: int) -> str:
    """Return a member's name within its gang's Service."""
    return f"rank-{rank}"


def environment(work: Work, index: int) -> list[dict[str, str]]:
    """Return what a member of a gang is told about the others; nothing where it is no gang.

    torchrun reads `PET_*` and sets RANK and WORLD_SIZE itself, for each of its processes; programs that run
    one process a task read these two, so they are set only where a task has at most one accelerator.
    """
    if not work.spec.gang:
        return []
    rank, size = work.ranks[index], len(work.ranks)
    accelerators = sum(work.requests.devices.values())
    master = f"{hostname(0)}.{naming.gang_name(work.uid)}"
    values = {
        "PET_NNODES": str(size),
        "PET_NPROC_PER_NODE": str(max(1, accelerators)),
        "PET_NODE_RANK": str(rank),
        "PET_MASTER_ADDR": master,
        "PET_MASTER_PORT": str(RENDEZVOUS_PORT),
        "MASTER_ADDR": master,
        "MASTER_PORT": str(RENDEZVOUS_PORT),
    }
    if accelerators <= 1:
        values |= {"RANK": str(rank), "WORLD_SIZE": str(size)}
    return [{"name": name, "value": value} for name, value in values.items()]


def service_of(work: Work, *, metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the gang's Service."""
    return {
        "metadata": metadata,
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": _members(work),
            "ports": [{"name": "rendezvous", "port": RENDEZVOUS_PORT, "protocol": "TCP"}],
        },
    }


def policy_of(work: Work, *, metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the NetworkPolicy that lets the gang's pods, and no others, talk to each other."""
    peers = [{"podSelector": {"matchLabels": _members(work)}}]
    return {
        "metadata": metadata,
        "spec": {
            "podSelector": {"matchLabels": _members(work)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": peers}],
            "egress": [{"to": peers}],
        },
    }


def _members(work: Work) -> dict[str, str]:
    return {naming.LABEL_PLACEMENT_UID: work.uid}


class GangWrites:
    """Makes the meeting places of gangs, and takes them away."""

    def __init__(self, api: ApiServer, writers: Writers, *, namespace: str, wake: Callable[[], None]) -> None:
        self._api = api
        self._writers = writers
        self._namespace = namespace
        self._wake = wake

    def open(self, work: Work, book: Book, *, owner: dict[str, Any]) -> bool:
        """Say whether the gang can meet; if not yet, have its Service and policy made.

        `owner` is the GuestSet's reference. Where the member refuses them the gang is given back.
        """
        if book.can_meet:
            return True
        key = ("gang", work.uid)
        if self._writers.pending(key):
            return False

        async def make() -> None:
            metadata = self._metadata(work, owner)
            for kind, obj in (
                (NETWORK_POLICY, policy_of(work, metadata=metadata)),
                (SERVICE, service_of(work, metadata=metadata)),
            ):
                await self._make(kind, obj, work)

        def done(error: Exception | None) -> None:
            book.can_meet = error is None
            if error is not None and not isinstance(error, NotLeading):
                log.warning("gang has no place to meet", placement=work.name, error=str(error))
                book.uncreatable.update(dict.fromkeys(work.ranks, f"no Service for the gang: {error}"))
            self._wake()

        self._writers.submit(key, make, priority=1, on_done=done)
        return False

    def close(self, work: Work, book: Book) -> None:
        """Delete them, once the gang is over. What a crash leaves behind goes with the GuestSet."""
        key = ("gang", work.uid)
        if book.has_met or self._writers.pending(key):
            return

        async def drop() -> None:
            for kind in (SERVICE, NETWORK_POLICY):
                try:
                    await self._api.delete(kind, naming.gang_name(work.uid), namespace=self._namespace)
                except NotFound:
                    continue

        def done(error: Exception | None) -> None:
            book.has_met = error is None
            if isinstance(error, FallowError):
                log.warning("a gang's Service was not deleted", placement=work.name, error=str(error))

        self._writers.submit(key, drop, priority=9, on_done=done)

    def _metadata(self, work: Work, owner: dict[str, Any]) -> dict[str, Any]:
        return {
            "name": naming.gang_name(work.uid),
            "namespace": self._namespace,
            "labels": {**_members(work), naming.LABEL_JOB_UID: work.spec.job.uid},
            "ownerReferences": [owner],
        }

    async def _make(self, kind: Resource, obj: dict[str, Any], work: Work) -> None:
        try:
            await self._api.create(kind, obj)
        except AlreadyExists:
            name = naming.gang_name(work.uid)
            there = await self._api.get(kind, name, namespace=self._namespace)
            if (there["metadata"].get("labels") or {}).get(naming.LABEL_PLACEMENT_UID) != work.uid:
                raise Invalid(f"{kind} {name} belongs to something else") from None
