"""Why a job waits, in one sentence that names numbers and what to change.

The sentence is built from counts per obstacle and from moments, so it stays the same while the situation
does: no rates, no "in 12 minutes", nothing that flaps as time passes. Its length is bounded: the largest
counts are told, the rest as one number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from fallow.resources.money import format_amount
from fallow.scheduler.capacity import Capacity
from fallow.scheduler.placing import Hunt, obstacles
from fallow.scheduler.requirements import Obstacle
from fallow.scheduler.snapshot import Job, Shape, Snapshot

MAX_REASONS = 5
"""Most obstacles told one by one."""
_STEP_SECONDS = 300
"""Moments are rounded up to these, so that a report that comes late changes no sentence."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Why tasks of a job wait. `reason` is a condition's reason, `sentence` its message."""

    sentence: str
    reason: str = "Waiting"


Soonest = Callable[[Hunt], int | None]
"""Says when a job will find room, in Unix seconds; None when nobody can say."""


def explain(hunt: Hunt, capacity: Capacity, snapshot: Snapshot, soonest: Soonest) -> Wait:
    """Return why `hunt.left` was not placed, when all that could be placed is."""
    job, count = hunt.job, len(hunt.left)
    waiting = f"{count} task{'s wait' if count != 1 else ' waits'}"
    if capacity.nodes == 0:
        return Wait(f"{waiting}: no provider offers any node.", "NoProvider")
    unmet = () if hunt.places else capacity.impossible(hunt.outlook.shape)
    if unmet:
        demands = "; ".join(_DEMANDS[obstacle](job.shape, snapshot.decimals) for obstacle in unmet)
        return Wait(f"{waiting}: no provider meets {demands}.", "RequirementUnmet")
    if not job.gang and job.slots_left is not None and job.slots_left <= 0:
        return Wait(f"{waiting}: parallelism lets no more run at once.", "Parallelism")
    if hunt.short_of_quota:
        return Wait(f"{waiting}: {_quota(job, capacity, snapshot)}", "Quota")
    if hunt.short_of_money is not None:
        return Wait(f"{waiting}: {_money(hunt, capacity, snapshot)}", "Money")
    wants, reasons, nearest, where, about = _common(hunt, capacity, snapshot, soonest)
    if not reasons:
        return Wait(f"{waiting} for a free slot.", "NoRoom")
    near = where
    if job.gang:
        near = f"{nearest} of {count} tasks on {where} now" if 0 < nearest < count else ""
    if about is not None:
        enough = f"{count if job.gang else 'enough'} about {_moment(about)}"
        near = f"{near}, {enough}" if near else enough
    near = f"; nearest fit: {near}" if near else ""
    when = f"; starts by {_moment(hunt.starts_by)} at the latest" if hunt.starts_by is not None else ""
    return Wait(f"{waiting}, each wants {wants}{reasons}{near}{when}.", "NoRoom")


def too_few_owners(hunt: Hunt) -> Wait | None:
    """Return why copies of a replicated job cannot all be placed; None when there are owners enough."""
    owners = {
        candidate.place.provider.owner
        for candidate in hunt.outlook.candidates()
        if hunt.barred(candidate) is None
    }
    if len(owners) >= hunt.job.copies or not owners:  # where there is nobody, there is more to say than that
        return None
    count, there = len(hunt.job.pending), len(owners)
    have = f"{len(hunt.job.other_owners)} have one already, " if hunt.job.other_owners else ""
    return Wait(
        f"{count} task{'s wait' if count != 1 else ' waits'}: {hunt.job.copies} more copies need as many "
        f"owners; {have}{there} other{' takes' if there == 1 else 's take'} part, fit and are open now.",
        "TooFewOwners",
    )


def _common(
    hunt: Hunt, capacity: Capacity, snapshot: Snapshot, soonest: Soonest
) -> tuple[str, str, int, str, int | None]:
    """Return what is the same for all such jobs: what a task wants, what the nodes lack, the nearest fit."""
    job, outlook = hunt.job, hunt.outlook
    alike = outlook.alike(job, limits_guests=capacity.limits_guests) and len(
        hunt.left
    ) <= job.most_per_placement(snapshot.limits)
    note = (job.gang, job.timeout_seconds)
    if alike and (known := outlook.notes.get(note)) is not None:
        return known
    counts = obstacles(hunt, capacity, snapshot.limits, now=snapshot.now)
    wants = _wants(job.shape) + (", all at once on one provider" if job.gang else "")
    told = sorted(
        ((n, _told(o, hunt, snapshot)) for o, n in counts.items() if n), key=lambda one: (-one[0], one[1])
    )
    parts = [f"{n} {text}" for n, text in told[:MAX_REASONS]]
    if told[MAX_REASONS:]:
        parts.append(f"{sum(n for n, _ in told[MAX_REASONS:])} have other reasons")
    nodes = capacity.nodes
    reasons = f": of {nodes} node{'s' if nodes != 1 else ''} {', '.join(parts)}" if parts else ""
    answer = (wants, reasons, *_nearest(hunt, capacity), soonest(hunt))
    if alike:
        outlook.notes[note] = answer
    return answer


def _told(obstacle: Obstacle, hunt: Hunt, snapshot: Snapshot) -> str:
    """Return what stands against nodes, as the end of the sentence "24 nodes …"."""
    away = hunt.outlook.away.get(obstacle)
    if away:
        whose = "1 provider that is" if len(away) == 1 else f"{len(away)} providers that are"
        return str(obstacle.value).replace("providers that are", whose)
    if obstacle is Obstacle.PRICE and hunt.outlook.shape.max_price is not None:
        return f"cost more than {format_amount(hunt.outlook.shape.max_price, decimals=snapshot.decimals)}"
    return str(obstacle.value)


