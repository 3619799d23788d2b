"""What the hub's API server says right now: jobs, placements, claims, as one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from devkit.rig import ApiServer

GROUP = "/apis/fallow.dev/v1alpha1"


@dataclass(frozen=True, kw_only=True)
class JobLine:
    """One job, as its status has it."""

    name: str
    uid: str
    gpus_per_task: int
    tasks: int
    pending: int
    placed: int
    running: int
    succeeded: int
    failed: int
    cost: str
    message: str
    conditions: dict[str, str]

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen: succeeded and paid, or failed, or refused."""
        return (
            self.conditions.get("Settled") == "True"
            or self.conditions.get("Failed") == "True"
            or self.conditions.get("Accepted") == "False"
        )


@dataclass(frozen=True, kw_only=True)
class ClaimLine:
    """One claim."""

    name: str
    provider: str
    job_uid: str
    payer: str
    payee: str
    attempts: int
    seconds: int
    amount: str
    state: str
    transaction: str


@dataclass(frozen=True, kw_only=True)
class Picture:
    """All of it at one moment."""

    jobs: tuple[JobLine, ...]
    claims: tuple[ClaimLine, ...]
    placements: dict[str, dict[str, int]]
    """Count of live placements by provider and state."""


def take(client: ApiServer) -> Picture:
    """Read jobs, placements and claims."""
    placements: dict[str, dict[str, int]] = {}
    for item in client.get(f"{GROUP}/placements")["items"]:
        provider = item["spec"]["terms"]["provider"]
        state = item.get("status", {}).get("state", "Pending")
        states = placements.setdefault(provider, {})
        states[state] = states.get(state, 0) + 1
    return Picture(
        jobs=tuple(_job(item) for item in client.get(f"{GROUP}/computejobs")["items"]),
        claims=tuple(_claim(item) for item in client.get(f"{GROUP}/paymentclaims")["items"]),
        placements=placements,
    )


def _job(item: dict[str, Any]) -> JobLine:
    status = item.get("status", {})
    counts = status.get("counts", {})
    containers = item["spec"]["template"]["spec"]["containers"]
    limits = [container.get("resources", {}).get("limits", {}) for container in containers]
    return JobLine(
        name=item["metadata"]["name"],
        uid=item["metadata"]["uid"],
        gpus_per_task=sum(int(limit.get("nvidia.com/gpu", 0)) for limit in limits),
        tasks=item["spec"]["tasks"],
        pending=counts.get("pending", item["spec"]["tasks"]),
        placed=counts.get("placed", 0),
        running=counts.get("running", 0),
        succeeded=counts.get("succeeded", 0),
        failed=counts.get("failed", 0),
        cost=status.get("cost", "0"),
        message=status.get("message", ""),
        conditions={entry["type"]: entry["status"] for entry in status.get("conditions", [])},
    )


def _claim(item: dict[str, Any]) -> ClaimLine:
    spec, status = item["spec"], item.get("status", {})
    return ClaimLine(
        name=item["metadata"]["name"],
        provider=spec["terms"]["provider"],
        job_uid=spec["job"]["uid"],
        payer=spec["terms"]["account"]["payer"],
        payee=spec["terms"]["quote"]["payee"],
        attempts=len(spec["ended"]),
        seconds=spec["seconds"],
        amount=spec["amount"],
        state=status.get("state", "Pending"),
        transaction=status.get("transaction", ""),
    )
