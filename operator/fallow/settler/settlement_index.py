"""Settlements of this hub, kept in the order in which the cycle asks for them.

A hub keeps its Settlements for ever, so no cycle may walk over all of them: the view tells each
change here, and what is looked up is small. After a restart the first list fills it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any

from fallow.resources.settlement import SettlementTransaction

JSON = dict[str, Any]


class SettlementIndex:
    """Settlements for which `is_own` holds; those of an escrow before a migration count for nothing."""

    def __init__(self, is_own: Callable[[Mapping[str, Any]], bool]) -> None:
        self._is_own = is_own
        self._by_name: dict[str, JSON] = {}
        self._by_epoch: dict[int, dict[str, JSON]] = {}
        self._by_previous: dict[str, set[str]] = {}
        self._by_nonce: dict[int, set[str]] = {}
        self._commitments: dict[str, str] = {}
        self._unfinished: set[str] = set()
        self._confirmed: dict[int, set[str]] = {}
        self._last_epoch = 0
        self.deletions = 0
        """Rises with every Settlement that goes: nobody deletes one, except a restored backup."""

    def __len__(self) -> int:
        return len(self._by_name)

    def changed(self, change: str, obj: JSON) -> None:
        """Take in a change of the view."""
        name = obj["metadata"]["name"]
        if not self._is_own(obj["spec"]):
            return
        known = self._by_name.pop(name, None)
        if known is not None:
            self._drop(name, known)
        if change == "DELETED":
            self.deletions += 1
            self._last_epoch = max(self._by_epoch, default=0)
        else:
            self._add(name, obj)

    def all(self) -> list[JSON]:
        """Return all, by epoch."""
        return [obj for epoch in sorted(self._by_epoch) for obj in self._by_epoch[epoch].values()]

    @property
    def last_epoch(self) -> int:
        """The highest epoch number; 0 when there is none."""
        return self._last_epoch

    def of_epoch(self, epoch: int) -> list[JSON]:
        """Return those of one epoch number; abandoned ones too."""
        return list(self._by_epoch.get(epoch, {}).values())

    def following(self, commitment: str) -> list[JSON]:
        """Return those whose epoch follows the one with this commitment."""
        return [self._by_name[name] for name in sorted(self._by_previous.get(commitment, ()))]

    def unfinished(self) -> list[JSON]:
        """Return those that are not Confirmed, by epoch."""
        found = (self._by_name[name] for name in self._unfinished)
        return sorted(found, key=lambda obj: (int(obj["spec"]["epoch"]), obj["metadata"]["name"]))

    def has(self, commitment: str) -> bool:
        """Say whether there is one with this commitment."""
        return commitment in self._commitments

    def last_confirmed(self) -> JSON | None:
        """Return the Confirmed one with the highest epoch."""
        return self._by_name[min(self._confirmed[max(self._confirmed)])] if self._confirmed else None

    def recorded(self, nonce: int) -> list[SettlementTransaction]:
        """Return the recorded transactions with a nonce, whatever became of their Settlement."""
        return [
            each
            for name in sorted(self._by_nonce.get(nonce, ()))
            for each in transactions_of(self._by_name[name])
            if each.nonce == nonce
        ]

    def confirmed_nonces(self) -> Iterable[int]:
        """Return the nonces with which epochs were settled for good: they were looked at then."""
        for name in chain.from_iterable(self._confirmed.values()):
            for each in transactions_of(self._by_name[name]):
                yield each.nonce

    def _add(self, name: str, obj: JSON) -> None:
        spec = obj["spec"]
        self._by_name[name] = obj
        self._by_epoch.setdefault(spec["epoch"], {})[name] = obj
        self._last_epoch = max(self._last_epoch, spec["epoch"])
        self._by_previous.setdefault(spec["previousCommitment"], set()).add(name)
        self._commitments[spec["commitment"]] = name
        for nonce in _nonces(obj):
            self._by_nonce.setdefault(nonce, set()).add(name)
        if state_of(obj) == "Confirmed":
            self._confirmed.setdefault(spec["epoch"], set()).add(name)
        else:
            self._unfinished.add(name)

    def _drop(self, name: str, obj: JSON) -> None:
        spec = obj["spec"]
        _discard(self._by_previous, spec["previousCommitment"], name)
        for nonce in _nonces(obj):
            _discard(self._by_nonce, nonce, name)
        of_epoch = self._by_epoch[spec["epoch"]]
        del of_epoch[name]
        if not of_epoch:
            del self._by_epoch[spec["epoch"]]
        if self._commitments.get(spec["commitment"]) == name:
            del self._commitments[spec["commitment"]]
        if name in self._confirmed.get(spec["epoch"], ()):
            _discard(self._confirmed, spec["epoch"], name)
        self._unfinished.discard(name)


def _discard(index: dict[Any, set[str]], key: Any, name: str) -> None:
    names = index[key]
    names.discard(name)
    if not names:
        del index[key]


def _nonces(obj: Mapping[str, Any]) -> set[int]:
    return {int(each["nonce"]) for each in (obj.get("status") or {}).get("transactions") or ()}


def state_of(obj: Mapping[str, Any]) -> str:
    """Return an object's status.state; "Pending" where nobody has said anything."""
    return str((obj.get("status") or {}).get("state") or "Pending")


def transactions_of(obj: Mapping[str, Any]) -> list[SettlementTransaction]:
    """Return the transactions recorded in a Settlement, oldest first."""
    recorded = (obj.get("status") or {}).get("transactions") or []
    return [SettlementTransaction.model_validate(each) for each in recorded]
