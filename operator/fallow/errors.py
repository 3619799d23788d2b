"""Every error that Fallow raises on purpose, named for what the caller can do about it.

    FallowError
    ├── Retryable                   the same thing later may succeed
    │   ├── Unavailable             connection refused or cut, or the server answered 5xx
    │   ├── Timeout                 no answer in time: the write may have happened
    │   ├── TooManyRequests         slow down; carries the server's Retry-After
    │   └── CredentialsRejected     401: read the token again, then repeat
    └── Permanent                   the same thing again gives the same answer
        ├── NotFound                404
        ├── AlreadyExists           409 on create: compare the UID label, maybe it is ours
        ├── Conflict                409 on a write: look again, decide again
        ├── Gone                    410: the watch position is too old, list again
        ├── Invalid                 400, 413, 415, 422: this object is refused as it is
        ├── Forbidden               403: RBAC or an admission policy says no
        ├── NotLeading              the own lease's deadline passed: write nothing more
        ├── SettingsError           an operator has to change a setting
        │   ├── InvalidSetting      a value that is not allowed, or names that nobody knows
        │   └── KubeconfigUnusable  the kubeconfig or the service account cannot be used
        ├── Malformed               a text that is not of its form; says what to write instead
        │   ├── RangesError         index ranges ("0-97,100")
        │   ├── EndedError          an ended attempt (index:attempt:seconds:outcome:digest)
        │   ├── ElapsedError        elapsed time of attempts (from-to:indexes)
        │   ├── AmountError         a decimal amount ("1.80")
        │   └── QuantityError       a Kubernetes quantity ("500m", "16Gi")
        └── MoneyError              money must not move (the settler's modules refine it)

    ApiError                        what came from an API server; every class above with an
                                    HTTP status is an ApiError too, and carries status,
                                    reason, message and retry_after_seconds

Whether to repeat is a class (`except Retryable`), never a regular expression on a message. What
a server says is turned into these once, at the edge: `fallow.kube.answers`.
"""

# The names are the field's (NotFound, Conflict, …), as httpx and grpc have them.
# ruff: noqa: N818

from __future__ import annotations


class FallowError(Exception):
    """Root of everything that Fallow raises on purpose. Its text is one sentence for a person."""


class Retryable(FallowError):
    """The same request, made again later, may succeed."""


class Permanent(FallowError):
    """The same request, made again, gives the same answer: something has to change first."""


class ApiError(FallowError):
    """What an API server (or the way to it) answered.

    `status` is the HTTP status, 0 when there was no answer. `reason` is the `reason` of the
    Kubernetes Status object ("NotFound", "Conflict", …) or "". `retry_after_seconds` is what the
    server asked for, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        reason: str = "",
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


class Unavailable(ApiError, Retryable):
    """No connection, a connection cut half way, or an answer 5xx."""


class Timeout(ApiError, Retryable):
    """No answer in time. A write may have happened all the same: look before repeating it."""


class TooManyRequests(ApiError, Retryable):
    """429: the server asks to slow down; wait at least `retry_after_seconds`."""


class CredentialsRejected(ApiError, Retryable):
    """401: the token or certificate is not accepted (any more)."""


class NotFound(ApiError, Permanent):
    """404: no such object, or no such kind on this server."""


class AlreadyExists(ApiError, Permanent):
    """409 on a create. Done only when the existing object's full UID label is ours."""


class Conflict(ApiError, Permanent):
    """409 on a write: the object changed since it was read. Look again and decide again."""


class Gone(ApiError, Permanent):
    """410: the resourceVersion or the continue token is too old. List again."""


class Invalid(ApiError, Permanent):
    """400, 413, 415 or 422: the server refuses this object or request as it is."""


class Forbidden(ApiError, Permanent):
    """403: RBAC, a quota or an admission policy refuses it."""


class NotLeading(Permanent):
    """The own lease is not held, or its deadline has passed: this process must not write."""


class SettingsError(Permanent):
    """A setting has to be changed by a person before this program can run."""


class InvalidSetting(SettingsError):
    """A value that is not allowed, a required value that is missing, or an unknown flag.

    The text names flag and environment variable and says what is allowed.
    """


class KubeconfigUnusable(SettingsError):
    """The kubeconfig or the pod's service account is missing or cannot be used."""


class MoneyError(Permanent):
    """Money must not move: a signature, amount, account or chain is not what it has to be."""


class Malformed(Permanent):
    """A text is not of the form it must have; the message says what to write instead."""


class RangesError(Malformed):
    """Index ranges ("0-97,100") that do not parse, overlap, or are too long to store."""


class EndedError(Malformed):
    """An ended attempt that is not `index:attempt:seconds:outcome:digest`."""


class ElapsedError(Malformed):
    """Elapsed time that is not `from-to:indexes`."""


class AmountError(Malformed):
    """An amount that is no plain decimal, too fine for the token, or out of range."""


class QuantityError(Malformed):
    """Not a Kubernetes quantity."""
