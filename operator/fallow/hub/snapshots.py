"""From the view to the scheduler's snapshot: what is free, what may be spent, who waits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from fallow.hub import sharing
from fallow.hub.acceptance import MAX_INLINE_TASKS
from fallow.hub.claims import paid_of
from fallow.hub.jobs import JobRecord
from fallow.hub.placements import JSON, Placed
from fallow.hub.providers import Standing
from fallow.hub.view import HubView
from fallow.receipts.pricing import UnitPrices, cumulative_amount
from fallow.receipts.statements import unit_prices, unix_seconds
from fallow.resources.money import parse_amount
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
from fallow.settings import SharingSettings

DAY_SECONDS = 86_400
NEUTRAL = SharingSettings()


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job with tasks to place, and its account."""

    uid: str
    obj: JSON
    record: JobRecord
    account: JSON
    avoided: frozenset[str] = frozenset()


def most_of(placed: Placed) -> int:
    """Return the most that a placement can still come to: what ended, and all the rest to its time-out.

    A gang's ended tasks stay in: their fate is open.
    """
    unended = len(placed.open - placed.released)
    seconds = placed.payable_seconds + unended * placed.timeout_seconds
    return cumulative_amount(total_seconds=seconds, price_per_task_hour=placed.price)


def budget_left(view: HubView, uid: str, record: JobRecord) -> int | None:
    """Return what `budget.maxTotal` leaves of a job; None without one."""
    if record.wish.max_total is None:
        return None
    spent = sum(share.amount for share in record.folded.shares.values())
    for placed in view.live(uid):
        if placed.number not in record.folded.placements:
            claim = view.claim_of.get(placed.uid)
            spent += paid_of(claim).amount if claim is not None else most_of(placed)
    return max(0, record.wish.max_total - spent)


@dataclass(frozen=True, slots=True)
class _Charges:
    """What is reserved or claimed but not yet in a balance, by payer and by account."""

    by_payer: Mapping[str, int]
    by_account: Mapping[str, int]
    in_a_day: Mapping[str, int]
    """Claims of the last 24 hours and what is reserved, by account."""


def charges(view: HubView, *, decimals: int, now: int) -> _Charges:
    """Add up reservations of live placements and claims that no balance shows yet."""
    by_payer: dict[str, int] = {}
    by_account: dict[str, int] = {}
    in_a_day: dict[str, int] = {}

    def charge(payer: str, account: str, amount: int, *, open_: bool, today: bool) -> None:
        if open_:
            by_payer[payer] = by_payer.get(payer, 0) + amount
            by_account[account] = by_account.get(account, 0) + amount
        if today:
            in_a_day[account] = in_a_day.get(account, 0) + amount

    blocks = _observed_blocks(view)
    for of_job in view.placed.values():
        for placed in of_job.values():
            if placed.uid not in view.claim_of:
                charge(placed.payer, placed.account, most_of(placed), open_=True, today=True)
    for claim in view.claims:
        terms = claim["spec"]["terms"]
        payer = terms["account"]["payer"].lower()
        status = claim.get("status") or {}
        seen = blocks.get(payer, -1) >= (status.get("block") or 0)
        charge(
            payer,
            f"{terms['accountNamespace']}/{terms['accountName']}",
            parse_amount(claim["spec"]["amount"], decimals=decimals),
            # A settled claim counts until the balance that we read is of its block or later.
            open_=status.get("state") != "Refused" and not (status.get("state") == "Settled" and seen),
            today=now - unix_seconds(claim["metadata"]["creationTimestamp"]) < DAY_SECONDS,
        )
    return _Charges(by_payer, by_account, in_a_day)


def _observed_blocks(view: HubView) -> dict[str, int]:
    """Return by payer the block of the balance that `purses` uses: the newest."""
    blocks: dict[str, int] = {}
    for account in view.accounts:
        payer = account["spec"]["payer"].lower()
        block = (account.get("status") or {}).get("observedBlock") or 0
        blocks[payer] = max(blocks.get(payer, -1), block)
    return blocks


