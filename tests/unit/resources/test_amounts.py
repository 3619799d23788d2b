"""Amounts and quantities: exact at the edges, refused when they are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.errors import AmountError, QuantityError
from fallow.resources.money import MAX_AMOUNT, format_amount, parse_amount
from fallow.resources.quantities import mebibytes, millicores, whole


@given(st.integers(0, MAX_AMOUNT // 10**22), st.integers(0, 18))
def test_amount__when_formatted_and_parsed__then_is_the_same(amount: int, decimals: int) -> None:
    assert parse_amount(format_amount(amount, decimals=decimals), decimals=decimals) == amount


@pytest.mark.parametrize(
    ("text", "want"),
    [("1.80", 1_800_000), ("0", 0), ("0.000001", 1), ("12", 12_000_000), ("1.50000000", 1_500_000)],
)
def test_parse_amount__when_a_plain_decimal__then_counts_smallest_units(text: str, want: int) -> None:
    assert parse_amount(text, decimals=6) == want


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "1e3", "1,5", ".5", "1.", "01", "NaN", "0.0000001", "٣", " 1", "9" * 40]
)
def test_parse_amount__when_anything_else__then_refuses(text: str) -> None:
    with pytest.raises(AmountError):
        parse_amount(text, decimals=6)


@pytest.mark.parametrize("amount", [-1, MAX_AMOUNT + 1])
def test_format_amount__when_out_of_range__then_refuses(amount: int) -> None:
    with pytest.raises(AmountError):
        format_amount(amount, decimals=6)


@pytest.mark.parametrize(
    ("text", "want"),
    [("4", 4000), ("500m", 500), ("0.1", 100), ("1u", 1), (2, 2000), ("1.0001", 1001), ("1e1", 10_000)],
)
def test_millicores__when_fractional__then_rounds_up(text: str | int, want: int) -> None:
    assert millicores(text) == want


@pytest.mark.parametrize(
    ("text", "want"), [("16Gi", 16_384), ("1", 1), ("1Mi", 1), ("1G", 954), ("1.5Gi", 1536)]
)
def test_mebibytes__when_fractional__then_rounds_up(text: str, want: int) -> None:
    assert mebibytes(text) == want


@pytest.mark.parametrize("text", ["", "1.5", "x", "1KiB", "1 Gi", "--1"])
def test_whole__when_not_a_whole_quantity__then_refuses(text: str) -> None:
    with pytest.raises(QuantityError):
        whole(text)
