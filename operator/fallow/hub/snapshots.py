"""From the view to the scheduler's snapshot: what is free, what may be spent, who waits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from fallow.hub import records, sharing, trust
from fallow.hub.acceptance import MAX_INLINE_TASKS
from fallow.hub.claims import paid_of
from fallow.hub.jobs import JobRecord
from fallow.hub.placements import JSON, most_of, payee_of
from fallow.hub.providers import Standing
from fallow.hub.slices import Slices
from fallow.hub.view import HubView
from fallow.receipts.pricing import UnitPrices
from fallow.receipts.statements import unit_prices, unix_seconds
from fallow.resources.money import parse_amount
from fallow.resources.quote import QuoteSpec
from fallow.scheduler.replication import Want
from fallow.scheduler.snapshot import (
    CPU,
    MEMORY,
    PODS,
    STORAGE,
    Job,
    Limits,
    Node,
    Pool,
    Provider,
    Purse,
    Snapshot,
)
from fallow.settings import SharingSettings, TrustSettings

NEUTRAL = SharingSettings()


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job with tasks to place, and its account."""

    uid: str
    obj: JSON
    record: JobRecord
    account: JSON
    avoided: frozenset[str] = frozenset()
    want: Want | None = None
    """Of a replicated job: the copies to place now."""
    speaks: bool = True
    """Whether the job is to say why these copies wait, when others wait too."""


def budget_left(view: HubView, uid: str, record: JobRecord) -> int | None:
    """Return what `budget.maxTotal` leaves of a job; None without one."""
    if record.wish.max_total is None:
        return None
    spent = sum(share.amount for share in record.folded.shares.values())
    for placed in view.live(uid):
        if placed.number not in record.folded.placements:
            closed = placed.uid in view.claim_of
            spent += paid_of(*view.claims_of_placement(placed.uid)).amount if closed else most_of(placed)
    return max(0, record.wish.max_total - spent)


def purses(view: HubView, accounts: Iterable[JSON], *, decimals: int, now: int) -> dict[str, list[Purse]]:
    """Return by account ("namespace/name") the purses that must all carry what its jobs reserve."""
    newest: dict[str, JSON] = {}
    for account in view.accounts:
        payer = account["spec"]["payer"].lower()
        known = newest.get(payer)
        if known is None or _block(account) > _block(known):
            newest[payer] = account
    result: dict[str, list[Purse]] = {}
    for account in accounts:
        key = key_of(account)
        payer = account["spec"]["payer"].lower()
        read = newest.get(payer, account)
        status, block = read.get("status") or {}, _block(read)
        balance = parse_amount(status.get("balance") or "0", decimals=decimals)
        notice = parse_amount(status.get("underNotice") or "0", decimals=decimals)
        name = f"account {account['metadata']['name']}"
        left = balance - notice - view.charges.of_payer(payer, observed_block=block)
        held = [Purse(f"payer:{payer}", max(0, left), name=name)]
        limits = account["spec"].get("limits") or {}
        if limits.get("maxTotal") is not None:
            settled = parse_amount(status.get("settled") or "0", decimals=decimals)
            left = parse_amount(limits["maxTotal"], decimals=decimals) - settled
            left -= view.charges.of_account(key, payer, observed_block=block)
            held.append(Purse(f"total:{key}", max(0, left), name=f"{name}'s limit maxTotal"))
        if limits.get("maxPerDay") is not None:
            left = parse_amount(limits["maxPerDay"], decimals=decimals)
            left -= view.charges.in_a_day(key, now=now)
            held.append(Purse(f"day:{key}", max(0, left), name=f"{name}'s limit maxPerDay"))
        result[key] = held + sharing.spend_purses(view, key, now=now)
    return result


def purse_keys(account: JSON) -> tuple[str, ...]:
    """Return the keys of the purses that an account's jobs draw on."""
    key, limits = key_of(account), account["spec"].get("limits") or {}
    keys = [f"payer:{account['spec']['payer'].lower()}"]
    keys += [f"total:{key}"] if limits.get("maxTotal") is not None else []
    keys += [f"day:{key}"] if limits.get("maxPerDay") is not None else []
    return tuple(keys)