def purses(view: HubView, accounts: Iterable[JSON], *, decimals: int, now: int) -> dict[str, list[Purse]]:
    """Return by account ("namespace/name") the purses that must all carry what its jobs reserve."""
    charged = charges(view, decimals=decimals, now=now)
    newest: dict[str, JSON] = {}
    for account in view.accounts:
        payer = account["spec"]["payer"].lower()
        known = newest.get(payer)
        if known is None or _block(account) > _block(known):
            newest[payer] = account
    result: dict[str, list[Purse]] = {}
    for account in accounts:
        key = f"{account['metadata']['namespace']}/{account['metadata']['name']}"
        payer = account["spec"]["payer"].lower()
        status = newest.get(payer, account).get("status") or {}
        balance = parse_amount(status.get("balance") or "0", decimals=decimals)
        notice = parse_amount(status.get("underNotice") or "0", decimals=decimals)
        name = f"account {account['metadata']['name']}"
        held = [Purse(f"payer:{payer}", max(0, balance - notice - charged.by_payer.get(payer, 0)), name=name)]
        limits = account["spec"].get("limits") or {}
        if limits.get("maxTotal") is not None:
            settled = parse_amount(status.get("settled") or "0", decimals=decimals)
            left = parse_amount(limits["maxTotal"], decimals=decimals) - settled
            left -= charged.by_account.get(key, 0)
            held.append(Purse(f"total:{key}", max(0, left), name=f"{name}'s limit maxTotal"))
        if limits.get("maxPerDay") is not None:
            left = parse_amount(limits["maxPerDay"], decimals=decimals) - charged.in_a_day.get(key, 0)
            held.append(Purse(f"day:{key}", max(0, left), name=f"{name}'s limit maxPerDay"))
        result[key] = held
    return result


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
    view: HubView, obj: JSON, standing: Standing, *, label_keys: frozenset[str], decimals: int
) -> Provider | None:
    """Return a provider as the scheduler sees it; None while it has no usable Quote."""
    name, quote = obj["metadata"]["name"], standing.quote
    if quote is None:
        return None
    nodes = view.nodes_of(name)
    prices: dict[str, UnitPrices] = {}
    resources = {entry.resource for entry in quote.prices.accelerators}
    for product in {node["spec"].get("product") or "" for node in nodes}:
        prices[product] = unit_prices(quote.prices, resources=resources, product=product, decimals=decimals)
    return Provider(
        name=name,
        pools=pools(view, name, prices, label_keys=label_keys),
        refuses=standing.refuses,
        region=obj["spec"]["region"],
        isolation=quote.isolation,
        image_patterns=quote.image_patterns,
        accounts_allowed=quote.accounts_allowed,
        accounts_refused=quote.accounts_refused,
        max_run_seconds=quote.limits.max_run_seconds,
        max_storage_mib=quote.limits.max_ephemeral_storage_mib,
        guests_left=max(0, quote.limits.max_guests - view.holdings.guests[name]),
    )


def build(
    view: HubView,
    waiting: Iterable[Waiting],
    standings: Mapping[str, Standing],
    *,
    limits: Limits,
    decimals: int,
    now: int,
    shared: SharingSettings = NEUTRAL,
) -> Snapshot:
    """Return the snapshot of all jobs that wait; `now` is Unix time."""
    jobs, accounts = [], {}
    label_keys: set[str] = set()
    for one in waiting:
        record, spec, shape = one.record, one.record.wish.spec, one.record.wish.shape
        if spec is None or shape is None or record.standing is None:
            continue
        key = f"{one.account['metadata']['namespace']}/{one.account['metadata']['name']}"
        accounts[key] = one.account
        label_keys |= {name for name, _ in shape.requirements.node_labels}
        slots = sum(sum(placed.slots_held().values()) for placed in view.live(one.uid))
        jobs.append(
            Job(
                uid=one.uid,
                name=f"{one.obj['metadata']['namespace']}/{one.obj['metadata']['name']}",
                shape=replace(shape, account=one.account["spec"]["payer"].lower()),
                pending=record.standing.pending,
                account=key,
                quotas=sharing.quota_keys(key, shared),
                purses=(key,),  # replaced below, when the purses of all accounts are known
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
        )
    held = purses(view, accounts.values(), decimals=decimals, now=now)
    providers = [
        provider_of(view, obj, standings[name], label_keys=frozenset(label_keys), decimals=decimals)
        for obj in sorted(view.providers, key=lambda obj: str(obj["metadata"]["name"]))
        if (name := obj["metadata"]["name"]) in standings
    ]
    return Snapshot(
        jobs=tuple(replace(job, purses=tuple(purse.key for purse in held[job.purses[0]])) for job in jobs),
        providers=tuple(provider for provider in providers if provider is not None),
        purses=tuple({purse.key: purse for some in held.values() for purse in some}.values()),
        limits=limits,
        decimals=decimals,
        quotas=sharing.quotas(view, accounts, shared),
        accounts=sharing.accounts(view, accounts, shared, now=now),
        running=sharing.running(view, now=now),
        now=now,
    )
