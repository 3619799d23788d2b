"""What one cycle sees: jobs that wait, providers with their nodes, and purses that pay.

Everything is frozen and in integers: CPU in millicores, memory and storage in MiB, everything else counted;
money in the token's smallest unit; time in whole seconds. Nodes of one provider that look alike form a
`Pool`: they share a price and the answer to every requirement, so both are worked out once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fallow.receipts.pricing import UnitPrices
from fallow.receipts.requests import Requests
from fallow.resources.ranges import IndexRanges

Vector = Mapping[str, int]
"""Amounts by Kubernetes resource name; CPU in millicores, memory and storage in MiB, others counted."""

CPU = "cpu"
MEMORY = "memory"
STORAGE = "ephemeral-storage"
PODS = "pods"
NATIVE = frozenset({CPU, MEMORY, STORAGE, PODS})
"""Every other resource name is an accelerator."""


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a job asks of the place it runs at; empty fields ask nothing."""

    products: tuple[str, ...] = ()
    """Shell-style patterns of accelerator products, compared without regard to case; any one suffices."""
    min_accelerator_memory_mib: int = 0
    interconnect: str = ""
    isolation: str = ""
    """Weakest isolation that will do; see `requirements.ISOLATIONS`."""
    regions: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    """Only these providers."""
    excluded_providers: tuple[str, ...] = ()
    node_labels: tuple[tuple[str, str], ...] = ()
    max_providers: int | None = None
    """Most providers that one job may use over its life."""
    min_agreed_results: int = 0
    """Least results of the provider that other owners' copies confirmed."""
    max_disagreed_percent: int = 100
    """Most of its compared results that they contradicted."""


@dataclass(frozen=True, slots=True)
class Shape:
    """All of a job that decides where one of its tasks may run and what that costs: equal for equal jobs."""

    request: tuple[tuple[str, int], ...]
    """One task's effective requests, sorted by name; always with one pod."""
    requirements: Requirements = Requirements()
    images: tuple[str, ...] = ()
    account: str = ""
    """The payer's address, for Quotes that name accounts."""
    max_price: int | None = None
    """Most the job pays for a task-hour."""
    replicated: bool = False
    """Only providers that take part in replicated verification."""

    @property
    def accelerators(self) -> tuple[tuple[str, int], ...]:
        """The requests that are not CPU, memory, storage or the pod itself."""
        return tuple((name, amount) for name, amount in self.request if name not in NATIVE and amount)

    @property
    def priced(self) -> Requests:
        """The requests in the form that prices are worked out from."""
        amounts = dict(self.request)
        return Requests(
            cpu_millicores=amounts.get(CPU, 0),
            memory_mib=amounts.get(MEMORY, 0),
            devices=dict(self.accelerators),
        )


@dataclass(frozen=True, slots=True)
class Job:
    """A job with tasks to place."""

    uid: str
    name: str
    """"namespace/name", for people."""
    shape: Shape
    pending: IndexRanges
    """Tasks that run nowhere and may run now."""
    purses: tuple[str, ...] = ()
    """Keys of the purses that must all carry it: the payer's, and those of the account's own limits."""
    providers_used: frozenset[str] = frozenset()
    """Providers it has used so far, for `max_providers`."""
    avoided_providers: frozenset[str] = frozenset()
    """Providers that could not start its tasks a moment ago."""
    other_owners: frozenset[str] = frozenset()
    """Owners that have another copy of these tasks: not to be given this one."""
    copies: int = 1
    """Copies of these tasks that are missing, this one included: as many owners must be there to take them,
    and the money must last for all of them."""
    budget_left: int | None = None
    """What `maxTotal` leaves after what was spent and reserved; None without a limit."""
    created: int = 0
    """Age order: any number that grows with time."""
    priority: int = 0
    gang: bool = False
    slots_left: int | None = None
    """How many more tasks `parallelism` lets run at once; None without a limit."""
    timeout_seconds: int = 86_400
    placement_tasks: int | None = None
    """Most tasks in one of its placements, where that is less than for others."""
    account: str = ""
    """Who shares fairly with whom: key of its `Account`; jobs without one share as one account."""
    quotas: tuple[str, ...] = ()
    """Keys of the quotas that must all leave room: of its account, of its namespace."""

    def most_per_placement(self, limits: Limits) -> int:
        """Return the bound that holds for its placements."""
        return min(limits.placement_tasks, self.placement_tasks or limits.placement_tasks)


@dataclass(frozen=True, slots=True)
class Node:
    """One machine: what it offers in all, and what of that is free now."""

    name: str
    offerable: Vector
    free: Vector


