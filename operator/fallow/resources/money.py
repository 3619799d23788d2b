"""Amounts at the edges: decimal strings of the token ↔ integers of its smallest unit.

Inside Fallow an amount is an `int` of the token's smallest unit. Objects that people read and write carry
decimal strings ("1.80"). Nothing here or elsewhere touches a float.
"""

from __future__ import annotations

import re

from fallow.errors import AmountError

_DECIMAL = re.compile(r"(0|[1-9][0-9]{0,17})(?:\.([0-9]{1,18}))?", re.ASCII)
MAX_AMOUNT = 2**128 - 1
"""The escrow keeps amounts in 128 bits."""


def parse_amount(text: str, *, decimals: int) -> int:
    """Return a decimal string ("1.80") as an integer of the smallest unit.

    Raises:
        AmountError: no plain non-negative decimal, more digits after the point than the token has, or
            beyond 128 bits.
    """
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise AmountError(f"{text[:40]!r} is no amount; write a plain decimal such as 1.80")
    fraction = (match[2] or "").rstrip("0")
    if len(fraction) > decimals:
        raise AmountError(f"{text!r} has more than the {decimals} decimal places that the token has")
    amount: int = int(match[1]) * 10**decimals + int(fraction.ljust(decimals, "0") or "0")
    if amount > MAX_AMOUNT:
        raise AmountError(f"{text!r} is more than an amount can hold")
    return amount


def format_amount(amount: int, *, decimals: int) -> str:
    """Return an integer of the smallest unit as the shortest decimal string ("1.8", "0", "12").

    Raises:
        AmountError: negative or beyond 128 bits.
    """
    if not 0 <= amount <= MAX_AMOUNT:
        raise AmountError(f"{amount} is no amount: negative or beyond 128 bits")
    whole, fraction = divmod(amount, 10**decimals)
    digits = str(fraction).rjust(decimals, "0").rstrip("0") if decimals else ""
    return f"{whole}.{digits}" if digits else str(whole)
