"""What keeps a task from a place: one named obstacle per check, countable, in the order people ask.

Each check is a question about (shape, provider, pool) alone, so its answer holds for every node of a pool and
for every job of the same shape. Whether a node has room *now* is not asked here but in `placing`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from enum import StrEnum
from fnmatch import fnmatchcase

from fallow.receipts.pricing import UnpricedError, price_per_task_hour
from fallow.scheduler.snapshot import STORAGE, Node, Pool, Provider, Shape, Vector

ISOLATIONS = ("NonRoot", "UserNamespace", "Sandboxed")
"""From weakest to strongest; a stronger one meets the wish for a weaker one."""


class Obstacle(StrEnum):
    """Why nodes do not take a task. The value ends the sentence "24 nodes …"."""

    PROVIDER_REFUSES = "belong to providers that are closed now"
    UNREACHABLE = "belong to providers that are unreachable now"
    NOT_ASKED = "belong to providers that requirements.providers leaves out"
    REGION = "are in other regions"
    ISOLATION = "isolate guests in another way"
    ACCOUNT = "belong to providers that do not work for this account"
    STORAGE = "belong to providers that allow a guest less ephemeral storage"
    IMAGE = "belong to providers that do not allow the image"
    PRODUCT = "have another accelerator"
    ACCELERATOR_MEMORY = "have too little accelerator memory"
    INTERCONNECT = "have another interconnect"
    LABELS = "lack the labels"
    NOT_REPLICATING = "belong to providers that take no part in replicated verification"
    RECORD = "belong to providers whose record of compared results is too short or too bad"
    TOO_SMALL = "are too small for one task even when empty"
    UNPRICED = "have no price for what the task requests"
    PRICE = "cost more than the job pays"
    TOO_FEW_FREE = "have too little free now"
    GANG = "have room for single tasks but not, within their provider, for the whole gang"
    GUEST_LIMIT = "belong to providers whose limit of guests is reached"
    AVOIDED = "belong to providers that could not start its tasks a moment ago"
    OTHER_COPY = "belong to owners that have another copy of the tasks"
    RESERVED = "are kept for a larger job that has waited longer"
    MAX_PROVIDERS = "belong to further providers than requirements.maxProviders lets the job use"


UNHEARD = frozenset({"Silent", "AgentMissing", "Flapping"})
"""Why a provider refuses: those that mean that its agent is not heard, or not for long enough."""

PASSING = frozenset(
    {
        Obstacle.PROVIDER_REFUSES,
        Obstacle.UNREACHABLE,
        Obstacle.TOO_FEW_FREE,
        Obstacle.GANG,
        Obstacle.GUEST_LIMIT,
        Obstacle.AVOIDED,
        Obstacle.OTHER_COPY,
        Obstacle.RESERVED,
        Obstacle.MAX_PROVIDERS,
    }
)
"""Obstacles that may go away without anybody changing the job or joining the hub."""


def price_of(shape: Shape, pool: Pool) -> int | None:
    """Return the price of a task-hour on the pool; None when the Quote lacks a price."""
    try:
        return price_per_task_hour(shape.priced, pool.prices)
    except UnpricedError:
        return None


def matches(text: str, patterns: Iterable[str]) -> bool:
    """Return whether any shell-style pattern covers the whole text, without regard to case."""
    lowered = text.lower()
    return any(fnmatchcase(lowered, pattern.lower()) for pattern in patterns)


def _asked(shape: Shape, provider: Provider, _pool: Pool) -> bool:
    wanted = shape.requirements
    if provider.name in wanted.excluded_providers:
        return False
    return not wanted.providers or provider.name in wanted.providers


def _region(shape: Shape, provider: Provider, _pool: Pool) -> bool:
    return not shape.requirements.regions or provider.region in shape.requirements.regions


def _isolation(shape: Shape, provider: Provider, _pool: Pool) -> bool:
    wanted = shape.requirements.isolation
    return not wanted or any(given in ISOLATIONS[ISOLATIONS.index(wanted) :] for given in provider.isolation)


def _replicates(shape: Shape, provider: Provider, _pool: Pool) -> bool:
    return provider.replicate or not shape.replicated


def _record(shape: Shape, provider: Provider, _pool: Pool) -> bool:
    wanted, compared = shape.requirements, provider.agreed + provider.disagreed
    return (
        provider.agreed >= wanted.min_agreed_results
        and 100 * provider.disagreed <= wanted.max_disagreed_percent * compared
    )


def _storage(shape: Shape, provider: Provider, _pool: Pool) -> bool:
    limit = provider.max_storage_mib
    return limit is None or dict(shape.request).get(STORAGE, 0) <= limit


def _account(shape: Shape, provider: Provider, _pool: Pool) -> bool:
    if matches(shape.account, provider.accounts_refused):
        return False
    return matches(shape.account, provider.accounts_allowed)


def _image(shape: Shape, provider: Provider, _pool: Pool) -> bool:
    return all(matches(image, provider.image_patterns) for image in shape.images)


def _product(shape: Shape, _provider: Provider, pool: Pool) -> bool:
    return not shape.requirements.products or matches(pool.product, shape.requirements.products)


def _memory(shape: Shape, _provider: Provider, pool: Pool) -> bool:
    return pool.accelerator_memory_mib >= shape.requirements.min_accelerator_memory_mib


def _interconnect(shape: Shape, _provider: Provider, pool: Pool) -> bool:
    wanted = shape.requirements.interconnect
    return not wanted or pool.interconnect.lower() == wanted.lower()


def _labels(shape: Shape, _provider: Provider, pool: Pool) -> bool:
    return set(shape.requirements.node_labels) <= set(pool.labels)


def _size(shape: Shape, _provider: Provider, pool: Pool) -> bool:
    return any(_takes_one(node.offerable, shape) for node in pool.nodes)


def _one_of_each(pool: Pool) -> tuple[Node, ...]:
    """Return one node of each size."""
    return tuple({tuple(sorted(node.offerable.items())): node for node in pool.nodes}.values())


def _takes_one(size: Vector, shape: Shape) -> bool:
    return all(size.get(name, 0) >= amount for name, amount in shape.request if amount > 0)


def _priced(shape: Shape, _provider: Provider, pool: Pool) -> bool:
    return price_of(shape, pool) is not None


def _price(shape: Shape, _provider: Provider, pool: Pool) -> bool:
    if shape.max_price is None:
        return True
    price = price_of(shape, pool)
    return price is None or price <= shape.max_price


Check = Callable[[Shape, Provider, Pool], bool]

CHECKS: tuple[tuple[Obstacle, Check], ...] = (
    (Obstacle.NOT_ASKED, _asked),
    (Obstacle.REGION, _region),
    (Obstacle.ISOLATION, _isolation),
    (Obstacle.NOT_REPLICATING, _replicates),
    (Obstacle.RECORD, _record),
    (Obstacle.ACCOUNT, _account),
    (Obstacle.IMAGE, _image),
    (Obstacle.STORAGE, _storage),
    (Obstacle.PRODUCT, _product),
    (Obstacle.ACCELERATOR_MEMORY, _memory),
    (Obstacle.INTERCONNECT, _interconnect),
    (Obstacle.LABELS, _labels),
    (Obstacle.TOO_SMALL, _size),
    (Obstacle.UNPRICED, _priced),
    (Obstacle.PRICE, _price),
)
"""Every lasting obstacle; a place passes when each check says True."""


def first_obstacle(shape: Shape, provider: Provider, pool: Pool) -> Obstacle | None:
    """Return why no node of the pool may take the shape, or None when they may."""
    for obstacle, passes in CHECKS:
        if not passes(shape, provider, pool):
            return obstacle
    if not provider.refuses:
        return None
    return Obstacle.UNREACHABLE if provider.refuses in UNHEARD else Obstacle.PROVIDER_REFUSES


Answer = tuple[Obstacle | None, int | None]
"""What keeps a shape from a place, or else the price of a task-hour there."""


class Terms:
    """The places of a fleet as requirements see them: places with equal answers are asked once."""

    def __init__(self, places: Sequence[tuple[Provider, Pool]]) -> None:
        known: dict[tuple[object, ...], int] = {}
        self._alike = [known.setdefault(_terms(*place), len(known)) for place in places]
        # One node of each size answers for all.
        self._places = [(provider, replace(pool, nodes=_one_of_each(pool))) for provider, pool in places]
        self._impossible: dict[Shape, tuple[Obstacle, ...]] = {}

    def judge(self, shape: Shape) -> Iterator[Answer]:
        """Return the answer of each place, in order."""
        wanted = shape.requirements
        by_record = wanted.min_agreed_results > 0 or wanted.max_disagreed_percent < 100
        by_name = bool(wanted.providers or wanted.excluded_providers or by_record)
        known: dict[tuple[str, int], Answer] = {}
        for (provider, pool), alike in zip(self._places, self._alike, strict=True):
            key = (provider.name if by_name else "", alike)
            answer = known.get(key)
            if answer is None:
                obstacle = first_obstacle(shape, provider, pool)
                price = price_of(shape, pool) if obstacle is None else None
                answer = known[key] = (obstacle, price)
            yield answer

    def impossible(self, shape: Shape) -> tuple[Obstacle, ...]:
        """Return the requirements that, each taken alone, no place meets; empty when there is no place.

        Without places it is not the job's requirements that are at fault.
        """
        if shape not in self._impossible:
            self._impossible[shape] = tuple(
                obstacle
                for obstacle, passes in CHECKS
                if self._places and not any(passes(shape, *place) for place in self._places)
            )
        return self._impossible[shape]


def _terms(provider: Provider, pool: Pool) -> tuple[object, ...]:
    """Return everything but names that checks and prices depend on."""
    prices = pool.prices
    return (
        provider.refuses,
        provider.region,
        provider.isolation,
        provider.replicate,
        provider.image_patterns,
        provider.accounts_allowed,
        provider.accounts_refused,
        provider.max_storage_mib,
        pool.product,
        pool.accelerator_memory_mib,
        pool.interconnect,
        pool.labels,
        (prices.cpu_core_hour, prices.memory_gib_hour, tuple(sorted(prices.device_hour.items()))),
        tuple(sorted(tuple(sorted(node.offerable.items())) for node in _one_of_each(pool))),
    )
