"""Guests through Kueue, where the member runs it: labels by which it takes a pod in and lets it go.

Kueue closes a gate on every pod with its queue's label, and opens it when there is quota. The agent waits
longer for such a pod, and for nothing else; a gang is admitted whole, as one pod group.
"""

from __future__ import annotations

from fallow.agent.work import Work
from fallow.resources import naming

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
GROUP_LABEL = "kueue.x-k8s.io/pod-group-name"
GROUP_SIZE_ANNOTATION = "kueue.x-k8s.io/pod-group-total-count"


def queue_labels(work: Work, queue: str) -> dict[str, str]:
    """Return the labels of a guest that goes through a queue; none without a queue."""
    if not queue:
        return {}
    group = {GROUP_LABEL: naming.gang_name(work.uid)} if work.spec.gang else {}
    return {QUEUE_LABEL: queue, **group}


def queue_annotations(work: Work, queue: str) -> dict[str, str]:
    """Return the annotations that go with these labels."""
    return {GROUP_SIZE_ANNOTATION: str(len(work.ranks))} if queue and work.spec.gang else {}
