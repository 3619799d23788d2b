"""Conditions as Kubernetes' API conventions have them, on plain JSON.

`lastTransitionTime` moves only when the status changes; `observedGeneration` says which spec the
condition is about. A merge patch replaces lists whole, so these return the whole new list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

JSON = dict[str, Any]
Truth = Literal["True", "False", "Unknown"]


def rfc3339(moment: datetime) -> str:
    """Write a `metav1.Time`: UTC, whole seconds ("2026-11-22T19:05:34Z"). `moment` has a zone."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_time(moment: datetime) -> str:
    """Write a `metav1.MicroTime`: UTC, exactly six decimals, as Leases want it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def condition(
    type_: str,
    status: Truth | bool,
    *,
    reason: str,
    message: str = "",
    observed_generation: int | None = None,
) -> JSON:
    """Make a condition without its time, for `merged`. `reason` is CamelCase."""
    made: JSON = {
        "type": type_,
        "status": str(status),
        "reason": reason,
        "message": message,
    }
    if observed_generation is not None:
        made["observedGeneration"] = observed_generation
    return made


def merged(
    before: Iterable[Mapping[str, Any]] | None, changes: Iterable[JSON], *, now: datetime
) -> list[JSON]:
    """Return `before` with `changes` in it: same order, new types at the end.

    A condition that says the same as before comes back unchanged, so that nothing to say means
    nothing to write.
    """
    result = {each["type"]: dict(each) for each in before or ()}
    for change in changes:
        old = result.get(change["type"])
        moved = old is None or old.get("status") != change["status"]
        time = rfc3339(now) if moved or old is None else old.get("lastTransitionTime", rfc3339(now))
        result[change["type"]] = {**change, "lastTransitionTime": time}
    return list(result.values())


def find(conditions: Iterable[Mapping[str, Any]] | None, type_: str) -> Mapping[str, Any] | None:
    """Return the condition of a type, or None."""
    return next((each for each in conditions or () if each.get("type") == type_), None)


def is_true(conditions: Iterable[Mapping[str, Any]] | None, type_: str) -> bool:
    """Say whether a condition is there with status "True"."""
    found = find(conditions, type_)
    return found is not None and found.get("status") == "True"
