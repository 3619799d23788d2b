"""Writes that follow from a read: only if the object is still what was read.

`write` and `write_status` compare what was read with what is wanted, send the difference as a
merge patch with the read's resourceVersion, and return the answer, which belongs into the view at
once (`View.apply`). Nothing different: nothing is sent. Changed meanwhile: Conflict, look again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fallow.kube.client import JSON, ApiServer
from fallow.kube.resource import Resource


def merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> JSON:
    """Return the smallest RFC 7386 patch that makes `before` into `after`.

    Keys that are gone become null; lists are replaced whole; a key whose value is None counts as
    absent, since a merge patch cannot set null. Empty when nothing differs.
    """
    patch: JSON = {}
    for key, old in before.items():
        if old is not None and after.get(key) is None:
            patch[key] = None
    for key, new in after.items():
        old = before.get(key)
        if new is None or new == old:
            continue
        if isinstance(new, Mapping) and isinstance(old, Mapping):
            inner = merge_patch(old, new)
            if inner:
                patch[key] = inner
        else:
            patch[key] = _without_nulls(new)
    return patch


def _without_nulls(value: Any) -> Any:
    """Leave nulls out of a new value, as the API does: in a patch they would mean "delete"."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return value


async def write_status(
    api: ApiServer,
    resource: Resource,
    read: Mapping[str, Any],
    status: Mapping[str, Any],
    *,
    brief: bool = False,
) -> JSON:
    """Make `status` the whole status of the object as `read`.

    Returns the object as it is now (`brief`: its metadata); `read` itself when nothing differs.
    Raises Conflict when it changed since, NotFound when it is gone.
    """
    patch = merge_patch({"status": read.get("status") or {}}, {"status": status})
    return await _send(api, resource, read, patch, subresource="status", brief=brief)


async def write(
    api: ApiServer, resource: Resource, read: Mapping[str, Any], wanted: Mapping[str, Any]
) -> JSON:
    """Make `wanted` of the object as `read`: its spec, labels, annotations, finalizers, data.

    Compares all but status and the server's own metadata; keys that `wanted` does not have at the
    top level or in metadata stay as they are. Returns and raises as `write_status`.
    """
    before = {key: read.get(key) for key in wanted if key not in ("metadata", "status")}
    after = {key: wanted[key] for key in before}
    patch = merge_patch(before, after)
    ours = ("labels", "annotations", "finalizers", "ownerReferences")
    meta = {key: value for key, value in wanted.get("metadata", {}).items() if key in ours}
    changed = merge_patch({key: read["metadata"].get(key) for key in meta}, meta)
    if changed:
        patch["metadata"] = changed
    return await _send(api, resource, read, patch, subresource=None)


async def _send(
    api: ApiServer,
    resource: Resource,
    read: Mapping[str, Any],
    patch: JSON,
    *,
    subresource: str | None,
    brief: bool = False,
) -> JSON:
    if not patch:
        return dict(read)
    meta = read["metadata"]
    patch.setdefault("metadata", {})["resourceVersion"] = meta["resourceVersion"]
    return await api.patch(
        resource, meta["name"], patch, namespace=meta.get("namespace"), subresource=subresource, brief=brief
    )
