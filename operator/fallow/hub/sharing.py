"""What fair sharing, quotas and reservations are decided on: who holds and lately used what, until when."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from fallow.hub.holdings import USE_STEP_SECONDS, Holdings
from fallow.hub.view import HubView
from fallow.scheduler.fairness import decayed
from fallow.scheduler.snapshot import Account, Quota, Running
from fallow.settings import SharingSettings

_MOMENT_SECONDS = 60
"""What is over its time is about to be reported gone: a moment ahead, never behind."""


def running(view: HubView, *, now: int) -> tuple[Running, ...]:
    """Return what holds capacity, each with the moment at which time-outs have ended it."""
    soon = now + _MOMENT_SECONDS
    return tuple(
        one if one.ends_at >= soon else replace(one, ends_at=soon) for one in view.holdings.running()
    )


def accounts(
    view: HubView, keys: Iterable[str], settings: SharingSettings, *, now: int
) -> tuple[Account, ...]:
    """Return what each account ("namespace/name") holds, and what its placements still present have used."""
    return tuple(_account(view.holdings, key, settings, now=now) for key in sorted(set(keys)))


def _account(holdings: Holdings, key: str, settings: SharingSettings, *, now: int) -> Account:
    used: dict[str, float] = {}
    # NB: in an order that does not depend on who came first, since floats are added up.
    for (began, request), seconds in sorted(holdings.used_by.get(key, {}).items()):
        left = decayed(
            seconds,
            elapsed_seconds=(now // USE_STEP_SECONDS - began) * USE_STEP_SECONDS,
            half_life_seconds=settings.half_life_seconds,
        )
        for name, amount in request:
            used[name] = used.get(name, 0.0) + amount * left
    held = sorted((name, amount) for name, amount in holdings.held_by.get(key, {}).items() if amount)
    return Account(key, held=tuple(held), used=tuple(sorted(used.items())))


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
    most = {
        "account": (settings.accelerators_per_account, "the account's quota"),
        "namespace": (settings.accelerators_per_namespace, "the namespace's quota"),
    }
    found = {}
    for key in sorted({quota for account in keys for quota in quota_keys(account, settings)}):
        kind, _, whose = key.partition(":")
        amount, name = most[kind]
        held = view.holdings.accelerators_of[whose]
        found[key] = Quota(key, max(0, (amount or 0) - held), name=name)
    return tuple(found.values())