@dataclass(frozen=True, slots=True)
class Pool:
    """Nodes of one provider with the same accelerator, interconnect, labels and so the same price."""

    product: str
    nodes: tuple[Node, ...]
    prices: UnitPrices
    """The Quote's, resolved for this product."""
    accelerator_memory_mib: int = 0
    interconnect: str = ""
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider: its terms, its pools, and why it takes no new work (if it does not)."""

    name: str
    pools: tuple[Pool, ...]
    refuses: str = ""
    """Why it takes no new work, as the reason of its Schedulable condition; empty when it does."""
    region: str = ""
    owner: str = ""
    """Who owns it; the same for several providers of one owner."""
    replicate: bool = False
    """Whether it takes part in replicated verification."""
    agreed: int = 0
    """Results that other owners' copies confirmed,"""
    disagreed: int = 0
    """and contradicted."""
    isolation: tuple[str, ...] = ("NonRoot",)
    """Isolations that guests get on request."""
    image_patterns: tuple[str, ...] = ("*",)
    accounts_allowed: tuple[str, ...] = ("*",)
    accounts_refused: tuple[str, ...] = ()
    max_run_seconds: int | None = None
    max_storage_mib: int | None = None
    """Largest ephemeral storage of one guest."""
    guests_left: int | None = None
    """How many more guests its Offer lets in; None without a limit."""


@dataclass(frozen=True, slots=True)
class Purse:
    """Money that jobs draw on: a payer's balance, or what a signed limit of an account leaves."""

    key: str
    available: int
    """What is neither under notice, nor reserved, nor claimed."""
    name: str = "the account"
    """How sentences call it."""
    problem: str = ""
    """Why nothing may be drawn at all, in one sentence; empty when it may."""


@dataclass(frozen=True, slots=True)
class Quota:
    """Accelerators that the jobs of an account or a namespace may hold at once.

    What may be spent a day is a `Purse` like any other money.
    """

    key: str
    accelerators_left: int
    """What is not held by running placements, all kinds together."""
    name: str = "the quota"
    """How sentences call it."""


@dataclass(frozen=True, slots=True)
class Account:
    """One party of fair sharing: how much it should get, holds and lately used."""

    key: str
    weight: float = 1.0
    """Share relative to others; above 0."""
    held: tuple[tuple[str, int], ...] = ()
    """What its placements hold now, by resource name."""
    used: tuple[tuple[str, float], ...] = ()
    """Resource-seconds it used, decayed; see `fairness.decayed`."""


@dataclass(frozen=True, slots=True)
class Running:
    """Slots that a placement holds on a node, and when they are free at the latest."""

    provider: str
    node: str
    request: tuple[tuple[str, int], ...]
    slots: int
    ends_at: int
    """Unix time by which time-outs have ended all its tasks there, those that queue included."""
    usual_end: int | None = None
    """When that will be if its tasks take as long as those of it that have ended; None while none has."""


@dataclass(frozen=True, slots=True)
class Victim:
    """Slots that a placement holds on a node and would give up for a job of higher priority."""

    placement: str
    """Its name: unique among placements."""
    provider: str
    node: str
    request: tuple[tuple[str, int], ...]
    slots: int
    priority: int
    account: str
    cost: int = 0
    """Work that is lost with one slot, in the token's smallest unit."""
    whole: bool = False
    """Whether all of its slots on all nodes go together: a gang."""
    leaving: int = 0
    """Slots that were asked to go already and are not free yet; `slots` are the others."""

    def less(self, slots: int) -> Victim:
        """Return the same with fewer slots."""
        return replace(self, slots=self.slots - slots)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that the hub's settings put on decisions."""

    placement_tasks: int = 1024
    """Most tasks in one placement."""
    queue_per_slot: int = 2
    """Most tasks that wait behind each slot of a placement (decision record 020)."""
    reservations: int = 4
    """How many waiting gangs and large tasks hold nodes for themselves at once; 0 reserves nothing."""
    half_life_seconds: float = 7 * 86_400
    """After how long use counts half in fair sharing."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a cycle decides on."""

    jobs: tuple[Job, ...]
    providers: tuple[Provider, ...]
    purses: tuple[Purse, ...]
    limits: Limits = field(default_factory=Limits)
    decimals: int = 6
    """Of the token, for sentences about money."""
    quotas: tuple[Quota, ...] = ()
    accounts: tuple[Account, ...] = ()
    running: tuple[Running, ...] = ()
    """What holds capacity, as far as its end is known; without it nothing is reserved."""
    victims: tuple[Victim, ...] = ()
    """What may have to give way to a job of higher priority; empty where preemption is off."""
    may_lose: tuple[tuple[str, int], ...] = ()
    """How many running tasks each account may still lose to preemption now."""
    now: int = 0
    """Unix time, compared with `Running.ends_at` only."""
    workload: tuple[tuple[Shape, int], ...] = ()
    """How often each shape is asked for, to judge fragmentation by; empty means: as in `jobs`."""