def key_of(account: JSON) -> str:
    """Return an account's "namespace/name"."""
    return f"{account['metadata']['namespace']}/{account['metadata']['name']}"


def _block(account: JSON) -> int:
    return int((account.get("status") or {}).get("observedBlock") or 0)


def offerable(node: JSON) -> dict[str, int]:
    """Return what a ProviderNode offers, as a vector."""
    given = node["spec"].get("offerable") or {}
    return {
        CPU: given.get("cpuMillicores") or 0,
        MEMORY: given.get("memoryMiB") or 0,
        STORAGE: given.get("ephemeralStorageMiB") or 0,
        PODS: given.get("pods") or 0,
        **(given.get("accelerators") or {}),
    }


def pools(
    view: HubView, provider: str, prices: Mapping[str, UnitPrices], *, label_keys: frozenset[str]
) -> tuple[Pool, ...]:
    """Group a provider's nodes by what decides price and requirements; `prices` are by product."""
    groups: dict[tuple[str, int, str, tuple[tuple[str, str], ...]], list[Node]] = {}
    for node in view.nodes_of(provider):
        spec = node["spec"]
        labels = spec.get("labels") or {}
        key = (
            spec.get("product") or "",
            spec.get("acceleratorMemoryMiB") or 0,
            spec.get("interconnect") or "",
            tuple(sorted((name, labels[name]) for name in label_keys & labels.keys())),
        )
        free = offerable(node)
        whole = dict(free)
        for name, amount in view.holdings.on_node(provider, spec["nodeName"]).items():
            free[name] = free.get(name, 0) - amount
        groups.setdefault(key, []).append(Node(spec["nodeName"], whole, free))
    return tuple(
        Pool(
            product=product,
            nodes=tuple(sorted(nodes, key=lambda node: node.name)),
            prices=prices[product],
            accelerator_memory_mib=memory,
            interconnect=interconnect,
            labels=labels,
        )
        for (product, memory, interconnect, labels), nodes in sorted(groups.items())
    )


def provider_of(
    view: HubView,
    obj: JSON,
    standing: Standing,
    *,
    label_keys: frozenset[str],
    decimals: int,
    allowed: int | None = None,
) -> Provider | None:
    """Return a provider as the scheduler sees it; None while it has no usable Quote.

    `allowed` is how many of its slots may be used at once, where that is less than it offers.
    """
    name, quote = obj["metadata"]["name"], standing.quote
    if quote is None:
        return None
    nodes = view.nodes_of(name)
    prices: dict[str, UnitPrices] = {}
    resources = {entry.resource for entry in quote.prices.accelerators}
    for product in {node["spec"].get("product") or "" for node in nodes}:
        prices[product] = unit_prices(quote.prices, resources=resources, product=product, decimals=decimals)
    most = quote.limits.max_guests if allowed is None else min(allowed, quote.limits.max_guests)
    record = records.read(obj.get("status") or {})
    return Provider(
        name=name,
        pools=pools(view, name, prices, label_keys=label_keys),
        refuses=standing.refuses,
        region=obj["spec"]["region"],
        owner=obj["spec"]["ownerId"],
        replicate=quote.replicate,
        isolation=quote.isolation,
        image_patterns=quote.image_patterns,
        accounts_allowed=quote.accounts_allowed,
        accounts_refused=quote.accounts_refused,
        max_run_seconds=quote.limits.max_run_seconds,
        max_storage_mib=quote.limits.max_ephemeral_storage_mib,
        guests_left=max(0, most - view.holdings.guests[name]),
        agreed=record.agreed,
        disagreed=record.disagreed,
    )


