"""Kubernetes quantities ("500m", "16Gi") as integers, rounded up as schedulers do.

Source of the grammar: k8s.io/apimachinery/pkg/api/resource, `Quantity`.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from fallow.errors import QuantityError

_FORM = re.compile(
    r"([+-]?)([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]|[eE][+-]?[0-9]{1,3})?", re.ASCII
)
_SCALE: dict[str, Fraction] = {
    **{
        suffix: Fraction(1024) ** (power + 1)
        for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"))
    },
    **{suffix: Fraction(1000) ** (power + 1) for power, suffix in enumerate(("k", "M", "G", "T", "P", "E"))},
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "": Fraction(1),
}
MIB = 1024 * 1024


def parse_quantity(text: str | int) -> Fraction:
    """Return a quantity's exact value.

    Raises:
        QuantityError: not a Kubernetes quantity.
    """
    return _parsed(str(text))


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Fraction:
    match = _FORM.fullmatch(text)
    if match is None:
        raise QuantityError(f"{text[:40]!r} is no quantity; write e.g. 8, 500m or 16Gi")
    suffix = match[3] or ""
    if suffix[:1] in ("e", "E") and len(suffix) > 1:
        scale = Fraction(10) ** int(suffix[1:])
    else:
        scale = _SCALE[suffix]
    value = Fraction(match[2] if match[2][-1] != "." else match[2] + "0") * scale
    return -value if match[1] == "-" else value


def millicores(text: str | int) -> int:
    """Return a CPU quantity in millicores, rounded up."""
    return _ceil(parse_quantity(text) * 1000)


def mebibytes(text: str | int) -> int:
    """Return a memory or storage quantity in MiB, rounded up."""
    return _ceil(parse_quantity(text) / MIB)


def whole(text: str | int) -> int:
    """Return a count (accelerators, pods).

    Raises:
        QuantityError: not a whole number.
    """
    value = parse_quantity(text)
    if value.denominator != 1:
        raise QuantityError(f"{text!r} is not a whole number")
    return value.numerator


def _ceil(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)
