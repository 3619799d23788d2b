"""A pod's effective requests: what Kubernetes' scheduler counts, and so what a task-hour costs.

The rule is `PodRequests` of k8s.io/component-helpers: the larger of all containers together and
each step of initialisation (sidecars count from their start on), plus overhead; a request that is
missing is its limit, as the API server would default it. Pod-level resources, where given, replace
the sum for what they name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Any

import msgspec

from fallow.errors import QuantityError
from fallow.resources.quantities import parse_quantity

_Amounts = Mapping[str, Fraction]

# Neither is priced: the quote's storage limit bounds the one, the kubelet the other.
_UNPRICED = ("ephemeral-storage", "hugepages-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """Effective requests of one pod, rounded up to the units that prices are multiplied with."""

    cpu_millicores: int
    memory_mib: int
    devices: Mapping[str, int] = field(default_factory=dict)
    """Whole devices by resource name, such as nvidia.com/gpu; only those above zero."""


def effective_requests(pod_spec: Mapping[str, Any]) -> Requests:
    """Return the effective requests of a pod spec (`containers`, `initContainers`, `overhead`, `resources`).

    CPU is rounded up to millicores, memory to MiB, once per pod. Raises QuantityError for what is
    no quantity, is negative, or counts devices in fractions.
    """
    asked = [
        pod_spec.get("resources"),
        pod_spec.get("overhead"),
        *(
            [(c.get("resources"), c.get("restartPolicy")) for c in pod_spec.get(part) or ()]
            for part in ("containers", "initContainers")
        ),
    ]
    try:
        return _effective(msgspec.json.encode(asked))
    except TypeError as error:  # what JSON cannot say is no quantity either
        raise QuantityError(str(error)) from error


@lru_cache(maxsize=1024)
def _effective(asked: bytes) -> Requests:
    """Return the effective requests of what a pod spec asks for; the pods of a job all ask for the same."""
    resources, overhead, containers, initial = msgspec.json.decode(asked)
    pod_spec = {
        "resources": resources,
        "overhead": overhead,
        "containers": [{"resources": each, "restartPolicy": policy} for each, policy in containers],
        "initContainers": [{"resources": each, "restartPolicy": policy} for each, policy in initial],
    }
    running = _sum(_of_container(c) for c in pod_spec.get("containers") or ())
    sidecars: _Amounts = {}
    initialising: _Amounts = {}
    for container in pod_spec.get("initContainers") or ():
        wants = _of_container(container)
        if container.get("restartPolicy") == "Always":
            running = _sum((running, wants))
            sidecars = _sum((sidecars, wants))
            wants = sidecars
        else:
            wants = _sum((wants, sidecars))
        initialising = _largest(initialising, wants)
    total = dict(_largest(running, initialising)) | dict(_of_container(pod_spec))
    total = _sum((total, _quantities(pod_spec.get("overhead"))))
    devices = {
        name: _whole(name, amount)
        for name, amount in total.items()
        if name not in ("cpu", "memory") and not name.startswith(_UNPRICED) and amount
    }
    return Requests(
        cpu_millicores=_ceil(total.get("cpu", Fraction(0)) * 1000),
        memory_mib=_ceil(total.get("memory", Fraction(0)) / 2**20),
        devices=devices,
    )


def _of_container(holder: Mapping[str, Any]) -> dict[str, Fraction]:
    resources = holder.get("resources") or {}
    return _quantities(resources.get("limits")) | _quantities(resources.get("requests"))


def _quantities(amounts: Mapping[str, str | int] | None) -> dict[str, Fraction]:
    parsed = {name: parse_quantity(amount) for name, amount in (amounts or {}).items()}
    for name, amount in parsed.items():
        if amount < 0:
            raise QuantityError(f"{name} is requested in a negative amount")
    return parsed


def _sum(parts: Iterable[_Amounts]) -> dict[str, Fraction]:
    total: dict[str, Fraction] = {}
    for part in parts:
        for name, amount in part.items():
            total[name] = total.get(name, Fraction(0)) + amount
    return total


def _largest(one: _Amounts, other: _Amounts) -> _Amounts:
    zero = Fraction(0)
    return {name: max(one.get(name, zero), other.get(name, zero)) for name in one.keys() | other.keys()}


def _ceil(amount: Fraction) -> int:
    return -(-amount.numerator // amount.denominator)


def _whole(name: str, amount: Fraction) -> int:
    if amount.denominator != 1:
        raise QuantityError(f"{name} is counted in whole devices")
    return amount.numerator
