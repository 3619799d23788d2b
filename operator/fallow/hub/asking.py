"""Waiting jobs as the scheduler sees them, kept between cycles: only those that something happened to are
looked at anew, so that one change among ten thousand waiting jobs costs one look.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from fallow.hub import snapshots
from fallow.hub.carrying import job_key
from fallow.hub.desk import Desk
from fallow.hub.placements import JSON
from fallow.hub.slices import Slices
from fallow.scheduler.snapshot import Job, Shape

_MANY_SHAPES = 1000
Key = TypeVar("Key", bound=Hashable)


class Asked:
    """Keeps waiting jobs. `ready` says of one whether and how it may be scheduled now."""

    def __init__(self, desk: Desk, ready: Callable[[str], snapshots.Waiting | None]) -> None:
        self._desk = desk
        self._ready = ready
        self.waiting: dict[str, snapshots.Waiting] = {}
        """By UID: who may be scheduled now."""
        self.jobs: dict[str, Job] = {}
        """The same as the scheduler sees them."""
        self._stale: set[str] = set()
        self._restless: set[str] = set()
        """Jobs of which time alone may change something: a back-off that ends."""
        self._accounts: Counter[tuple[str, str]] = Counter()
        self._labels: Counter[str] = Counter()
        self._shapes: dict[Shape, Shape] = {}

    def touch(self, uids: Iterable[str]) -> None:
        """Look at these jobs again: they were added up anew."""
        self._stale.update(uids)

    def refresh(self) -> Slices[None]:
        """Bring all up to date."""
        stale, self._stale = self._stale | self._restless, set()
        self._restless = set()
        for uid in sorted(stale):
            yield None
            self._drop(uid)
            if uid not in self._desk.memory.waiting:
                continue
            one = self._ready(uid)
            job = None if one is None else snapshots.job_of(self._desk.view, one, self._desk.settings.sharing)
            if one is not None and job is not None:
                self._keep(one, job)
            # NB: whoever waits for the answer to a write is touched by it.
            if one is None:
                restless = not self._is_written(uid)
            else:  # copies of a replicated job take turns
                restless = bool(one.record.avoid) or one.want is not None
            if restless:
                self._restless.add(uid)

    @property
    def accounts(self) -> Mapping[str, JSON]:
        """Return the Accounts of the jobs, as they are now, by "namespace/name"."""
        found = {}
        for namespace, name in self._accounts:
            account = self._desk.view.accounts.get(name, namespace=namespace)
            if account is not None:
                found[f"{namespace}/{name}"] = account
        return found

    @property
    def label_keys(self) -> frozenset[str]:
        """Return the node labels that any of the jobs asks for."""
        return frozenset(self._labels)

    def _keep(self, one: snapshots.Waiting, job: Job) -> None:
        # Many jobs ask for the very same: then the scheduler need not compare what it can recognise.
        if len(self._shapes) > _MANY_SHAPES + 2 * len(self.jobs):
            self._shapes.clear()
        job = replace(job, shape=self._shapes.setdefault(job.shape, job.shape))
        self.waiting[one.uid], self.jobs[one.uid] = one, job
        self._accounts[_place_of(one.account)] += 1
        self._labels.update(name for name, _ in job.shape.requirements.node_labels)

    def _drop(self, uid: str) -> None:
        one, job = self.waiting.pop(uid, None), self.jobs.pop(uid, None)
        if one is None or job is None:
            return
        _less(self._accounts, _place_of(one.account))
        for name, _ in job.shape.requirements.node_labels:
            _less(self._labels, name)

    def _is_written(self, uid: str) -> bool:
        return self._desk.carrier.writing(job_key(uid))


def _place_of(account: JSON) -> tuple[str, str]:
    return account["metadata"]["namespace"], account["metadata"]["name"]


def _less(counts: Counter[Key], key: Key) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
