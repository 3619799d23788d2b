"""What the agent sees of both API servers.

Pods and nodes are boiled down as they arrive: of a foreign pod only requests and node are kept (and, while it
waits for an accelerator, where it may go), so that an owner of 20,000 nodes neither pays memory for the agent
nor shows it more than it needs. A shrunken object keeps its head (name, UID, version) for the view and
carries its facts under one key.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import structlog

from fallow.agent.canary_pods import CanaryPod, is_canary, read_canary
from fallow.agent.guests import Guest, as_first_told, is_guest, read_guest
from fallow.agent.nodes import Node, OwnerPod, read_node, read_owner_pod
from fallow.agent.waiting import WaitingPod, read_waiting_pod
from fallow.errors import QuantityError
from fallow.kube.client import JSON, Listing
from fallow.kube.kinds import (
    GUEST_SET,
    NODE,
    OFFER,
    PLACEMENT,
    POD,
    PROVIDER,
    PROVIDER_NODE,
    QUOTE,
)
from fallow.kube.resource import Resource
from fallow.kube.view import Change, View, version_of

FACTS = "facts"
_HEAD = ("namespace", "name", "uid", "resourceVersion")

log = structlog.get_logger(__name__)


class ShrunkenView(View):
    """A view that keeps of each object only its head and what `facts_of` makes of it."""

    def __init__(self, resource: Resource, *, facts_of: Callable[[JSON], object], **more: Any) -> None:
        super().__init__(resource, **more)
        self._facts_of = facts_of

    def apply(self, obj: JSON) -> bool:
        """Take in an object as `View.apply` does, shrunken."""
        metadata = obj["metadata"]
        known = self.get(metadata["name"], namespace=metadata.get("namespace") or "")
        # The answer to a write and the watch bring the same version: not worth reading twice.
        if known is not None and version_of(known) == version_of(obj):
            return False
        return super().apply(self._shrunken(obj))

    def forget(self, obj: JSON) -> bool:
        """Take in a deletion as `View.forget` does."""
        return super().forget(self._shrunken(obj))

    def replace(self, listing: Listing, *, newest_before: int) -> None:
        """Take in a list as `View.replace` does; its objects are shrunken by `apply`."""
        super().replace(listing, newest_before=newest_before)

    def _shrunken(self, obj: JSON) -> JSON:
        if FACTS in obj:
            return obj
        metadata = obj["metadata"]
        head = {key: metadata[key] for key in _HEAD if key in metadata}
        return {"metadata": head, FACTS: self._facts_of(obj)}


class MemberViews:
    """The owner's cluster. `dirty` is set by whatever changes."""

    def __init__(self, *, guest_namespace: str, dirty: asyncio.Event) -> None:
        self.offering_stale = True
        """Whether nodes, owner pods or the Offer changed since this was last made False."""
        self.missing: dict[str, dict[int, Guest]] = {}
        """Guests that went before their outcome was recorded: placement UID → index → last known."""
        self.departed: set[str] = set()
        """UIDs of guest pods that went since this was last emptied."""
        self.open_records: dict[str, JSON] = {}
        """GuestSets that may still need something, by Placement UID; who finds one settled takes it out."""
        self.moves: Counter[str] = Counter()
        """How often a guest or the record of a placement (by UID) has changed."""
        self.pod_moves = 0
        """How often any pod has changed."""
        self._guest_namespace = guest_namespace
        self.guest_sets = View(GUEST_SET, dirty=dirty, on_change=self._record_changed)
        self.offers = View(OFFER, dirty=dirty, on_change=self._policy_changed)
        self.nodes = ShrunkenView(NODE, facts_of=read_node, dirty=dirty, on_change=self._node_changed)
        self.pods = ShrunkenView(POD, facts_of=self._pod_facts, dirty=dirty, on_change=self._pod_changed)

    @property
    def synced(self) -> bool:
        """Whether absence means absence everywhere."""
        return all(v.synced.is_set() for v in (self.guest_sets, self.offers, self.nodes, self.pods))

    def all_nodes(self) -> Iterator[Node]:
        """Every node."""
        return (each[FACTS] for each in self.nodes)

    def guests(self) -> Iterator[Guest]:
        """Every guest pod there is, finished ones included."""
        return (each[FACTS] for each in self.pods if isinstance(each[FACTS], Guest))

    def owner_pods(self) -> Iterator[OwnerPod]:
        """Every foreign pod that holds something of a node."""
        return (each[FACTS] for each in self.pods if isinstance(each[FACTS], OwnerPod))

    def waiting_pods(self) -> Iterator[WaitingPod]:
        """Every foreign pod that waits for an accelerator."""
        return (each[FACTS] for each in self.pods if isinstance(each[FACTS], WaitingPod))

    def canaries(self) -> Iterator[CanaryPod]:
        """Every canary's pod."""
        return (each[FACTS] for each in self.pods if isinstance(each[FACTS], CanaryPod))

    def guest(self, name: str) -> Guest | None:
        """Return a guest by its pod's name."""
        found = self.pods.get(name, namespace=self._guest_namespace)
        return found[FACTS] if found is not None and isinstance(found[FACTS], Guest) else None

    def _pod_facts(self, pod: JSON) -> Guest | CanaryPod | OwnerPod | WaitingPod | None:
        try:
            if pod["metadata"].get("namespace") == self._guest_namespace:
                if is_guest(pod):
                    return as_first_told(read_guest(pod), self.guest(pod["metadata"]["name"]))
                if is_canary(pod):
                    return read_canary(pod)
            return read_owner_pod(pod) or read_waiting_pod(pod)
        except QuantityError as error:  # the API server checks quantities; better blind to one than to all
            log.warning("pod not understood", pod=pod["metadata"]["name"], error=str(error))
            return None

    def _record_changed(self, change: Change, obj: JSON) -> None:
        uid = obj["spec"]["placementUid"]
        self.moves[uid] += 1
        if change == "DELETED":
            self.open_records.pop(uid, None)
        else:
            self.open_records[uid] = obj

    def _pod_changed(self, change: Change, obj: JSON) -> None:
        facts = obj[FACTS]
        if isinstance(facts, CanaryPod):
            return
        self.pod_moves += 1
        if isinstance(facts, Guest):
            self.moves[facts.placement_uid] += 1
        if not isinstance(facts, Guest):
            self.offering_stale = True
        elif change == "DELETED":
            self.departed.add(facts.uid)
            self.missing.setdefault(facts.placement_uid, {})[facts.index] = facts

    def _node_changed(self, change: Change, obj: JSON) -> None:
        self.offering_stale = True

    def _policy_changed(self, change: Change, obj: JSON) -> None:
        self.offering_stale = True


class HubViews:
    """The agent's own namespace on the hub, and its own Provider."""

    def __init__(self, *, dirty: asyncio.Event) -> None:
        self.placements = View(PLACEMENT, dirty=dirty)
        self.quotes = View(QUOTE, dirty=dirty)
        self.provider_nodes = View(PROVIDER_NODE, dirty=dirty)
        self.providers = View(PROVIDER, dirty=dirty)
