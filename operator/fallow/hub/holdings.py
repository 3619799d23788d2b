"""What live placements hold of nodes, of guest limits and for whom, kept as they come and go.

Only slots hold capacity, and they hold it until the agent has reported the pods gone: a task that the hub
took away may still run. All sums are of integers, taken out as they were put in: nothing drifts, and a cycle
pays for what changed, not for all that runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain

from fallow.hub.placements import JSON, Placed
from fallow.receipts.attempts import PAYABLE
from fallow.receipts.statements import unix_seconds
from fallow.scheduler.snapshot import CPU, MEMORY, NATIVE, Running

Place = tuple[str, str]
"""(provider, node)."""


Request = tuple[tuple[str, int], ...]
USE_STEP_SECONDS = 60
"""Use is told apart by when its placement began, in these steps: it decays by how long ago that was."""


class Holdings:
    """Sums over placements; `add` and `remove` must see the same value of each."""

    def __init__(self) -> None:
        self._on_node: dict[Place, Counter[str]] = {}
        self.guests: Counter[str] = Counter()
        """Slots held, by provider."""
        self.held_by: dict[str, Counter[str]] = {}
        """What the placements of an account ("namespace/name") hold, by resource name."""
        self.used_by: dict[str, Counter[tuple[int, Request]]] = {}
        """Payable seconds of an account's claims, and of its placements without one, by when they began (in
        steps) and request. Claims stay for days: what was used before a restart is known after it."""
        self._claims: dict[tuple[str, str], tuple[str, tuple[int, Request], int]] = {}
        """By the claim's namespace and name: account, began and request, seconds."""
        self._claimed: Counter[str] = Counter()
        """Seconds by placement UID."""
        self.accelerators_of: Counter[str] = Counter()
        """Accelerators held, all kinds together, by account ("namespace/name") and by namespace."""
        self._running: dict[tuple[str, str], tuple[Running, ...]] = {}
        """By namespace and name of the placement."""

    def add(self, placed: Placed) -> None:
        """Count a placement in."""
        self._count(placed, 1)
        self._running[placed.namespace, placed.name] = running_of(placed)

    def remove(self, placed: Placed) -> None:
        """Count a placement out, as it was when it was added."""
        self._count(placed, -1)
        self._running.pop((placed.namespace, placed.name), None)

    def claim(self, name: tuple[str, str], claim: JSON, *, placed: Placed | None, deleted: bool) -> None:
        """Count a claim's seconds instead of those of its placement (`placed`, if it is live)."""
        uid = claim["spec"]["placement"]["uid"]
        if placed is not None:
            self._count(placed, -1)
        before = self._claims.pop(name, None)
        if before is not None:
            self._use(before[0], before[1], -before[2])
            self._claimed[uid] -= before[2]
        if not deleted:
            account, began, request, seconds = _use_of(claim)
            self._claims[name] = (account, (began // USE_STEP_SECONDS, request), seconds)
            self._use(account, (began // USE_STEP_SECONDS, request), seconds)
            self._claimed[uid] += seconds
        if not self._claimed[uid]:
            del self._claimed[uid]
        if placed is not None:
            self._count(placed, 1)

    def running(self) -> Iterator[Running]:
        """Yield what holds capacity, each with the moment at which time-outs have ended it."""
        return chain.from_iterable(self._running.values())

    def on_node(self, provider: str, node: str) -> Counter[str]:
        """Return what is held of a node, by resource name."""
        return self._on_node.get((provider, node), Counter())

    def accelerators_on_node(self, provider: str, node: str) -> int:
        """Return how many accelerators of a node are held, all kinds together."""
        held = self.on_node(provider, node)
        return sum(amount for name, amount in held.items() if name not in NATIVE)

    def _count(self, placed: Placed, sign: int) -> None:
        total = 0
        for node, slots in placed.slots_held().items():
            total += slots
            place = (placed.provider, node)
            held = self._on_node.setdefault(place, Counter())
            for name, amount in placed.request:
                held[name] += sign * slots * amount
            self.guests[placed.provider] += sign * slots
            if not any(held.values()):
                del self._on_node[place]
        if total:
            self._count_slots(placed, sign * total)
        unclaimed = placed.payable_seconds - self._claimed[placed.uid]
        if unclaimed > 0:
            key = (placed.created // USE_STEP_SECONDS, placed.request)
            self._use(placed.account, key, sign * unclaimed)

    def _use(self, account: str, key: tuple[int, Request], seconds: int) -> None:
        used = self.used_by.setdefault(account, Counter())
        used[key] += seconds
        if not used[key]:
            del used[key]

    def _count_slots(self, placed: Placed, slots: int) -> None:
        held = self.held_by.setdefault(placed.account, Counter())
        for name, amount in placed.request:
            held[name] += slots * amount
            if name not in NATIVE:
                self.accelerators_of[placed.account] += slots * amount
                self.accelerators_of[placed.account.partition("/")[0]] += slots * amount


def _use_of(claim: JSON) -> tuple[str, int, Request, int]:
    """Return whose use a PaymentClaim tells of, since when, of what, and for how many seconds."""
    spec = claim["spec"]
    terms, observed = spec["terms"], spec.get("observations") or {}
    given = terms.get("requests") or {}
    request: Request = tuple(
        sorted(
            (name, amount)
            for name, amount in {
                CPU: given.get("cpuMillicores") or 0,
                MEMORY: given.get("memoryMiB") or 0,
                **(given.get("accelerators") or {}),
            }.items()
            if amount
        )
    )
    began = observed.get("placedAt") or claim["metadata"]["creationTimestamp"]
    account = f"{terms['accountNamespace']}/{terms['accountName']}"
    return account, unix_seconds(began), request, spec.get("seconds") or 0


def running_of(placed: Placed) -> tuple[Running, ...]:
    """Return what a placement holds on each node, and when its time-outs have ended that."""
    found = []
    held = placed.slots_held()
    if not held:
        return ()
    paid = sum(one.outcome in PAYABLE for one in placed.counted)
    each = placed.payable_seconds / paid if paid else None
    for assigned in placed.assigned:
        slots = held.pop(assigned.node, 0)
        if slots:
            rounds = -(-len(assigned.tasks) // assigned.slots)
            ends_at = placed.created + rounds * placed.timeout_seconds
            usual = None if each is None else min(ends_at, placed.created + int(rounds * each))
            found.append(Running(placed.provider, assigned.node, placed.request, slots, ends_at, usual))
    return tuple(found)
