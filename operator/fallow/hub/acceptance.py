"""Whether the hub takes a job: every fault as one sentence that says what to change.

The API server has checked what a schema can say. This is the rest: the template's allow-list, amounts, names,
and what containers request. It depends on the job alone, so the answer is for good; whether its account can
pay and whether anybody can run it are questions for every cycle (`problem_of_account`, the scheduler).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fallow.errors import FallowError, QuantityError
from fallow.hub.template_rules import faults
from fallow.receipts.requests import effective_requests
from fallow.receipts.statements import unix_seconds
from fallow.resources.base import MAX_TASKS_PER_PLACEMENT
from fallow.resources.computejob import ComputeJobSpec
from fallow.resources.money import parse_amount
from fallow.resources.quantities import mebibytes, parse_quantity
from fallow.scheduler.snapshot import CPU, MEMORY, PODS, STORAGE

MAX_FAULTS = 8
"""Sentences in one condition; more are counted."""
MAX_MESSAGE = 1024
MAX_INLINE_TASKS = 256
"""Most tasks of a placement that carries results of up to 1 KiB each."""
_NATIVE = frozenset({CPU, MEMORY, STORAGE})


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a job is taken. `reason` and `message` are those of its Accepted condition."""

    accepted: bool
    reason: str
    message: str


def judge(job: Mapping[str, Any], *, decimals: int, shortest_interval_seconds: int = 0) -> Verdict:
    """Judge a ComputeJob object; never raises, whatever is in it."""
    return read_and_judge(job, decimals=decimals, shortest_interval_seconds=shortest_interval_seconds)[0]


def read_and_judge(
    job: Mapping[str, Any], *, decimals: int, shortest_interval_seconds: int = 0
) -> tuple[Verdict, ComputeJobSpec | None]:
    """Judge a ComputeJob object, and return its spec where it can be read at all."""
    try:
        spec = ComputeJobSpec.model_validate(job["spec"])
    except ValueError as error:
        said = _short([f"spec does not fit its schema: {_first_line(error)}"])
        return Verdict(False, "Invalid", said), None
    found = _judged(job, spec, decimals=decimals, shortest_interval_seconds=shortest_interval_seconds)
    return found, spec


def _judged(
    job: Mapping[str, Any], spec: ComputeJobSpec, *, decimals: int, shortest_interval_seconds: int
) -> Verdict:
    found: list[str] = []
    reason = "TemplateRefused"
    found += faults(job["spec"]["template"])
    found += _labels(job["spec"]["template"].get("metadata") or {})
    found += _containers(job["spec"]["template"]["spec"])
    if not found:
        reason = "Invalid"
    found += _amounts(spec, decimals=decimals)
    found += _shape(job, spec)
    found += _interval(spec, shortest_seconds=shortest_interval_seconds)
    if found:
        return Verdict(False, reason, _short(found))
    return Verdict(True, "Accepted", "The hub takes this job.")