class Supplies:
    """Providers as the scheduler sees them, each worked out anew only where something has changed."""

    def __init__(self, trusted: TrustSettings | None = None) -> None:
        self._trusted = trusted or TrustSettings()
        self._known: dict[str, tuple[_Seen, Provider | None]] = {}

    def of(
        self,
        view: HubView,
        standings: Mapping[str, Standing],
        *,
        label_keys: frozenset[str],
        decimals: int,
    ) -> Slices[list[Provider]]:
        """Return all providers that have a usable Quote, those whose results were never contradicted first.

        The same value where nothing changed.
        """
        known, self._known = self._known, {}
        for obj in view.providers:
            name = obj["metadata"]["name"]
            standing = standings.get(name)
            if standing is None:
                continue
            allowed = trust.slots_allowed(
                obj, self._trusted, earned=view.earned[payee_of(obj)], decimals=decimals
            )
            seen = _Seen(view.supply_versions[name], standing.refuses, standing.quote, label_keys, allowed)
            before = known.get(name)
            if before is not None and before[0] == seen:
                self._known[name] = before
                continue
            yield None
            found = provider_of(
                view, obj, standing, label_keys=label_keys, decimals=decimals, allowed=allowed
            )
            self._known[name] = (seen, found)
        found_by_name = [found for _, (_, found) in sorted(self._known.items()) if found is not None]
        # Their order decides between places that are equal in price and worth.
        return sorted(
            found_by_name,
            key=lambda one: trust.rank(records.Tally(agreed=one.agreed, disagreed=one.disagreed)),
        )


class _Seen(NamedTuple):
    """What a provider was worked out from."""

    version: int
    refuses: str
    quote: QuoteSpec | None
    label_keys: frozenset[str]
    allowed: int | None


def build(
    view: HubView,
    jobs: Iterable[Job],
    accounts: Mapping[str, JSON],
    standings: Mapping[str, Standing],
    *,
    label_keys: frozenset[str],
    limits: Limits,
    decimals: int,
    now: int,
    shared: SharingSettings = NEUTRAL,
    supplies: Supplies | None = None,
) -> Slices[Snapshot]:
    """Return the snapshot of the jobs that wait, their accounts by "namespace/name", and all that is free.

    `label_keys` are the node labels that jobs ask for, `now` is Unix time, `supplies` is kept between cycles.
    """
    held = purses(view, accounts.values(), decimals=decimals, now=now)
    providers = yield from (supplies or Supplies()).of(
        view, standings, label_keys=label_keys, decimals=decimals
    )
    return Snapshot(
        jobs=tuple(jobs),
        providers=tuple(providers),
        purses=tuple({purse.key: purse for some in held.values() for purse in some}.values()),
        limits=limits,
        decimals=decimals,
        quotas=sharing.quotas(view, accounts, shared),
        accounts=sharing.accounts(view, accounts, shared, now=now),
        running=sharing.running(view, now=now),
        now=now,
    )


def job_of(view: HubView, one: Waiting, shared: SharingSettings) -> Job | None:
    """Return a job as the scheduler sees it: the same value until it or its account is looked at anew."""
    record, spec, shape = one.record, one.record.wish.spec, one.record.wish.shape
    if spec is None or shape is None or record.standing is None:
        return None
    # NB: whatever else it depends on (placements, claims, its spec) makes the cycle add it up anew.
    known, of = record.asked, record.asked_of
    same = of is not None and of[0] is record.standing and of[1] is one.account and one.want is None
    if known is not None and same and known.avoided_providers == one.avoided:
        return known
    key = key_of(one.account)
    slots = sum(sum(placed.slots_held().values()) for placed in view.live(one.uid))
    record.asked_of = (record.standing, one.account)
    record.asked = Job(
        uid=one.uid,
        name=f"{one.obj['metadata']['namespace']}/{one.obj['metadata']['name']}",
        shape=replace(shape, account=one.account["spec"]["payer"].lower(), replicated=one.want is not None),
        pending=record.standing.pending if one.want is None else one.want.tasks,
        other_owners=frozenset() if one.want is None else one.want.owners,
        copies=1 if one.want is None else one.want.copies,
        account=key,
        quotas=sharing.quota_keys(view, key, shared),
        purses=(
            *purse_keys(one.account),
            *(f"spend-{quota}" for quota in sorted(view.grants.spend_per_day(key))),
        ),
        providers_used=frozenset(record.standing.shares),
        avoided_providers=one.avoided,
        budget_left=budget_left(view, one.uid, record),
        created=unix_seconds(one.obj["metadata"]["creationTimestamp"]),
        priority=spec.priority,
        gang=spec.gang,
        slots_left=None if spec.parallelism is None else max(0, spec.parallelism - slots),
        timeout_seconds=spec.task_timeout_seconds,
        placement_tasks=MAX_INLINE_TASKS if spec.results == "Inline" else None,
    )
    return record.asked
