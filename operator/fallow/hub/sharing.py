"""What fair sharing, quotas and reservations are decided on: who holds and lately used what, until when."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from fallow.hub.holdings import USE_STEP_SECONDS, Holdings
from fallow.hub.quotas import name_of
from fallow.hub.view import HubView
from fallow.scheduler.fairness import decayed
from fallow.scheduler.snapshot import Account, Purse, Quota, Running
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
    return tuple(
        replace(_account(view.holdings, key, settings, now=now), weight=view.grants.weight(key))
        for key in sorted(set(keys))
    )


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


def quota_keys(view: HubView, account: str, settings: SharingSettings) -> tuple[str, ...]:
    """Return the keys of the quotas of accelerators that hold for jobs of an account."""
    return tuple(sorted(_most(view, account, settings)))


def quotas(view: HubView, accounts: Iterable[str], settings: SharingSettings) -> tuple[Quota, ...]:
    """Return what the quotas of these accounts leave."""
    most = {key: amount for account in accounts for key, amount in _most(view, account, settings).items()}
    return tuple(
        Quota(key, max(0, amount - view.holdings.accelerators_of[key.partition(":")[2]]), name=name_of(key))
        for key, amount in sorted(most.items())
    )


def _most(view: HubView, account: str, settings: SharingSettings) -> dict[str, int]:
    """Return the quotas of an account: what its namespace was granted, else what the settings say for all."""
    everybody = {
        f"account:{account}": settings.accelerators_per_account,
        f"namespace:{account.partition('/')[0]}": settings.accelerators_per_namespace,
    }
    found = {key: amount for key, amount in everybody.items() if amount is not None}
    return found | view.grants.accelerators(account)


def spend_purses(view: HubView, account: str, *, now: int) -> list[Purse]:
    """Return what the quotas of spend per day leave for an account; `now` is Unix time."""
    found = []
    for key, most in sorted(view.grants.spend_per_day(account).items()):
        kind, _, whose = key.partition(":")
        if kind == "account":
            spent = view.charges.in_a_day(whose, now=now)
        else:
            spent = view.charges.namespace_in_a_day(whose, now=now)
        found.append(Purse(f"spend-{key}", max(0, most - spent), name=name_of(key, daily=True)))
    return found
