"""What a hub admin grants to whom: annotations of Namespaces, which submitters cannot write (decision 222).

    fallow.dev/weight                 share of the fleet relative to others, for each account in the namespace
    fallow.dev/max-accelerators       most accelerators that its jobs hold at once
    fallow.dev/max-spend-per-day      most that its jobs cost in 24 hours, in the token's units

Each may also be given for one account: `fallow.dev/weight.<account>`. An annotation that cannot be read
grants nothing: a quota of 0, a weight of 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from fallow.errors import FallowError
from fallow.hub.placements import JSON
from fallow.resources.base import GROUP
from fallow.resources.money import parse_amount

log = structlog.get_logger(__name__)

WEIGHT = f"{GROUP}/weight"
MAX_ACCELERATORS = f"{GROUP}/max-accelerators"
MAX_SPEND_PER_DAY = f"{GROUP}/max-spend-per-day"
LARGEST_WEIGHT = 1_000_000.0
Value = TypeVar("Value", int, float)


@dataclass(frozen=True, slots=True)
class Granted:
    """What one namespace may have. The empty name stands for the whole namespace."""

    weights: Mapping[str, float] = field(default_factory=dict)
    accelerators: Mapping[str, int] = field(default_factory=dict)
    spend_per_day: Mapping[str, int] = field(default_factory=dict)
    """In the token's smallest unit."""

    def weight(self, account: str) -> float:
        """Return the weight of an account of the namespace."""
        return self.weights.get(account, self.weights.get("", 1.0))


NOTHING = Granted()


def granted(namespace: JSON, *, decimals: int) -> Granted:
    """Read a Namespace object's annotations."""
    annotations = namespace["metadata"].get("annotations") or {}
    about = namespace["metadata"]["name"]
    if not any(key.startswith(f"{GROUP}/") for key in annotations):
        return NOTHING
    return Granted(
        weights=_read(annotations, WEIGHT, _weight, instead=1.0, about=about),
        accelerators=_read(annotations, MAX_ACCELERATORS, _count, instead=0, about=about),
        spend_per_day=_read(
            annotations,
            MAX_SPEND_PER_DAY,
            lambda text: parse_amount(text, decimals=decimals),
            instead=0,
            about=about,
        ),
    )


class Grants:
    """What every namespace may have; "namespace/name" is how accounts are called here."""

    def __init__(self, *, decimals: int) -> None:
        self._decimals = decimals
        self._by_namespace: dict[str, Granted] = {}

    def take(self, namespace: JSON, *, deleted: bool) -> bool:
        """Take in a Namespace; returns whether what it may have has changed."""
        name = namespace["metadata"]["name"]
        before = self._by_namespace.pop(name, NOTHING)
        after = NOTHING if deleted else granted(namespace, decimals=self._decimals)
        if after != NOTHING:
            self._by_namespace[name] = after
        return before != after

    def weight(self, account: str) -> float:
        """Return an account's weight in fair sharing."""
        namespace, _, name = account.partition("/")
        return self._of(namespace).weight(name)

    def accelerators(self, account: str) -> dict[str, int]:
        """Return the quotas of accelerators that hold for an account, by key: its own, its namespace's."""
        return _keyed(account, self._of(account.partition("/")[0]).accelerators)

    def spend_per_day(self, account: str) -> dict[str, int]:
        """Return the quotas of spend that hold for an account, by key."""
        return _keyed(account, self._of(account.partition("/")[0]).spend_per_day)

    def _of(self, namespace: str) -> Granted:
        return self._by_namespace.get(namespace, NOTHING)


def name_of(key: str, *, daily: bool = False) -> str:
    """Return how sentences call the quota of a key."""
    kind, _, whose = key.partition(":")
    return f"the {'daily ' if daily else ''}quota of {kind} {whose.rpartition('/')[2]}"


def _keyed(account: str, amounts: Mapping[str, int]) -> dict[str, int]:
    namespace, _, name = account.partition("/")
    found = {}
    if name in amounts:
        found[f"account:{account}"] = amounts[name]
    if "" in amounts:
        found[f"namespace:{namespace}"] = amounts[""]
    return found


def _read(
    annotations: Mapping[str, str], key: str, read: Callable[[str], Value], *, instead: Value, about: str
) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for name, text in _named(annotations, key):
        try:
            found[name] = read(text)
        except (FallowError, ValueError) as error:
            log.error("annotation cannot be read", namespace=about, annotation=key, error=str(error))
            found[name] = instead
    return found


def _named(annotations: Mapping[str, str], key: str) -> Iterable[tuple[str, str]]:
    for given, text in sorted(annotations.items()):
        if given == key:
            yield "", text
        elif given.startswith(f"{key}."):
            yield given[len(key) + 1 :], text


def _weight(text: str) -> float:
    weight = float(text)
    if not 0 < weight <= LARGEST_WEIGHT:
        raise ValueError(f"a weight is above 0 and at most {LARGEST_WEIGHT:.0f}, not {text}")
    return weight


def _count(text: str) -> int:
    count = int(text)
    if count < 0:
        raise ValueError(f"a number of accelerators is not negative: {text}")
    return count
