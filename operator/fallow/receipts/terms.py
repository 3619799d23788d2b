"""A quote's terms as one hash: keccak over canonical JSON, so that both sides hash the same bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fallow.receipts.words import keccak


def terms_hash(quote_spec: Mapping[str, Any]) -> bytes:
    """Return the keccak of a quote's spec (as on the wire) without its `signature`."""
    return keccak(canonical_json({name: v for name, v in quote_spec.items() if name != "signature"}))


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys, no spaces, UTF-8: one spelling per value. ValueError for a float."""
    _refuse_floats(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _refuse_floats(value: Any) -> None:
    if isinstance(value, float):
        raise ValueError("a float has no canonical spelling; write a decimal string")
    if isinstance(value, Mapping):
        for name, part in value.items():
            if not isinstance(name, str):
                raise ValueError(f"{name!r} is no JSON key")
            _refuse_floats(part)
    elif isinstance(value, list | tuple):
        for part in value:
            _refuse_floats(part)
