"""Names and labels that several programs must agree on."""

from __future__ import annotations

from fallow.resources.base import GROUP

SYSTEM_NAMESPACE = "fallow-system"
GUEST_NAMESPACE = "fallow-guests"
PROVIDER_NAMESPACE_PREFIX = "provider-"
GUEST_PRIORITY_CLASS = "fallow-guest"
HUB_TOLD = "fallow-hub-told"
"""ConfigMap in the system namespace: what an invite has to say of the hub (`HubTold`)."""

LABEL_JOB_UID = f"{GROUP}/job-uid"
LABEL_JOB_NAME = f"{GROUP}/job-name"
LABEL_JOB_NAMESPACE = f"{GROUP}/job-namespace"
LABEL_PROVIDER = f"{GROUP}/provider"
LABEL_PLACEMENT_UID = f"{GROUP}/placement-uid"
LABEL_INDEX = f"{GROUP}/index"
LABEL_ATTEMPT = f"{GROUP}/attempt"
LABEL_LET_GO = f"{GROUP}/let-go"
"""On a guest pod whose outcome is recorded: it may be deleted."""
LABEL_GUEST = f"{GROUP}/guest"
LABEL_CANARY = f"{GROUP}/canary"
LABEL_GANG = f"{GROUP}/gang"
ANNOTATION_UNFOLDED = f"{GROUP}/not-folded"
"""On a Settlement that the settler replayed from the archive: the hub forgot what was paid in it, and
schedules nothing until `fallow hub restore` has told it."""
FINALIZER_OUTCOME = f"{GROUP}/outcome"


def uid16(uid: str) -> str:
    """Return the first 16 hexadecimal digits of a UID: short enough for names, checked by full label."""
    return uid.replace("-", "")[:16]


def placement_name(job_uid: str, number: int) -> str:
    """Return the name of a job's placement `number`."""
    return f"{uid16(job_uid)}-{number}"


def claim_name(placement_uid: str, sequence: int) -> str:
    """Return the name of a placement's claim `sequence`."""
    return f"{uid16(placement_uid)}-{sequence}"


def guest_set_name(placement_uid: str) -> str:
    """Return the name of a placement's GuestSet."""
    return uid16(placement_uid)


def gang_name(placement_uid: str) -> str:
    """Return the name of a gang's Service and NetworkPolicy; a Service's starts with a letter."""
    return f"gang-{uid16(placement_uid)}"


def pod_name(placement_uid: str, *, index: int, attempt: int) -> str:
    """Return the name of the pod that runs one attempt."""
    return f"{uid16(placement_uid)}-{index}-{attempt}"


def provider_namespace(provider: str) -> str:
    """Return the namespace on the hub that belongs to a provider."""
    return f"{PROVIDER_NAMESPACE_PREFIX}{provider}"
