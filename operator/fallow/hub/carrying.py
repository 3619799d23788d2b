"""Carries decisions out: each is one compare-and-set write, and its answer enters the view at once.

An answer that never came is no answer: writers repeat what is retryable, creates have deterministic names,
and a name that exists counts as done only when the whole UID label matches. After any other refusal the
object is read again, so that the next cycle decides on what really is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from typing import Any

import structlog

from fallow.errors import AlreadyExists, ApiError, Conflict, Forbidden, NotFound, NotLeading
from fallow.hub.openings import fingerprint
from fallow.hub.placements import JSON, Placed
from fallow.hub.view import HubView
from fallow.kube import kinds
from fallow.kube.client import ApiServer
from fallow.kube.compare_and_set import write, write_status
from fallow.kube.resource import Resource
from fallow.kube.view import View
from fallow.kube.writers import Writers
from fallow.resources.naming import LABEL_JOB_UID, LABEL_PLACEMENT_UID
from fallow.resources.ranges import IndexRanges, parse_optional

log = structlog.get_logger(__name__)

URGENT, NORMAL, LATE = 0, 1, 2
CROWDED_WRITES = 1000
"""Statuses are made up only while fewer writes wait: ten thousand of them would be memory for nothing."""
REFUSED_SECONDS = 10.0
"""How long an object is left alone after a write that can never succeed as it is."""


class Carrier:
    """Submits writes. `busy(key)`: a write for an object is under way, or must not be repeated yet."""

    def __init__(
        self,
        api: ApiServer,
        view: HubView,
        writers: Writers,
        *,
        monotonic: Callable[[], float],
    ) -> None:
        self._api = api
        self._view = view
        self._writers = writers
        self._monotonic = monotonic
        self._cooling: dict[Hashable, float] = {}

    def busy(self, key: Hashable) -> bool:
        """Return whether nothing should be decided about the object `key` now."""
        if self._writers.pending(key):
            return True
        until = self._cooling.get(key)
        if until is None:
            return False
        if self._monotonic() < until:
            return True
        del self._cooling[key]
        return False

    @property
    def load(self) -> int:
        """How many writes are under way or waiting."""
        return len(self._writers)

    @property
    def crowded(self) -> bool:
        """Whether so many writes wait that statuses should be made up later, from newer knowledge."""
        return len(self._writers) >= CROWDED_WRITES

    def writing(self, key: Hashable) -> bool:
        """Return whether a write for the object `key` is under way."""
        return self._writers.pending(key)

    def job_status(self, job: JSON, status: JSON, *, urgent: bool) -> None:
        """Write a ComputeJob's whole status."""

        async def send() -> None:
            self._view.jobs.apply(await write_status(self._api, kinds.COMPUTE_JOB, job, status))

        self._submit(job_key(job["metadata"]["uid"]), send, self._view.jobs, job, URGENT if urgent else LATE)

    def provider_status(self, provider: JSON, status: JSON) -> None:
        """Write a Provider's whole status."""

        async def send() -> None:
            self._view.providers.apply(await write_status(self._api, kinds.PROVIDER, provider, status))

        self._submit(provider_key(provider["metadata"]["name"]), send, self._view.providers, provider, LATE)

    def create_placement(self, obj: JSON) -> None:
        """Create a Placement; the view takes it for real (`HubView.assume`) until the answer comes."""
        meta = obj["metadata"]
        job_uid = meta["labels"][LABEL_JOB_UID]

        async def send() -> None:
            answer = await self._created(kinds.PLACEMENT, obj, LABEL_JOB_UID)
            self._view.placements.apply(answer)

        def done(error: Exception | None) -> None:
            if error is not None:
                # NB: refused for good, so it does not exist; what timed out is repeated, never dropped.
                self._view.unassume(job_uid, meta["name"])
                self._refused(job_key(job_uid), error)
            self._touch(job_uid)

        self._writers.submit(("placement", meta["name"]), send, priority=URGENT, on_done=done)

    def create_claim(self, claim: JSON, *, job_uid: str) -> None:
        """Create a PaymentClaim."""
        key = claim_key(claim["spec"]["placement"]["uid"])

        async def send() -> None:
            self._view.claims.apply(await self._created(kinds.PAYMENT_CLAIM, claim, LABEL_PLACEMENT_UID))

        def done(error: Exception | None) -> None:
            if error is not None:
                self._refused(key, error)
            self._touch(job_uid)

        self._writers.submit(key, send, priority=NORMAL, on_done=done)

    def create_sample(self, sample: JSON, *, for_job: str, done_for: Callable[[], None]) -> None:
        """Create a ComputeJob that checks a task of another one; in the end `done_for` is told."""
        name = sample["metadata"]["name"]

        async def send() -> None:
            with suppress(AlreadyExists):
                self._view.jobs.apply(await self._api.create(kinds.COMPUTE_JOB, sample))

        def done(error: Exception | None) -> None:
            if not isinstance(error, NotLeading):
                done_for()
            if error is not None:
                log.error("a sample cannot be created", sample=name, error=str(error))
            self._touch(for_job)

        if not self.busy(("sample", name)):
            self._writers.submit(("sample", name), send, priority=LATE, on_done=done)

    def create_results(self, results: JSON, *, job_uid: str, done_for: Callable[[], None]) -> None:
        """Create a ConfigMap of results; `done_for` is told once it is there."""
        key = results_key(results["metadata"]["labels"][LABEL_PLACEMENT_UID])

        async def send() -> None:
            await self._created(kinds.CONFIG_MAP, results, LABEL_PLACEMENT_UID)

        def done(error: Exception | None) -> None:
            if error is None:
                done_for()
            elif isinstance(error, NotFound | AlreadyExists):
                # NB: its namespace is going away, or a stranger's ConfigMap has the name: the job goes on.
                log.warning("results cannot be written", job=job_uid, error=str(error))
                done_for()
            else:
                self._refused(key, error)
            self._touch(job_uid)

        self._writers.submit(key, send, priority=NORMAL, on_done=done)

    def stop(self, placed: Placed, *, reason: str) -> None:
        """Have a placement's agent end every guest and start none."""
        obj = self._object(placed)
        if obj is not None:
            self._change(placed, obj, {**obj["spec"], "desired": "Stop", "stopReason": reason})

    def release(self, placed: Placed, tasks: IndexRanges, *, still: Callable[[], bool]) -> None:
        """Take tasks away from a placement; `still` is asked again right before each attempt to write."""
        obj = self._object(placed)
        if obj is not None:
            released = parse_optional(obj["spec"].get("released")) | tasks
            self._change(placed, obj, {**obj["spec"], "released": str(released)}, still=still)

    def preempt(self, placed: Placed, tasks: IndexRanges) -> None:
        """Have tasks give way to a job of higher priority."""
        obj = self._object(placed)
        if obj is not None:
            going = parse_optional(obj["spec"].get("preempted")) | tasks
            self._change(placed, obj, {**obj["spec"], "preempted": str(going)})

    def reveal(self, placed: Placed, tasks: IndexRanges) -> None:
        """Ask for the sealed results of tasks, and pin what was committed to."""
        obj = self._object(placed)
        if obj is not None:
            asked = parse_optional(obj["spec"].get("reveal")) | tasks
            pinned = fingerprint(placed.ended, asked)
            self._change(placed, obj, {**obj["spec"], "reveal": str(asked), "commitments": pinned})

    def delete_placement(self, placed: Placed) -> None:
        """Delete a placement that is claimed and absorbed."""
        obj = self._object(placed)
        if obj is None:
            return

        async def send() -> None:
            with suppress(NotFound):
                await self._api.delete(
                    kinds.PLACEMENT, placed.name, namespace=placed.namespace, uid=placed.uid
                )
            self._view.placements.forget(self._object(placed) or obj)

        self._submit(placement_key(placed), send, self._view.placements, obj, LATE)

    def delete_job(self, job: JSON) -> None:
        """Delete a job whose time is over."""
        meta = job["metadata"]

        async def send() -> None:
            with suppress(NotFound):
                await self._api.delete(
                    kinds.COMPUTE_JOB, meta["name"], namespace=meta["namespace"], uid=meta["uid"]
                )

        self._submit(job_key(meta["uid"]), send, self._view.jobs, job, LATE)

    def delete_claim(self, claim: JSON) -> None:
        """Delete a claim that settled long ago."""
        meta = claim["metadata"]

        async def send() -> None:
            with suppress(NotFound):
                await self._api.delete(
                    kinds.PAYMENT_CLAIM, meta["name"], namespace=meta["namespace"], uid=meta["uid"]
                )
            self._view.claims.forget(claim)

        self._submit(claim_key(claim["spec"]["placement"]["uid"]), send, self._view.claims, claim, LATE)

    def look_for_job(self, placed: Placed, told: Callable[[bool], None]) -> None:
        """Ask the API server whether a placement's job is really gone; `told` hears the answer."""

        async def send() -> None:
            try:
                job = await self._api.get(kinds.COMPUTE_JOB, placed.job_name, namespace=placed.job_namespace)
            except NotFound:
                told(True)
                return
            self._view.jobs.apply(job)
            told(job["metadata"]["uid"] != placed.job_uid)

        def done(error: Exception | None) -> None:
            if error is not None:
                self._refused(job_key(placed.job_uid), error)
            self._touch(placed.job_uid)

        self._writers.submit(job_key(placed.job_uid), send, priority=NORMAL, on_done=done)

    # ---- how -------------------------------------------------------------------------------------------

    def _change(
        self, placed: Placed, obj: JSON, spec: JSON, *, still: Callable[[], bool] = lambda: True
    ) -> None:
        async def send() -> None:
            if still():
                self._view.placements.apply(
                    await write(self._api, kinds.PLACEMENT, obj, {"metadata": {}, "spec": spec})
                )

        self._submit(placement_key(placed), send, self._view.placements, obj, URGENT)

    async def _created(self, resource: Resource, obj: JSON, uid_label: str) -> JSON:
        """Create, or return what is there under this name if it is ours."""
        try:
            return await self._api.create(resource, obj)
        except AlreadyExists:
            meta = obj["metadata"]
            there = await self._api.get(resource, meta["name"], namespace=meta["namespace"])
            if (there["metadata"].get("labels") or {}).get(uid_label) != meta["labels"][uid_label]:
                raise
            return there

    def _submit(
        self, key: Hashable, send: Callable[[], Awaitable[Any]], view: View, obj: JSON, priority: int
    ) -> None:
        """Submit a write that follows from reading `obj`; where it is refused, read `obj` again."""
        again = False

        async def attempt() -> None:
            nonlocal again
            if again:
                await self._refresh(view, obj)
                return
            try:
                await send()
            except (Conflict, NotFound):
                # Another wrote meanwhile, or it is gone. NB: looked at here, not when the watch gets round to
                # it: else the next cycle would decide the same on the same old version.
                again = True
                await self._refresh(view, obj)

        def done(error: Exception | None) -> None:
            if error is not None:
                self._refused(key, error)
            self._touch_owner(obj)

        self._writers.submit(key, attempt, priority=priority, on_done=done)

    async def _refresh(self, view: View, obj: JSON) -> None:
        meta = obj["metadata"]
        try:
            view.apply(await self._api.get(view.resource, meta["name"], namespace=meta.get("namespace")))
        except NotFound:
            view.forget(view.get(meta["name"], namespace=meta.get("namespace", "")) or obj)

    def _refused(self, key: Hashable, error: Exception) -> None:
        if isinstance(error, NotLeading):
            return
        self._cooling[key] = self._monotonic() + REFUSED_SECONDS
        level = log.error if isinstance(error, Forbidden) or not isinstance(error, ApiError) else log.warning
        level("write refused", key=str(key), error=str(error))

    def _object(self, placed: Placed) -> JSON | None:
        return self._view.placements.get(placed.name, namespace=placed.namespace)

    def _touch(self, job_uid: str) -> None:
        self._view.touched_jobs.add(job_uid)
        self._view.dirty.set()

    def _touch_owner(self, obj: JSON) -> None:
        if obj["kind"] == kinds.PROVIDER.kind:
            self._view.touched_providers.add(obj["metadata"]["name"])
            self._view.dirty.set()
        elif obj["kind"] == kinds.COMPUTE_JOB.kind:
            self._touch(obj["metadata"]["uid"])
        else:
            self._touch(obj["spec"]["job"]["uid"])


def job_key(uid: str) -> Hashable:
    """Return the writers' key of a job's status."""
    return ("job", uid)


def placement_key(placed: Placed) -> Hashable:
    """Return the writers' key of a placement."""
    return ("placement", placed.name)


def claim_key(placement_uid: str) -> Hashable:
    """Return the writers' key of a placement's claim."""
    return ("claim", placement_uid)


def results_key(placement_uid: str) -> Hashable:
    """Return the writers' key of a placement's results."""
    return ("results", placement_uid)


def provider_key(name: str) -> Hashable:
    """Return the writers' key of a provider's status."""
    return ("provider", name)
