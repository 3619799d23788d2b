"""The smallest merge patch, checked against RFC 7386's own algorithm."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.kube.compare_and_set import merge_patch


def applied(target: Any, patch: Any) -> Any:
    """MergePatch of RFC 7386, section 2, word for word."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = applied(result.get(name), value)
    return result


scalars = st.booleans() | st.integers() | st.text(max_size=3)
values = st.recursive(
    scalars | st.lists(scalars, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from("abcd"), values, max_size=4)


@given(before=objects, after=objects)
def test_merge_patch__applied_as_the_rfc_says__gives_what_was_wanted(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    assert applied(before, merge_patch(before, after)) == after


@given(before=objects)
def test_merge_patch__nothing_different__is_empty(before: dict[str, Any]) -> None:
    assert merge_patch(before, before) == {}


@pytest.mark.parametrize(
    ("before", "after", "want"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, {"b": 3}),
        ({"a": 1, "b": 2}, {"a": 1}, {"b": None}),
        ({"l": [1, 2, 3]}, {"l": [1, 2]}, {"l": [1, 2]}),
        ({"s": {"x": 1, "y": 2}}, {"s": {"x": 1, "y": 3}}, {"s": {"y": 3}}),
        ({"s": {"x": 1}}, {"s": {}}, {"s": {"x": None}}),
        ({"a": 1}, {"a": None}, {"a": None}),
        ({}, {"a": None}, {}),
        ({}, {"s": {"x": None, "y": 1}}, {"s": {"y": 1}}),
        ({"a": [1]}, {"a": {"x": 1}}, {"a": {"x": 1}}),
    ],
    ids=[
        "one of two keys changes",
        "a key goes",
        "a list is replaced whole",
        "only the inner difference",
        "an inner key goes",
        "None means gone",
        "None where nothing was",
        "None within something new",
        "a list becomes an object",
    ],
)
def test_merge_patch__each_kind_of_change__is_the_smallest(
    before: dict[str, Any], after: dict[str, Any], want: dict[str, Any]
) -> None:
    assert merge_patch(before, after) == want
