"""Room for owner pods that wait for an accelerator, whatever their scheduler, preemption policy or gate.

Each waiting pod gets a place: a node where it fits beside the owner's other pods. While it waits the place
counts as taken, so that no guest slips in. Where guests are in the way, those go whose end loses the least
work, once the pod has waited for the setting's time; before that the member's own scheduler may preempt.
Pure: what is known in, a plan out; the plan's places are handed in again, so that a place stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from fallow.agent.guests import Guest
from fallow.agent.nodes import Node, OwnerPod
from fallow.agent.waiting import WaitingPod

MAX_SEARCHES = 64
"""Pods for which a place is looked for in one plan; the others' turn comes with the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where waiting pods will go, and who has to leave for them."""

    places: Mapping[str, str] = field(default_factory=dict)
    """Pod UID → node."""
    held: tuple[OwnerPod, ...] = ()
    """The places as if their pods were there."""
    vacated: Mapping[str, str] = field(default_factory=dict)
    """Guest pod UID → why it goes."""


def plan(
    waiting: Iterable[WaitingPod],
    due: Collection[str],
    nodes: Iterable[Node],
    owners: Iterable[OwnerPod],
    guests: Iterable[Guest],
    *,
    before: Plan,
    gangs: Collection[str],
    now: datetime,
) -> Plan:
    """Return places for waiting pods: highest priority first, then oldest.

    `due`: UIDs of those that have waited long enough for guests to go. `before`: the previous plan, whose
    places and leaving guests stay what they are. `gangs`: UIDs of placements that end as a whole.
    """
    ordered = sorted(waiting, key=lambda pod: (-pod.priority, pod.created_at, pod.uid))
    if not ordered:
        return Plan()
    places = before.places
    ground = _Ground(nodes, owners, guests, gangs=gangs, asked=before.vacated, now=now)
    found: dict[str, str] = {}
    held: list[OwnerPod] = []
    vacated: dict[str, str] = {}
    # Who has a place keeps it, before anybody else looks for one.
    for pod in sorted(ordered, key=lambda pod: pod.uid not in places)[: len(places) + MAX_SEARCHES]:
        place = ground.place(pod, favourites=(pod.nominated, places.get(pod.uid, "")))
        if place is None or (place.leaving and pod.uid not in due):
            continue
        ground.take(pod, place)
        found[pod.uid] = place.node
        held.append(OwnerPod(node=place.node, requests=pod.requests))
        wanted = ", ".join(f"{count} {name}" for name, count in sorted(pod.requests.devices.items()))
        vacated.update({g.uid: f"a pod of the owner's waited for {wanted}" for g in place.leaving})
    return Plan(places=found, held=tuple(held), vacated=vacated)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    node: str
    leaving: tuple[Guest, ...] = ()


