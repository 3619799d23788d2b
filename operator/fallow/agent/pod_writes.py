"""Writes to guest pods: create, delete, let go. Each is safe to repeat and to lose.

A create under a name that exists is done when the pod's full placement UID is ours; a delete names the UID,
so it never hits a successor; taking off the finalizer names the version it was read at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from fallow.agent.books import Book
from fallow.agent.guests import Guest
from fallow.agent.pods import House, Owner, guest_pod
from fallow.agent.running import Start, Stop
from fallow.agent.views import MemberViews
from fallow.agent.work import Work
from fallow.errors import AlreadyExists, FallowError, Invalid, NotFound, NotLeading
from fallow.kube.client import ApiServer
from fallow.kube.kinds import POD
from fallow.kube.writers import Writers
from fallow.resources import naming

log = structlog.get_logger(__name__)

SWEEP_SECONDS = 1.0
"""How long finished pods that were let go stay, so that one request deletes many; their room is free."""


class PodWrites:
    """Carries out decisions about guest pods on the member."""

    def __init__(
        self, api: ApiServer, writers: Writers, views: MemberViews, *, wake: Callable[[], None]
    ) -> None:
        self._api = api
        self._writers = writers
        self._views = views
        self._wake = wake
        self._sweeping: asyncio.Task[None] | None = None

    def start(self, start: Start, *, work: Work, book: Book, owner: Owner, house: House) -> None:
        """Create the pod of one task, unless it has become unwanted by the time its turn comes."""
        if start.index in book.creating:
            return
        book.creating[start.index] = start.node
        pod = guest_pod(work, index=start.index, node=start.node, owner=owner, house=house)

        async def create() -> None:
            if book.stopping or start.index in book.released:
                return
            try:
                made = await self._api.create(POD, pod)
            except AlreadyExists:
                made = await self._api.get(POD, pod["metadata"]["name"], namespace=house.namespace)
                if made["metadata"].get("labels", {}).get(naming.LABEL_PLACEMENT_UID) != work.uid:
                    raise Invalid(
                        f"a pod named {pod['metadata']['name']} belongs to something else"
                    ) from None
            self._views.pods.apply(made)

        def done(error: Exception | None) -> None:
            book.creating.pop(start.index, None)
            if error is not None and not isinstance(error, NotLeading):
                book.uncreatable[start.index] = str(error)
                log.warning("pod not created", placement=work.name, index=start.index, error=str(error))
            self._wake()

        self._writers.submit(("create", pod["metadata"]["name"]), create, priority=2, on_done=done)

    def stop(self, stop: Stop, *, namespace: str, longest_grace_seconds: int | None = None) -> None:
        """Delete a pod, giving it its own grace period or the owner's shorter one."""
        guest, key = stop.guest, ("stop", stop.guest.uid)
        if self._writers.pending(key):
            return
        grace = None
        if longest_grace_seconds is not None and longest_grace_seconds < guest.grace_seconds:
            grace = longest_grace_seconds

        async def delete() -> None:
            answer = await self._api.delete(
                POD,
                guest.name,
                namespace=namespace,
                uid=guest.uid,
                # A guest without a node may get one at this very moment: then its task did start.
                resource_version=guest.resource_version if guest.node is None else None,
                grace_seconds=grace,
            )
            if answer.get("kind") == "Pod":
                self._views.pods.apply(answer)

        log.info("stopping guest", pod=guest.name, node=guest.node, why=stop.why)
        self._writers.submit(
            key,
            delete,
            priority=1,
            on_done=lambda error: self._told(error, placement_uid=guest.placement_uid),
        )

    def let_go(self, guest: Guest, *, book: Book, namespace: str) -> None:
        """Take our finalizer off a pod whose task is recorded, and delete the pod."""
        key = ("let-go", guest.uid)
        if guest.uid in book.leaving or self._writers.pending(key):
            return

        async def release() -> None:
            now = self._views.guest(guest.name)
            if now is None or now.uid != guest.uid:
                return
            if now.held:
                patch = {
                    "metadata": {
                        "resourceVersion": now.resource_version,
                        "finalizers": list(now.other_finalizers) or None,
                        "labels": {naming.LABEL_LET_GO: "true"},
                    }
                }
                self._views.pods.apply(await self._api.patch(POD, now.name, patch, namespace=namespace))
                if now.finished:
                    self._sweep(namespace)
                    return
            if not now.deleting:
                await self._api.delete(POD, now.name, namespace=namespace, uid=now.uid)

        def done(error: Exception | None) -> None:
            if error is None or isinstance(error, NotFound):
                book.leaving.add(guest.uid)
            self._told(error, placement_uid=guest.placement_uid)

        self._writers.submit(key, release, priority=3, on_done=done)

    def _sweep(self, namespace: str) -> None:
        """Have all that were let go deleted soon, with one request however many they are."""
        if self._sweeping is not None and not self._sweeping.done():
            return

        async def sweep() -> None:
            await asyncio.sleep(SWEEP_SECONDS)
            self._sweeping = None
            self._writers.submit(
                ("sweep", namespace),
                delete,
                priority=4,
                on_done=lambda error: self._swept(error, namespace=namespace),
            )

        async def delete() -> None:
            await self._api.delete_all(POD, namespace=namespace, label_selector=f"{naming.LABEL_LET_GO}=true")

        self._sweeping = asyncio.create_task(sweep(), name="sweep")

    def _swept(self, error: Exception | None, *, namespace: str) -> None:
        """Where pods may only be deleted one by one, do that."""
        if error is None or isinstance(error, NotLeading):
            return
        log.warning("pods that were let go were not deleted together", error=str(error))
        for guest in self._views.guests():
            if guest.finished and not guest.held and not guest.deleting:
                self._drop(guest, namespace=namespace)

    def _drop(self, guest: Guest, *, namespace: str) -> None:
        async def drop() -> None:
            await self._api.delete(POD, guest.name, namespace=namespace, uid=guest.uid)

        self._writers.submit(
            ("let-go", guest.uid),
            drop,
            priority=4,
            on_done=lambda error: self._told(error, placement_uid=guest.placement_uid),
        )

    def _told(self, error: Exception | None, *, placement_uid: str) -> None:
        if error is not None:
            self._views.moves[placement_uid] += 1  # to be looked at again
        if error is not None and not isinstance(error, NotFound | FallowError):
            log.warning("write to a pod failed", error=str(error))
        self._wake()
