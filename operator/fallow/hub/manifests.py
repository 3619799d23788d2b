"""The objects that the hub creates, from a decision and what was true when it was made."""

from __future__ import annotations

from fallow.hub.jobs import JobRecord
from fallow.hub.placements import JSON, Placed
from fallow.resources.base import API_VERSION
from fallow.resources.ended import Outcome
from fallow.resources.money import format_amount
from fallow.resources.naming import (
    LABEL_JOB_NAME,
    LABEL_JOB_NAMESPACE,
    LABEL_JOB_UID,
    LABEL_PLACEMENT_UID,
    LABEL_PROVIDER,
    placement_name,
    provider_namespace,
)
from fallow.resources.ranges import EMPTY, IndexRanges
from fallow.scheduler.placing import Place
from fallow.settings import PaymentsSettings

INTERVAL_SECONDS = 600
"""Of a job that asks for interval billing and says no length."""


def placement(
    place: Place,
    *,
    job: JSON,
    record: JobRecord,
    number: int,
    term: int,
    account: JSON,
    provider: JSON,
    quote: JSON,
    hub_id: str,
    payments: PaymentsSettings,
    paid_failure_seconds: int,
    replicas: int = 1,
    lane: int = 0,
) -> JSON:
    """Return the Placement for a decision; `number` is its attempt number, `term` the leader's."""
    assert record.wish.spec is not None
    assert record.wish.shape is not None
    meta, spec = job["metadata"], record.wish.spec
    priced = record.wish.shape.priced
    per_interval = spec.billing == "PerInterval"
    interval: JSON = (
        {"intervalSeconds": spec.billing_interval_seconds or INTERVAL_SECONDS} if per_interval else {}
    )
    return {
        "metadata": {
            "name": placement_name(meta["uid"], number),
            "namespace": provider_namespace(place.provider),
            "labels": labels_of(meta["uid"], name=meta["name"], namespace=meta["namespace"]),
        },
        "spec": {
            "job": {"namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]},
            "attempt": number,
            "term": term,
            "template": job["spec"]["template"],
            "assignments": [
                {"node": one.node, "slots": one.slots, "tasks": str(one.tasks)} for one in place.assignments
            ],
            "gang": spec.gang,
            **({"isolation": wanted} if (wanted := spec.requirements.isolation) else {}),
            "desired": "Run",
            "results": spec.results,
            "terms": {
                "hubId": hub_id,
                "chainId": payments.chain_id,
                "escrow": payments.escrow,
                "token": payments.token,
                "tokenDecimals": payments.token_decimals,
                "accountNamespace": account["metadata"]["namespace"],
                "accountName": account["metadata"]["name"],
                "account": account["spec"],
                "provider": place.provider,
                "ownerId": provider["spec"]["ownerId"],
                "quote": quote["spec"],
                "pricePerTaskHour": format_amount(
                    place.price_per_task_hour, decimals=payments.token_decimals
                ),
                "requests": {
                    "cpuMillicores": priced.cpu_millicores,
                    "memoryMiB": priced.memory_mib,
                    "accelerators": dict(priced.devices),
                },
                "product": place.product,
                "billing": spec.billing,
                **interval,
                "taskTimeoutSeconds": place.run_seconds,
                "replicas": replicas,
                "replica": lane,
                "backoffLimitPerTask": spec.backoff_limit_per_task,
                "paidFailureSeconds": paid_failure_seconds,
            },
        },
    }


def results(obj: JSON, placed: Placed, *, job: JSON, refuted: IndexRanges = EMPTY) -> JSON:
    """Return the ConfigMap `<job>-results-<n>` with the results of a placement's counted successes.

    `refuted` are tasks of which other copies say otherwise.

    It belongs to the job (same namespace), so Kubernetes' garbage collector deletes it with the job.
    """
    counted = {one.index for one in placed.counted if one.outcome is Outcome.SUCCEEDED} - set(refuted)
    meta = job["metadata"]
    return {
        "metadata": {
            "name": f"{meta['name']}-results-{placed.number}",
            "namespace": meta["namespace"],
            "labels": {
                **labels_of(meta["uid"], name=meta["name"], namespace=meta["namespace"]),
                LABEL_PLACEMENT_UID: placed.uid,
                LABEL_PROVIDER: placed.provider,
            },
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": "ComputeJob",
                    "name": meta["name"],
                    "uid": meta["uid"],
                }
            ],
        },
        "data": {
            str(one["index"]): one["value"]
            for one in obj["status"].get("results") or ()
            if one["index"] in counted
        },
    }


def claim_labels(placed: Placed) -> dict[str, str]:
    """Return the labels of a placement's claim."""
    return {
        **labels_of(placed.job_uid, name=placed.job_name, namespace=placed.job_namespace),
        LABEL_PLACEMENT_UID: placed.uid,
        LABEL_PROVIDER: placed.provider,
    }


def labels_of(job_uid: str, *, name: str, namespace: str) -> dict[str, str]:
    """Return the labels by which everything of a job is found."""
    return {LABEL_JOB_UID: job_uid, LABEL_JOB_NAME: name, LABEL_JOB_NAMESPACE: namespace}
