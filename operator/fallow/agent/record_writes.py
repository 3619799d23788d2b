"""Writes of the record and of the report: first the GuestSet on the member, then the Placement on the hub.

Both are made from what is known when their turn comes, not when they were decided: everything pending for an
object goes out in one write. The report only ever says what the GuestSet is confirmed to hold.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
import structlog
from eth_account.signers.local import LocalAccount

from fallow.agent.books import Book, read_progress
from fallow.agent.last_lines import LastLines
from fallow.agent.reporting import recorded, report, seeded
from fallow.agent.views import HubViews, MemberViews
from fallow.agent.work import Work
from fallow.errors import AlreadyExists, Conflict, FallowError, Invalid, NotFound
from fallow.kube.client import JSON, ApiServer
from fallow.kube.compare_and_set import merge_patch, write, write_status
from fallow.kube.kinds import GUEST_SET, PLACEMENT
from fallow.kube.writers import Done, Writers
from fallow.resources import naming
from fallow.resources.guestset import GuestSetSpec, GuestSetStatus
from fallow.resources.placement import Progress

log = structlog.get_logger(__name__)

NEWS, COUNTS = 0, 5
"""Priorities on the hub: what has ended goes before how many run."""


class RecordWrites:
    """Keeps GuestSets and Placement statuses in step with what was decided."""

    def __init__(
        self,
        *,
        member: ApiServer,
        member_writers: Writers,
        member_views: MemberViews,
        hub: ApiServer,
        hub_writers: Writers,
        hub_views: HubViews,
        namespace: str,
        key: LocalAccount,
        now: Callable[[], datetime],
        last_lines: LastLines,
        wake: Callable[[], None],
    ) -> None:
        self._last_lines = last_lines
        self._member = member
        self._member_writers = member_writers
        self._member_views = member_views
        self._hub = hub
        self._hub_writers = hub_writers
        self._hub_views = hub_views
        self._namespace = namespace
        self._key = key
        self._now = now
        self._wake = wake

    def guest_set(self, uid: str) -> JSON | None:
        """Return the GuestSet of a placement; None when there is none, or its name is another's."""
        found = self._member_views.guest_sets.get(naming.guest_set_name(uid), namespace=self._namespace)
        if found is None or found["spec"]["placementUid"] != uid:
            return None
        return found

    def pending(self, uid: str) -> bool:
        """Say whether a write of a placement's record waits or is under way."""
        return self._member_writers.pending(("guest-set", uid))

    def keep(self, work: Work, book: Book, *, gone_at: str | None) -> None:
        """Create the GuestSet, renew its copy of the Placement, record what is decided: what is due of it."""

        async def keep() -> None:
            found = self.guest_set(work.uid) or await self._create(work)
            old = found["spec"]
            if old.get("generation", 0) < work.generation or old.get("goneAt") != gone_at:
                spec = guest_set_spec(work, gone_at=gone_at)
                found = await write(self._member, GUEST_SET, found, {"spec": spec})
                self._member_views.guest_sets.apply(found)
            await self._record(found, work, book)

        self._member_writers.submit(
            ("guest-set", work.uid), keep, priority=0, on_done=self._told_of(work.uid)
        )

    def drop(self, guest_set: JSON) -> None:
        """Delete a GuestSet that nobody will ask for any more."""
        uid = guest_set["metadata"]["uid"]

        async def drop() -> None:
            await self._member.delete(
                GUEST_SET, guest_set["metadata"]["name"], namespace=self._namespace, uid=uid
            )

        key = ("guest-set", guest_set["spec"]["placementUid"])
        if not self._member_writers.pending(key):
            self._member_writers.submit(key, drop, priority=9, on_done=self._told)

    def report(self, work: Work, book: Book, *, news: bool) -> None:
        """Write the Placement's status, as things stand when the write's turn comes."""

        async def tell() -> None:
            placement = self._hub_views.placements.get(work.name, namespace=work.namespace)
            if placement is None or placement["metadata"]["uid"] != work.uid:
                return
            status = self.status(placement, book)
            answer = await write_status(self._hub, PLACEMENT, placement, status)
            self._hub_views.placements.apply(answer)

        priority = NEWS if news else COUNTS
        self._hub_writers.submit(
            ("report", work.uid), tell, priority=priority, on_done=self._told_of(work.uid)
        )

    def status(self, placement: JSON, book: Book) -> dict[str, Any]:
        """Return the status that a Placement should have now."""
        work = book.work_of_placement(placement)
        before = placement.get("status") or {}
        guest_set = self.guest_set(work.uid)
        progress = book.progress(guest_set)
        if guest_set is None and book.returned:  # refused as a whole: nothing to keep a record of
            progress = recorded(
                read_progress(placement), endings=(), returned=book.returned, work=work, key=self._key
            )
        elif guest_set is None:
            progress = read_progress(placement)
        return report(
            work,
            progress,
            running=book.running,
            waiting=book.waiting,
            refusal=book.refusal,
            before=before,
            now=self._now(),
        )

    def differs(self, placement: JSON, book: Book, guest_set: JSON | None) -> tuple[bool, bool]:
        """Say whether there is anything to report, and whether it is more than counts."""
        basis = (
            placement["metadata"]["resourceVersion"],
            guest_set["metadata"]["resourceVersion"] if guest_set is not None else "",
            book.running,
            book.waiting,
            book.refusal,
            len(book.returned),
        )
        if basis == book.same_as_told:
            return False, False
        patch = merge_patch(placement.get("status") or {}, self.status(placement, book))
        if not patch:
            book.same_as_told = basis
        return bool(patch), bool(patch.keys() - {"running", "waiting"})

    async def _create(self, work: Work) -> JSON:
        name = naming.guest_set_name(work.uid)
        labels = {naming.LABEL_PLACEMENT_UID: work.uid, naming.LABEL_JOB_UID: work.spec.job.uid}
        metadata = {"name": name, "namespace": self._namespace, "labels": labels}
        try:
            spec = guest_set_spec(work, gone_at=None)
            made = await self._member.create(GUEST_SET, {"metadata": metadata, "spec": spec})
        except AlreadyExists:
            made = await self._member.get(GUEST_SET, name, namespace=self._namespace)
            if made["spec"]["placementUid"] != work.uid:
                raise Invalid(f"GuestSet {name} belongs to another placement") from None
        self._member_views.guest_sets.apply(made)
        return made

    async def _record(self, guest_set: JSON, work: Work, book: Book) -> None:
        book.endings.update(await self._last_lines.added(book.endings, placement_uid=work.uid))
        before = read_progress(guest_set)
        progress = seeded(before, self._told_to_hub(work))
        progress = recorded(
            progress,
            endings=book.endings.values(),
            returned=book.returned,
            marks=book.marks,
            work=work,
            key=self._key,
            now=self._now(),
        )
        if progress == before:
            return
        started = len(progress.ended) + book.running
        status = GuestSetStatus(**dict(progress), started=started).wire()
        answer = await write_status(self._member, GUEST_SET, guest_set, status)
        self._member_views.guest_sets.apply(answer)

    def _told_to_hub(self, work: Work) -> Progress:
        placement = self._hub_views.placements.get(work.name, namespace=work.namespace)
        if placement is None or placement["metadata"]["uid"] != work.uid:
            return Progress()
        return read_progress(placement)

    def _told_of(self, uid: str) -> Done:
        """Have a placement looked at again after a write that failed."""

        def told(error: Exception | None) -> None:
            if error is not None:
                self._member_views.moves[uid] += 1
            self._told(error)

        return told

    def _told(self, error: Exception | None) -> None:
        if isinstance(error, FallowError) and not isinstance(error, Conflict | NotFound):
            log.warning("a record or report was not written", error=str(error))
        self._wake()


def guest_set_spec(work: Work, *, gone_at: str | None) -> dict[str, Any]:
    """Return a GuestSet's spec as JSON, the template as the submitter wrote it."""
    placement = {**work.spec.wire(), "template": work.spec.template.wire()}
    return GuestSetSpec(
        placement_name=work.name,
        placement_namespace=work.namespace,
        placement_uid=work.uid,
        job_name=work.spec.job.name,
        gang=work.spec.gang,
        desired=work.spec.desired,
        generation=work.generation,
        text=msgspec.json.encode(placement).decode(),
        gone_at=gone_at,
    ).wire()
