"""What fair sharing, quotas and reservations are decided on: who holds and lately used what, until when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from fallow.hub.placements import Placed
from fallow.hub.view import HubView
from fallow.scheduler.fairness import decayed
from fallow.scheduler.snapshot import NATIVE, Account, Quota, Running
from fallow.settings import SharingSettings

_STEP_SECONDS = 60
"""Use decays in these steps, so that a cycle in which nothing happened sees nothing new."""


def placements(view: HubView) -> list[Placed]:
    """Return all placements of the view, in the order of their names."""
    found = (placed for of_job in view.placed.values() for placed in of_job.values())
    return sorted(found, key=lambda placed: (placed.namespace, placed.name))


def running(view: HubView, *, now: int) -> tuple[Running, ...]:
    """Return what holds capacity, each with the moment at which time-outs have ended it."""
    found = []
    for placed in placements(view):
        held = placed.slots_held()
        for assigned in placed.assigned:
            if held.get(assigned.node):
                rounds = -(-len(assigned.tasks) // assigned.slots)
                # What is over its time is about to be reported gone: a moment ahead, never behind.
                ends_at = max(placed.created + rounds * placed.timeout_seconds, now + _STEP_SECONDS)
                slots = held.pop(assigned.node)
                found.append(Running(placed.provider, assigned.node, placed.request, slots, ends_at))
    return tuple(found)


def accounts(
    view: HubView, keys: Iterable[str], settings: SharingSettings, *, now: int
) -> tuple[Account, ...]:
    """Return what each account ("namespace/name") holds, and what its placements still present have used."""
    held: dict[str, Counter[str]] = {key: Counter() for key in keys}
    used: dict[str, dict[str, float]] = {key: {} for key in held}
    for placed in placements(view):
        if placed.account not in held:
            continue
        slots = sum(placed.slots_held().values())
        seconds = decayed(
            placed.payable_seconds,
            elapsed_seconds=(now - placed.created) // _STEP_SECONDS * _STEP_SECONDS,
            half_life_seconds=settings.half_life_seconds,
        )
        for name, amount in placed.request:
            held[placed.account][name] += amount * slots
            uses = used[placed.account]
            uses[name] = uses.get(name, 0.0) + amount * seconds
    return tuple(
        Account(key, held=tuple(sorted(amounts.items())), used=tuple(sorted(used[key].items())))
        for key, amounts in sorted(held.items())
    )


def quota_keys(account: str, settings: SharingSettings) -> tuple[str, ...]:
    """Return the keys of the quotas that hold for jobs of an account."""
    keys = []
    if settings.accelerators_per_account is not None:
        keys.append(f"account:{account}")
    if settings.accelerators_per_namespace is not None:
        keys.append(f"namespace:{account.partition('/')[0]}")
    return tuple(keys)


def quotas(view: HubView, keys: Iterable[str], settings: SharingSettings) -> tuple[Quota, ...]:
    """Return what the quotas of these accounts leave."""
    held: Counter[str] = Counter()
    for placed in placements(view):
        each = sum(amount for name, amount in placed.request if name not in NATIVE)
        for key in quota_keys(placed.account, settings):
            held[key] += each * sum(placed.slots_held().values())
    most = {
        "account": (settings.accelerators_per_account, "the account's quota"),
        "namespace": (settings.accelerators_per_namespace, "the namespace's quota"),
    }
    found = {}
    for key in sorted({quota for account in keys for quota in quota_keys(account, settings)}):
        amount, name = most[key.partition(":")[0]]
        found[key] = Quota(key, max(0, (amount or 0) - held[key]), name=name)
    return tuple(found.values())
