"""Why a job waits, in one sentence that names numbers and what to change.

The sentence is built from counts per obstacle only, so it stays the same while the situation does: no times,
no rates, nothing that flaps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fallow.resources.money import format_amount
from fallow.scheduler.placing import Answer
from fallow.scheduler.requirements import Obstacle, impossible
from fallow.scheduler.snapshot import Job, Shape, Snapshot


@dataclass(frozen=True, slots=True)
class Wait:
    """Why tasks of a job wait. `reason` is a condition's reason, `sentence` its message."""

    sentence: str
    reason: str = "Waiting"


def explain(job: Job, answer: Answer, snapshot: Snapshot) -> Wait:
    """Return why `answer.left` was not placed."""
    count = len(answer.left)
    waiting = f"{count} task{'s wait' if count != 1 else ' waits'}"
    nodes = sum(len(pool.nodes) for provider in snapshot.providers for pool in provider.pools)
    if nodes == 0:
        return Wait(f"{waiting}: no provider offers any node.", "NoProvider")
    unmet = () if answer.places else impossible(job.shape, snapshot.providers)
    if unmet:
        demands = "; ".join(_DEMANDS[obstacle](job.shape, snapshot.decimals) for obstacle in unmet)
        return Wait(f"{waiting}: no provider meets {demands}.", "RequirementUnmet")
    if answer.held_by_parallelism:
        return Wait(f"{waiting}: parallelism lets no more run at once.", "Parallelism")
    if answer.short_of_money is not None:
        return Wait(f"{waiting}: {_money(job, answer, snapshot)}", "Money")
    wants = f"{waiting}, each wants {_wants(job.shape)}" + (
        ", all at once on one provider" if job.gang else ""
    )
    reasons = ", ".join(
        f"{counted} {obstacle.value}" for obstacle, counted in answer.obstacles.most_common() if counted
    )
    if not reasons:
        return Wait(f"{waiting} for a free slot.", "NoRoom")
    return Wait(f"{wants}: of {nodes} node{'s' if nodes != 1 else ''} {reasons}.", "NoRoom")


def _money(job: Job, answer: Answer, snapshot: Snapshot) -> str:
    """Name what one more task (or the gang) reserves and which purse is too small for it."""
    needed = format_amount(answer.short_of_money or 0, decimals=snapshot.decimals)
    what = "the gang" if job.gang else "one more task"
    spent = sum(place.reserved for place in answer.places)
    sources = [(purse.available, purse.name) for purse in snapshot.purses if purse.key in job.purses]
    if job.budget_left is not None:
        sources.append((job.budget_left, "budget.maxTotal"))
    available, source = min(sources, default=(0, "the account"))
    left = format_amount(max(0, available - spent), decimals=snapshot.decimals)
    return f"{what} reserves {needed}, and {source} leaves {left}."


def _wants(shape: Shape) -> str:
    parts = [f"{amount} {name}" for name, amount in shape.accelerators]
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
