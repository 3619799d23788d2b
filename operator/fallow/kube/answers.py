"""From what a server says, or does not say, to one class of `fallow.errors`: here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from fallow.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    CredentialsRejected,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    Timeout,
    TooManyRequests,
    Unavailable,
)

JSON = dict[str, Any]
"""An object as the API server has it."""


def error_from_answer(status: int, body: bytes, headers: Mapping[str, str], what: str) -> ApiError:
    """Turn an error answer (HTTP status, Status object) into its class. `what` starts its sentence."""
    try:
        said = msgspec.json.decode(body)
    except msgspec.DecodeError:
        said = None
    if not isinstance(said, dict) or said.get("kind") != "Status":
        said = {"message": body[:200].decode(errors="replace").strip()}
    reason = str(said.get("reason") or "")
    details = said.get("details")
    seconds = details.get("retryAfterSeconds") if isinstance(details, dict) else None
    header = headers.get("Retry-After", "")
    if header.isdigit():
        seconds = max(int(header), seconds or 0)
    return _class_of(status, reason)(
        f"{what}: {said.get('message') or f'HTTP {status}'}",
        status=status,
        reason=reason,
        retry_after_seconds=None if seconds is None else float(seconds),
    )


def _class_of(status: int, reason: str) -> type[ApiError]:
    if status == 409:
        return AlreadyExists if reason == "AlreadyExists" else Conflict
    if status == 504 or reason in ("Timeout", "ServerTimeout"):
        return Timeout
    if status >= 500:
        return Unavailable
    known: dict[int, type[ApiError]] = {
        401: CredentialsRejected,
        403: Forbidden,
        404: NotFound,
        410: Gone,
        429: TooManyRequests,
    }
    return known.get(status, Invalid)


def no_answer(error: Exception, what: str) -> ApiError:
    """Turn a failed connection or a time-out into its class."""
    if isinstance(error, TimeoutError):
        return Timeout(f"{what}: no answer in time")
    return Unavailable(f"{what}: {error or type(error).__name__}")