def request_of(pod: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    """Return what one task takes of a node: effective requests, ephemeral storage and the pod itself.

    Raises QuantityError for what is no quantity.
    """
    requests = effective_requests(pod)
    storage = 0
    for container in pod.get("containers") or ():
        resources = container.get("resources") or {}
        amounts = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
        storage += mebibytes(amounts.get(STORAGE, 0))
    wanted = {
        CPU: requests.cpu_millicores,
        MEMORY: requests.memory_mib,
        STORAGE: storage,
        PODS: 1,
        **requests.devices,
    }
    return tuple(sorted((name, amount) for name, amount in wanted.items() if amount))


def problem_of_account(account: Mapping[str, Any] | None, *, name: str, ledger: bool, now: int) -> str:
    """Return why nothing can be charged to an Account object (None: there is none), or ""."""
    if account is None:
        return f"Account {name} does not exist in this namespace: create it or set spec.accountRef.name."
    given = {one["type"]: one for one in (account.get("status") or {}).get("conditions") or ()}
    bound, funded = given.get("Bound"), given.get("Funded")
    if bound is None:
        return f"Account {name} has not been checked by the settler yet."
    if bound["status"] != "True":
        return (
            f"Account {name} is not bound by its payer's signature: {bound.get('message') or bound['reason']}"
        )
    if funded is None or funded["status"] != "True":
        said = (funded or {}).get("message") or "there is nothing to spend"
        return f"Account {name} cannot pay: {said}"
    authorization = account["spec"].get("authorization")
    if authorization is not None and not ledger and unix_seconds(authorization["expiresAt"]) <= now:
        return f"Account {name}: the payer's authorization expired at {authorization['expiresAt']}."
    return ""


def _labels(metadata: Mapping[str, Any]) -> Iterator[str]:
    for kind in ("labels", "annotations"):
        values = metadata.get(kind) or {}
        if not isinstance(values, Mapping):
            yield f"spec.template.metadata.{kind} must be an object"
            continue
        for key, value in values.items():
            if not isinstance(value, str):
                yield f"spec.template.metadata.{kind}.{key} must be a string"
            prefix = key.partition("/")[0] if "/" in key else ""
            reserved = (
                prefix == "fallow.dev" or prefix == "kubernetes.io" or prefix.endswith(".kubernetes.io")
            )
            if reserved:
                yield f"spec.template.metadata.{kind}.{key} is reserved: choose another prefix"


def _containers(pod: Mapping[str, Any]) -> Iterator[str]:
    containers = pod.get("containers")
    if not isinstance(containers, list | tuple) or not containers:
        yield "spec.template.spec.containers must have at least one container"
        return
    volumes = [one.get("name") for one in _objects(pod.get("volumes"))]
    for at, container in enumerate(containers):
        path = f"spec.template.spec.containers[{at}]"
        resources = container.get("resources") or {}
        requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
        yield from _quantities(path, requests=requests, limits=limits)
        yield from _accelerators(path, requests, limits)
        for mount in _objects(container.get("volumeMounts")):
            if mount.get("name") not in volumes:
                yield f"{path}.volumeMounts: spec.template.spec.volumes has no {mount.get('name')!r}"
        for entry in _objects(container.get("env")):
            if "value" in entry and "valueFrom" in entry:
                yield f"{path}.env {entry.get('name')!r} has both value and valueFrom: keep one"


def _objects(value: Any) -> list[Mapping[str, Any]]:
    """Return the objects of what should be a list of them; what else is there, `faults` has named."""
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _quantities(path: str, **amounts: Mapping[str, Any]) -> Iterator[str]:
    for kind, given in amounts.items():
        for name, value in given.items():
            try:
                quantity = parse_quantity(value)
            except QuantityError as error:
                yield f"{path}.resources.{kind}.{name}: {error}"
                continue
            if quantity < 0:
                yield f"{path}.resources.{kind}.{name} must not be negative"
            elif name not in _NATIVE and quantity.denominator != 1:
                yield f"{path}.resources.{kind}.{name} must be a whole number"


def _accelerators(path: str, requests: Mapping[str, Any], limits: Mapping[str, Any]) -> Iterator[str]:
    """Kubernetes wants an extended resource's limit, and a request equal to it."""
    for name in sorted({*requests, *limits} - _NATIVE):
        if "/" not in name:
            yield f"{path}.resources: {name} is no resource that a guest can have"
        elif name not in limits:
            yield f"{path}.resources.limits must have {name} too: accelerators need limits"
        elif name in requests and str(requests[name]) != str(limits[name]):
            yield f"{path}.resources: {name} must be the same in requests and limits"


def _amounts(spec: ComputeJobSpec, *, decimals: int) -> Iterator[str]:
    for name, amount in (
        ("maxPricePerTaskHour", spec.budget.max_price_per_task_hour),
        ("maxTotal", spec.budget.max_total),
    ):
        try:
            parse_amount(amount or "0", decimals=decimals)
        except FallowError as error:
            yield f"spec.budget.{name}: {error}"


def _shape(job: Mapping[str, Any], spec: ComputeJobSpec) -> Iterator[str]:
    if len(job["metadata"]["name"]) > 63:
        yield "metadata.name must be at most 63 characters: it becomes a label"
    if spec.gang and spec.tasks > MAX_TASKS_PER_PLACEMENT:
        yield f"spec.tasks of a gang must be at most {MAX_TASKS_PER_PLACEMENT}"
    if spec.gang and spec.parallelism is not None and spec.parallelism < spec.tasks:
        yield "spec.parallelism of a gang must not be below spec.tasks: all its tasks run at once"
    if spec.gang and spec.results == "Inline" and spec.tasks > MAX_INLINE_TASKS:
        yield f"spec.tasks of a gang with inline results must be at most {MAX_INLINE_TASKS}"
    if spec.verification.type == "Replicate" and spec.gang:
        yield "spec.verification Replicate does not go with spec.gang: a gang's tasks depend on each other"
    if spec.verification.type == "Replicate" and spec.billing != "PerTask":
        yield "spec.verification Replicate goes with billing PerTask only: copies are paid once they agree"
    if spec.verification.type == "Replicate" and (
        spec.requirements.max_providers is not None
        and spec.requirements.max_providers < (spec.verification.copies or 2)
    ):
        yield "spec.requirements.maxProviders must not be below spec.verification.copies"


def _interval(spec: ComputeJobSpec, *, shortest_seconds: int) -> Iterator[str]:
    asked = spec.billing_interval_seconds
    if asked is not None and asked < shortest_seconds:
        yield f"spec.billingIntervalSeconds must be at least {shortest_seconds} on this hub"


def _short(found: list[str]) -> str:
    said = "; ".join(found[:MAX_FAULTS])
    if len(found) > MAX_FAULTS:
        said += f"; and {len(found) - MAX_FAULTS} more"
    said = said if len(said) < MAX_MESSAGE else said[: MAX_MESSAGE - 2] + "…"
    return said if said.endswith((".", "…")) else said + "."


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[1:3]) if len(lines) > 1 else str(error)
