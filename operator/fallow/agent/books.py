"""What the agent keeps in memory of each placement between cycles. All of it can be lost at any moment.

It only bridges the time between a decision and its confirmation: what is on its way into the record, which
pods are being created, and what was parsed and checked already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fallow.agent.admission import Refusal
from fallow.agent.outcomes import Ending
from fallow.agent.reporting import read_record, seeded
from fallow.agent.site import Record
from fallow.agent.work import Work, read_guest_set, read_placement
from fallow.kube.client import JSON
from fallow.resources.placement import HandedBack, Progress
from fallow.resources.ranges import EMPTY, IndexRanges

_PROGRESS_FIELDS = ("ended", "elapsed", "handedBack", "lastWords", "results", "reveals", "receipt")


@dataclass(slots=True, kw_only=True)
class Book:
    """One placement's page."""

    uid: str
    endings: dict[int, Ending] = field(default_factory=dict)
    """Decided and not confirmed in the GuestSet yet."""
    returned: list[HandedBack] = field(default_factory=list)
    """Handed back, and not confirmed yet."""
    marks: dict[int, int] = field(default_factory=dict)
    """Elapsed seconds by index, not confirmed yet."""
    next_mark_at: datetime | None = None
    """When more of it will have elapsed."""
    creating: dict[int, str] = field(default_factory=dict)
    """Tasks whose pod is being created, with the node."""
    uncreatable: dict[int, str] = field(default_factory=dict)
    """Tasks whose pod the member's API server refused, with what it said."""
    can_meet: bool = False
    """Whether a gang's Service and policy are known to be there."""
    has_met: bool = False
    """Whether they are known to be gone again."""
    stopping: bool = False
    """Whether nothing of it may start any more."""
    released: IndexRanges = EMPTY
    leaving: set[str] = field(default_factory=set)
    """UIDs of pods that were let go and have not left the view yet."""
    terms_checked: bool = False
    terms_refusal: Refusal | None = None
    refusal: Refusal | None = None
    """What the last decision was made under."""
    recorded_at: float = float("-inf")
    """When (by the loop's clock) what ended was last handed to a write."""
    seen_on_hub: bool = False
    """Whether this process has seen its Placement."""
    looked_for: tuple[object, ...] = ()
    """What the last decision rested on; empty where there is something to decide in any case."""
    looked_at: float = float("-inf")
    """When (by the loop's clock) it was made."""
    running: int = 0
    waiting: int = 0
    reported_at: float = float("-inf")
    """When (by the loop's clock) the last report was sent."""
    same_as_told: tuple[object, ...] = ()
    """What the last report was compared for and found to say already."""
    _work: Work | None = None
    _progress: tuple[str, Progress] | None = None
    _record: tuple[str, Record] | None = None

    def work_of_placement(self, raw: Mapping[str, Any]) -> Work:
        """Return the Placement's work, parsed again only when its spec changed."""
        if self._work is None or self._work.generation != raw["metadata"]["generation"]:
            self._work = read_placement(raw)
        return self._work

    def work_of_guest_set(self, raw: Mapping[str, Any]) -> Work:
        """Return the work as the GuestSet has it, for when the Placement is not to be seen."""
        if self._work is None or self._work.generation < raw["spec"]["generation"]:
            self._work = read_guest_set(raw)
        return self._work

    def progress(self, guest_set: Mapping[str, Any] | None) -> Progress:
        """Return what the GuestSet's status is confirmed to say."""
        if guest_set is None:
            return Progress()
        version = guest_set["metadata"]["resourceVersion"]
        if self._progress is None or self._progress[0] != version:
            self._progress = (version, read_progress(guest_set))
        return self._progress[1]

    def record(self, guest_set: Mapping[str, Any] | None, placement: Mapping[str, Any] | None) -> Record:
        """Return what is settled, and what is on its way to be.

        What the hub was told counts too: somebody may have deleted the GuestSet, and what it said of a task
        must not be forgotten with it.
        """
        told = (placement or {}).get("status") or {}
        version = guest_set["metadata"]["resourceVersion"] if guest_set is not None else ""
        key = f"{version} {len(told.get('ended') or ())} {told.get('handedBack')} {told.get('elapsed')}"
        if self._record is None or self._record[0] != key:
            progress = self.progress(guest_set)
            self._record = (key, read_record(seeded(progress, read_progress({"status": told}))))
        confirmed = self._record[1]
        self._forget_confirmed(confirmed)
        return Record(
            ended=confirmed.ended,
            elapsed=confirmed.elapsed,
            handed_back=confirmed.handed_back,
            being_recorded=self.being_recorded,
        )

    @property
    def being_recorded(self) -> IndexRanges:
        """Tasks that are decided and not confirmed."""
        tasks = IndexRanges.of(self.endings) if self.endings else EMPTY
        for entry in self.returned:
            tasks = tasks | IndexRanges.parse(entry.tasks)
        return tasks

    def left(self, tasks: IndexRanges) -> IndexRanges:
        """Return which of `tasks` are neither settled nor about to be."""
        settled = self._record[1].settled if self._record is not None else EMPTY
        return tasks - settled - self.being_recorded

    def _forget_confirmed(self, record: Record) -> None:
        if self.marks:
            self.marks = {i: s for i, s in self.marks.items() if s > record.elapsed.get(i, 0)}
        if not self.endings and not self.returned:
            return
        settled = record.settled
        self.endings = {i: e for i, e in self.endings.items() if i not in settled}
        self.returned = [e for e in self.returned if IndexRanges.parse(e.tasks) - settled]


class Books:
    """All pages, by Placement UID."""

    def __init__(self) -> None:
        self._pages: dict[str, Book] = {}

    def __getitem__(self, uid: str) -> Book:
        return self._pages.setdefault(uid, Book(uid=uid))

    def __iter__(self) -> Iterator[Book]:
        return iter(self._pages.values())

    def keep_only(self, uids: set[str]) -> None:
        """Drop the pages of placements that are neither on the hub nor in the outbox."""
        self._pages = {uid: page for uid, page in self._pages.items() if uid in uids}


def read_progress(obj: JSON | Mapping[str, Any]) -> Progress:
    """Return the record in an object's status."""
    status = obj.get("status") or {}
    return Progress.model_validate({key: status[key] for key in _PROGRESS_FIELDS if key in status})
