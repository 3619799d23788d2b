"""Samples of new providers' work, at the hub's own cost: some of their tasks run once more, elsewhere.

A provider of which nobody knows yet whether it runs what it is paid for cannot tell which of its tasks are
sampled: that is decided after they ended. A sample is an ordinary ComputeJob in a namespace of the hub
admin's, paid by that namespace's Account: one task, the same template and index, on another owner's nodes.
It is created before the placement that it checks is deleted, under a name that follows from both; what it
finds is counted into the sampled provider's record before its own placement is deleted. So each is made, and
counted, once. Where samples cannot be created nothing waits for them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from fallow.hub import records, trust
from fallow.hub.desk import Desk
from fallow.hub.placements import JSON, Placed, payee_of
from fallow.resources.base import API_VERSION, GROUP
from fallow.resources.ended import Outcome
from fallow.resources.naming import uid16

SAMPLE_OF = f"{GROUP}/sample-of"
"""On a sample: the provider that it checks."""
SAMPLE_DIGEST = f"{GROUP}/sample-digest"
"""On a sample: the digest that this provider reported, in hexadecimal digits."""
MAX_SAMPLES = 4
"""Of one placement."""
TTL_SECONDS = 3600
PRIORITY = -1_000_000


class Sampling:
    """Makes samples, and says what they found."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._settled: set[str] = set()
        """Names of samples that were created, or cannot be."""

    def made(self, placed: Placed, job: Mapping[str, Any] | None) -> bool:
        """Return whether every sample of an ended placement is made; what is missing is under way if not."""
        desk, settings = self._desk, self._desk.settings.trust
        provider = desk.view.providers.get(placed.provider)
        if not settings.sample_share or job is None or provider is None or placed.replicas > 1 or placed.gang:
            return True
        earned = desk.view.earned[payee_of(provider)]
        if not trust.is_new(provider, settings, earned=earned, decimals=desk.decimals):
            return True
        if job["metadata"]["namespace"] == settings.sample_namespace:
            return True
        chosen = [
            one
            for one in placed.counted
            if one.outcome is Outcome.SUCCEEDED
            and one.digest
            and is_chosen(placed.job_uid, one.index, share=settings.sample_share)
        ][:MAX_SAMPLES]
        missing = []
        for one in chosen:
            name = f"sample-{uid16(placed.uid)}-{one.index}"
            there = desk.view.jobs.get(name, namespace=settings.sample_namespace)
            if there is None and name not in self._settled:
                missing.append(self._sample(name, placed, job, provider, index=one.index, digest=one.digest))
        for sample in missing:
            name = sample["metadata"]["name"]
            desk.carrier.create_sample(sample, for_job=placed.job_uid, done_for=self._done_for(name))
        return not missing

    def _done_for(self, name: str) -> Callable[[], None]:
        return lambda: self._settled.add(name)

    def found(self, placed: Placed, job: Mapping[str, Any] | None) -> tuple[str, records.Tally] | None:
        """Return what a sample's placement says of which provider; None when it is no sample's."""
        said = (job or {}).get("metadata", {}).get("annotations") or {}
        if job is None or job["metadata"]["namespace"] != self._desk.settings.trust.sample_namespace:
            return None
        if SAMPLE_OF not in said or SAMPLE_DIGEST not in said:
            return None
        results = [one.digest.hex() for one in placed.counted if one.outcome is Outcome.SUCCEEDED]
        if not results:
            return None
        same = results[0] == said[SAMPLE_DIGEST]
        return said[SAMPLE_OF], records.Tally(agreed=int(same), disagreed=int(not same))

    def _sample(
        self,
        name: str,
        placed: Placed,
        job: Mapping[str, Any],
        provider: Mapping[str, Any],
        *,
        index: int,
        digest: bytes,
    ) -> JSON:
        spec, settings = job["spec"], self._desk.settings.trust
        wanted = dict(spec.get("requirements") or {})
        wanted.pop("providers", None)
        owner = provider["spec"]["ownerId"]
        theirs = {
            one["metadata"]["name"] for one in self._desk.view.providers if one["spec"]["ownerId"] == owner
        }
        wanted["excludeProviders"] = sorted(theirs | set(wanted.get("excludeProviders") or ()))[:256]
        return {
            "apiVersion": API_VERSION,
            "kind": "ComputeJob",
            "metadata": {
                "name": name,
                "namespace": settings.sample_namespace,
                "annotations": {SAMPLE_OF: placed.provider, SAMPLE_DIGEST: digest.hex()},
            },
            "spec": {
                "tasks": 1,
                "firstIndex": index,
                "template": spec["template"],
                "requirements": wanted,
                "priority": PRIORITY,
                "taskTimeoutSeconds": spec.get("taskTimeoutSeconds") or 86_400,
                "ttlSecondsAfterFinished": TTL_SECONDS,
            },
        }


def is_chosen(job_uid: str, index: int, *, share: float) -> bool:
    """Return whether a task is sampled: by a hash, so that every process chooses the same ones."""
    drawn = int.from_bytes(hashlib.sha256(f"sample {job_uid} {index}".encode()).digest()[:4], "big")
    return drawn < share * 2**32