class _Ground:
    """Nodes as the owner's pods see them, and the guests on each that would stay otherwise."""

    def __init__(
        self,
        nodes: Iterable[Node],
        owners: Iterable[OwnerPod],
        guests: Iterable[Guest],
        *,
        gangs: Collection[str],
        asked: Collection[str],
        now: datetime,
    ) -> None:
        self._nodes = {node.name: node for node in sorted(nodes, key=lambda n: n.name)}
        self._free = {name: node.allocatable for name, node in self._nodes.items()}
        self._now = now
        self._asked = asked
        for pod in owners:
            if pod.node in self._free:
                self._free[pod.node] = self._free[pod.node].minus(pod.requests)
        self._beside = dict(self._free)
        """What is left beside the guests, too."""
        self._staying: dict[str, list[Guest]] = {}
        self._of_gang: dict[str, list[Guest]] = {}
        for guest in guests:
            node = guest.node or guest.pinned_to
            if guest.finished or guest.deleting or node not in self._free:
                continue
            self._staying.setdefault(node, []).append(guest)
            self._beside[node] = self._beside[node].minus(guest.requests)
            if guest.placement_uid in gangs:
                self._of_gang.setdefault(guest.placement_uid, []).append(guest)
        self._allowed: dict[str, list[str]] = {}

    def place(self, pod: WaitingPod, *, favourites: tuple[str, ...]) -> _Place | None:
        """Return the best node for a pod, and who has to leave it; None where it fits nowhere."""
        allowed = self._nodes_for(pod)
        for name in favourites:
            if name not in allowed or not self._free[name].fits(pod.requests):
                continue
            leaving = self._leaving(pod, name)
            if all(guest.uid in self._asked for guest in leaving):
                return _Place(node=name, leaving=leaving)
        candidates = [name for name in allowed if self._free[name].fits(pod.requests)]
        for name in candidates:
            if self._beside[name].fits(pod.requests):
                return _Place(node=name)
        choices = [_Place(node=name, leaving=self._leaving(pod, name)) for name in candidates]
        return min(choices, key=lambda p: (self._cost(p.leaving), len(p.leaving), p.node), default=None)

    def take(self, pod: WaitingPod, place: _Place) -> None:
        """Take the place; who has to leave does not stay any more, nor does the rest of their gangs."""
        self._free[place.node] = self._free[place.node].minus(pod.requests)
        self._beside[place.node] = self._beside[place.node].minus(pod.requests)
        for guest in self._with_gangs(place.leaving):
            node = guest.node or guest.pinned_to
            if guest in self._staying.get(node, ()):
                self._staying[node].remove(guest)
                self._beside[node] = self._beside[node].plus(guest.requests)

    def _nodes_for(self, pod: WaitingPod) -> list[str]:
        shape = repr((pod.requests.devices, pod.node_selector, pod.node_terms, pod.tolerations))
        if shape not in self._allowed:
            self._allowed[shape] = [
                name
                for name, node in self._nodes.items()
                if node.allocatable.fits(pod.requests) and pod.may_run_on(node)
            ]
        return self._allowed[shape]

    def _leaving(self, pod: WaitingPod, node: str) -> tuple[Guest, ...]:
        """Return the cheapest guests that make room; of those, who need not go after all, stays."""
        beside, leaving = self._beside[node], list[Guest]()
        by_cost = sorted(
            self._staying.get(node, ()), key=lambda g: (g.uid not in self._asked, self._cost((g,)), g.index)
        )
        for guest in by_cost:
            if beside.fits(pod.requests):
                break
            beside = beside.plus(guest.requests)
            leaving.append(guest)
        for guest in reversed(leaving[:]):
            without = beside.minus(guest.requests)
            if without.fits(pod.requests):
                beside = without
                leaving.remove(guest)
        return tuple(leaving)

    def _cost(self, leaving: Iterable[Guest]) -> float:
        """Work lost, in device-seconds; a gang is lost whole."""
        return sum(
            max(0.0, (self._now - guest.started_at).total_seconds())
            * max(1, sum(guest.requests.devices.values()))
            for guest in self._with_gangs(leaving)
            if guest.started_at is not None
        )

    def _with_gangs(self, leaving: Iterable[Guest]) -> list[Guest]:
        found: dict[str, Guest] = {}
        for guest in leaving:
            for each in self._of_gang.get(guest.placement_uid, (guest,)):
                found[each.uid] = each
        return list(found.values())


class Patience:
    """Since when each waiting pod has been seen to wait, by this process's own clock."""

    def __init__(self, *, seconds: float) -> None:
        self._seconds = seconds
        self._since: dict[str, float] = {}

    def due(self, waiting: Iterable[WaitingPod], *, monotonic: float) -> tuple[frozenset[str], float]:
        """Return the UIDs of those that have waited too long, and the seconds until the next one has."""
        self._since = {pod.uid: self._since.get(pod.uid, monotonic) for pod in waiting}
        until = {uid: since + self._seconds - monotonic for uid, since in self._since.items()}
        due = frozenset(uid for uid, left in until.items() if left <= 0)
        return due, min((left for left in until.values() if left > 0), default=float("inf"))
