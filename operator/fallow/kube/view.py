"""What this process knows of one kind: every object as of its newest version seen.

Objects come from lists, from watches and from the answers to our own writes, in any order; the
newest wins, by resourceVersion compared as an integer. That is allowed: KEP-5504 (stable in
Kubernetes 1.35) makes resourceVersions of one resource comparable integers, and they always were
etcd revisions. A store that was restored from a backup counts from an older revision again:
`replace` notices that its list is older than what was seen and starts afresh.

A deletion leaves a tombstone for a while, so that the late answer to a write does not raise the
dead. Objects in a view are shared: nobody changes them in place.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, ValuesView
from collections.abc import Set as AbstractSet
from typing import Any, Literal, Protocol

from fallow.kube.client import JSON, Listing
from fallow.kube.resource import Resource

Key = tuple[str, str]
"""(namespace, name); the namespace of cluster-wide kinds is ""."""
Change = Literal["ADDED", "MODIFIED", "DELETED"]
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_TOMBSTONE_SECONDS = 60.0
"""Longer than any request: after this no answer from before the deletion can come."""


class Followed(Protocol):
    """What a reflector keeps up to date: a `View`, or something that keeps less of each object.

    The methods are described there.
    """

    @property
    def resource(self) -> Resource:
        """The kind."""
        ...

    @property
    def newest(self) -> int:
        """Highest resource version seen."""
        ...

    @property
    def synced(self) -> asyncio.Event:
        """Set once a complete list was taken in."""
        ...

    def __len__(self) -> int: ...

    def apply(self, obj: JSON) -> bool:
        """Take in an object from a list or an event."""
        ...

    def forget(self, obj: JSON) -> bool:
        """Take in a deletion."""
        ...

    def replace(self, listing: Listing, *, newest_before: int) -> None:
        """Take in a complete list of a store that was set back."""
        ...

    def complete(self, listed: AbstractSet[Key], *, at: int) -> None:
        """Forget what a complete list lacks."""
        ...


class View:
    """All objects of one kind (within a selector), marked `dirty` on every change.

    `on_change(change, object)` is called synchronously for everything that enters or leaves, with
    the last known object on DELETED. `dirty` may be shared by several views.
    """

    def __init__(
        self,
        resource: Resource,
        *,
        dirty: asyncio.Event | None = None,
        on_change: Callable[[Change, JSON], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.resource = resource
        self.dirty = dirty if dirty is not None else asyncio.Event()
        self.synced = asyncio.Event()
        """Set once a complete list was taken in: from then on absence means absence."""
        self.newest = 0
        """Highest resource version seen."""
        self._objects: dict[Key, JSON] = {}
        self._on_change = on_change
        self._monotonic = monotonic
        self._tombstones: dict[Key, int] = {}
        self._older_tombstones: dict[Key, int] = {}
        self._turned_at = monotonic()

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[JSON]:
        return iter(self._objects.values())

    def __contains__(self, key: Key) -> bool:
        return key in self._objects

    def values(self) -> ValuesView[JSON]:
        """All objects, in the order in which they were first seen."""
        return self._objects.values()

    def get(self, name: str, *, namespace: str = "") -> JSON | None:
        """Return an object, or None."""
        return self._objects.get((namespace, name))

    def knows(self, key: Key, version: int) -> bool:
        """Say whether what happened to an object up to `version` is in here."""
        known = self._objects.get(key)
        return (known is not None and version_of(known) >= version) or self._deleted_at(key) >= version

    def apply(self, obj: JSON) -> bool:
        """Take in an object from an event or from the answer to a write; False when it is no news."""
        key, version = key_of(obj), version_of(obj)
        self.newest = max(self.newest, version)
        known = self._objects.get(key)
        if known is not None and version_of(known) >= version:
            return False
        if self._deleted_at(key) >= version:
            return False
        _slim(obj["metadata"])
        # NB: deleted and created again between two lists: another object under an old name.
        reborn = known is not None and known["metadata"].get("uid") != obj["metadata"].get("uid")
        if known is not None and reborn:
            del self._objects[key]
            self._changed("DELETED", known)
        self._objects[key] = obj
        self._changed("ADDED" if known is None or reborn else "MODIFIED", obj)
        return True

    def forget(self, obj: JSON) -> bool:
        """Take in a deletion (the object in its last state); False when a newer one is known.

        An object that left the watch's selector comes with the version of the very write that
        moved it, which its answer may have brought here already: equal versions forget.
        """
        key, version = key_of(obj), version_of(obj)
        self.newest = max(self.newest, version)
        self._bury(key, version)
        known = self._objects.get(key)
        if known is None or version_of(known) > version:
            return False
        del self._objects[key]
        self._changed("DELETED", known)
        return True

    def replace(self, listing: Listing, *, newest_before: int) -> None:
        """Take in a complete list; what it lacks is forgotten, unless it is newer than the list.

        `newest_before` is `newest` as it was before the list was asked for: a list is never older
        than that, except from a store that was set back, whose versions cannot be compared with
        the ones known: then everything known is dropped first.
        """
        at = int(listing.resource_version)
        if at < newest_before:
            for known in list(self._objects.values()):
                del self._objects[key_of(known)]
                self._changed("DELETED", known)
            self._tombstones, self._older_tombstones = {}, {}
            self.newest = at
        self.newest = max(self.newest, at)
        for obj in listing.items:
            self.apply(obj)
        self.complete({key_of(obj) for obj in listing.items}, at=at)

    def complete(self, listed: AbstractSet[Key], *, at: int) -> None:
        """Forget what a complete list of version `at` lacks, unless newer; its objects are in already."""
        self.newest = max(self.newest, at)
        for key, known in list(self._objects.items()):
            if key not in listed and version_of(known) <= at:
                del self._objects[key]
                self._bury(key, at)
                self._changed("DELETED", known)
        if not self.synced.is_set():
            self.synced.set()
            self.dirty.set()

    def _changed(self, change: Change, obj: JSON) -> None:
        self.dirty.set()
        if self._on_change is not None:
            self._on_change(change, obj)

    def _bury(self, key: Key, version: int) -> None:
        now = self._monotonic()
        if now - self._turned_at >= _TOMBSTONE_SECONDS:
            self._older_tombstones, self._tombstones = self._tombstones, {}
            self._turned_at = now
        self._tombstones[key] = max(version, self._deleted_at(key))

    def _deleted_at(self, key: Key) -> int:
        return max(self._tombstones.get(key, 0), self._older_tombstones.get(key, 0))


def _slim(metadata: JSON) -> None:
    """Drop what nobody asks and takes much memory: who wrote which field, and what kubectl sent."""
    metadata.pop("managedFields", None)
    annotations = metadata.get("annotations")
    if annotations is not None:
        annotations.pop(_LAST_APPLIED, None)


def key_of(obj: JSON) -> Key:
    """Return an object's (namespace, name)."""
    meta: dict[str, Any] = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


def version_of(obj: JSON) -> int:
    """Return an object's resourceVersion as the integer it is."""
    return int(obj["metadata"]["resourceVersion"])
