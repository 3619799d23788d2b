"""What servers say becomes one class of error each; addresses are what an API server expects."""

from __future__ import annotations

import json

import pytest

from fallow import errors
from fallow.kube.answers import error_from_answer
from fallow.kube.backoff import Backoff
from fallow.kube.kinds import LEASE, NODE, PLACEMENT, POD, PROVIDER


def status(code: int, reason: str, *, retry: int | None = None) -> bytes:
    details = {} if retry is None else {"retryAfterSeconds": retry}
    body = {"kind": "Status", "code": code, "reason": reason, "message": "why", "details": details}
    return json.dumps(body).encode()


@pytest.mark.parametrize(
    ("code", "reason", "want"),
    [
        (400, "BadRequest", errors.Invalid),
        (401, "Unauthorized", errors.CredentialsRejected),
        (403, "Forbidden", errors.Forbidden),
        (404, "NotFound", errors.NotFound),
        (405, "MethodNotAllowed", errors.Invalid),
        (409, "AlreadyExists", errors.AlreadyExists),
        (409, "Conflict", errors.Conflict),
        (410, "Expired", errors.Gone),
        (422, "Invalid", errors.Invalid),
        (429, "TooManyRequests", errors.TooManyRequests),
        (500, "InternalError", errors.Unavailable),
        (500, "ServerTimeout", errors.Timeout),
        (503, "ServiceUnavailable", errors.Unavailable),
        (504, "Timeout", errors.Timeout),
    ],
)
def test_error_from_answer__each_status__has_its_class(
    code: int, reason: str, want: type[errors.ApiError]
) -> None:
    error = error_from_answer(code, status(code, reason), {}, "get Pod a")
    assert type(error) is want
    assert (error.status, error.reason, str(error)) == (code, reason, "get Pod a: why")
    assert isinstance(error, errors.Retryable) != isinstance(error, errors.Permanent)


@pytest.mark.parametrize(
    ("header", "body", "want"),
    [
        ({}, status(429, "TooManyRequests"), None),
        ({"Retry-After": "2"}, status(429, "TooManyRequests"), 2.0),
        ({}, status(429, "TooManyRequests", retry=3), 3.0),
        ({"Retry-After": "2"}, status(429, "TooManyRequests", retry=3), 3.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, b"busy", None),
    ],
    ids=["nothing", "header", "body", "the longer of both", "a date"],
)
def test_error_from_answer__server_says_when_to_come_back__is_carried(
    header: dict[str, str], body: bytes, want: float | None
) -> None:
    assert error_from_answer(429, body, header, "create Pod").retry_after_seconds == want


@pytest.mark.parametrize("body", [b"", b"<html>Bad gateway</html>", b"[1]", b"\xff"])
def test_error_from_answer__no_status_object__still_is_an_error_with_a_sentence(body: bytes) -> None:
    error = error_from_answer(502, body, {}, "list Pod pods")
    assert type(error) is errors.Unavailable
    assert str(error).startswith("list Pod pods: ")


def test_path__core_and_group__collections_objects_and_subresources() -> None:
    assert POD.path() == "/api/v1/pods"
    assert POD.path(namespace="n", name="p") == "/api/v1/namespaces/n/pods/p"
    assert NODE.path(name="a") == "/api/v1/nodes/a"
    want = "/apis/fallow.dev/v1alpha1/namespaces/n/placements/p/status"
    assert PLACEMENT.path(namespace="n", name="p", subresource="status") == want
    assert PROVIDER.path(namespace="ignored", name="a") == "/apis/fallow.dev/v1alpha1/providers/a"
    assert LEASE.api_version == "coordination.k8s.io/v1"


def test_path__namespaced_object_without_namespace__is_refused() -> None:
    with pytest.raises(ValueError, match="Pod p needs a namespace"):
        POD.path(name="p")


def test_backoff__failures_in_a_row__double_up_to_the_longest_and_honour_the_server() -> None:
    backoff = Backoff(first_seconds=0.2, longest_seconds=1.0, chance=lambda: 0.5)
    assert [backoff.next_seconds() for _ in range(5)] == pytest.approx([0.2, 0.4, 0.8, 1.0, 1.0])
    assert backoff.next_seconds(at_least=7.0) == 7.0
    backoff.reset()
    assert backoff.next_seconds() == pytest.approx(0.2)


@pytest.mark.parametrize(("chance", "want"), [(0.0, 0.5), (0.999, 1.499)])
def test_backoff__chance__spreads_from_half_to_one_and_a_half(chance: float, want: float) -> None:
    assert Backoff(first_seconds=1.0, chance=lambda: chance).next_seconds() == pytest.approx(want)