def _nearest(hunt: Hunt, capacity: Capacity) -> tuple[int, str]:
    """Return how close the fleet comes and where: tasks at once for a gang, else accelerators on one node."""
    best, where = 0, ""
    wanted = sum(amount for _, amount in hunt.job.shape.accelerators)
    for candidate in hunt.outlook.candidates():
        survey = capacity.survey(candidate.place, hunt.outlook.request)
        # A node with as many free accelerators as wanted lacks something else: no near fit to name.
        close = survey.copies if hunt.job.gang else survey.most_accelerators
        if close > best and (hunt.job.gang or close < wanted):
            best, where = close, candidate.place.provider.name
    if not hunt.job.gang and best:
        where = f"{best} of {wanted} accelerators on one node of {where} now"
    return best, where


def _moment(unix: int) -> str:
    """Return a moment in words, rounded up."""
    rounded = -(-unix // _STEP_SECONDS) * _STEP_SECONDS
    return datetime.fromtimestamp(rounded, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _quota(job: Job, capacity: Capacity, snapshot: Snapshot) -> str:
    """Name the quota that leaves least."""
    each = sum(amount for _, amount in job.shape.accelerators)
    quotas = [(quota.accelerators_left, quota.name) for quota in snapshot.quotas if quota.key in job.quotas]
    left, name = min(quotas, default=(0, "the quota"))
    what = f"the gang wants {each * len(job.pending)}" if job.gang else f"one more task wants {each}"
    return f"{what} accelerator{'s' if each != 1 else ''}, and {name} left {max(0, left)} to begin with."


def _money(hunt: Hunt, capacity: Capacity, snapshot: Snapshot) -> str:
    """Name what one more task (or the gang) reserves and which purse is too small for it."""
    job = hunt.job
    needed = format_amount(hunt.short_of_money or 0, decimals=snapshot.decimals)
    what = "the gang" if job.gang else "one more task"
    spent = sum(place.reserved for place in hunt.places)
    sources = [(purse.available, purse.name) for purse in snapshot.purses if purse.key in job.purses]
    if job.budget_left is not None:
        sources.append((job.budget_left, "budget.maxTotal"))
    available, source = min(sources, default=(0, "the account"))
    left = format_amount(max(0, available - spent), decimals=snapshot.decimals)
    return f"{what} reserves {needed}, and {source} leaves {left}."


def _wants(shape: Shape) -> str:
    kind = [*shape.requirements.products[:2], shape.requirements.interconnect]
    which = f" ({', '.join(one for one in kind if one)})" if any(kind) else ""
    parts = [f"{amount} × {name}{which}" for name, amount in shape.accelerators]
    amounts = dict(shape.request)
    if amounts.get("cpu"):
        parts.append(f"{amounts['cpu']}m cpu")
    if amounts.get("memory"):
        parts.append(f"{amounts['memory']}Mi memory")
    return " + ".join(parts) if parts else "a pod"


def _list(values: tuple[str, ...]) -> str:
    return f"[{', '.join(values)}]"


_DEMANDS: dict[Obstacle, Callable[[Shape, int], str]] = {
    Obstacle.NOT_ASKED: lambda shape, _: (
        f"requirements.providers {_list(shape.requirements.providers)}"
        if shape.requirements.providers
        else f"requirements.excludeProviders {_list(shape.requirements.excluded_providers)}"
    ),
    Obstacle.REGION: lambda shape, _: f"requirements.regions {_list(shape.requirements.regions)}",
    Obstacle.ISOLATION: lambda shape, _: f"requirements.isolation {shape.requirements.isolation}",
    Obstacle.NOT_REPLICATING: lambda _shape, _: "the wish for replicated verification",
    Obstacle.RECORD: lambda shape, _: (
        f"requirements.minAgreedResults {shape.requirements.min_agreed_results} and "
        f"maxDisagreedPercent {shape.requirements.max_disagreed_percent}"
    ),
    Obstacle.ACCOUNT: lambda shape, _: f"the need to work for payer {shape.account}",
    Obstacle.IMAGE: lambda shape, _: f"the need to allow the images {_list(shape.images)}",
    Obstacle.STORAGE: lambda shape, _: (
        f"the wish for {dict(shape.request).get('ephemeral-storage', 0)}Mi of ephemeral storage"
    ),
    Obstacle.PRODUCT: lambda shape, _: (
        f"requirements.acceleratorProducts {_list(shape.requirements.products)}"
    ),
    Obstacle.ACCELERATOR_MEMORY: lambda shape, _: (
        f"requirements.minAcceleratorMemoryMiB {shape.requirements.min_accelerator_memory_mib}"
    ),
    Obstacle.INTERCONNECT: lambda shape, _: f"requirements.interconnect {shape.requirements.interconnect}",
    Obstacle.LABELS: lambda shape, _: (
        "requirements.nodeLabels " + _list(tuple(f"{k}={v}" for k, v in shape.requirements.node_labels))
    ),
    Obstacle.TOO_SMALL: lambda shape, _: f"the requests of one task ({_wants(shape)}) on one node",
    Obstacle.UNPRICED: lambda shape, _: (
        "a price for " + " and ".join(name for name, _ in shape.accelerators) + " in its Quote"
    ),
    Obstacle.PRICE: lambda shape, decimals: (
        f"budget.maxPricePerTaskHour {format_amount(shape.max_price or 0, decimals=decimals)}"
    ),
}
