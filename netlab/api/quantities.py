"""Quantities: numbers with a suffix, such as 500m, 1.5Gi or 2e6 (apimachinery pkg/api/resource)."""

from __future__ import annotations

import re
from fractions import Fraction

_QUANTITY = re.compile(
    r"([+-]?(?:[0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20}))(?:[eE]([+-]?[0-9]{1,2})|([KMGTPE]i)|([numkMGTPE]))?"
)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}


def parse(text: str) -> Fraction:
    """What a quantity amounts to, exactly. Raises `ValueError`."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError("is no quantity: write a number and, if you like, a suffix such as k, M, G, Ki or Mi")
    number, exponent, binary, decimal = match.groups()
    scale = Fraction(1024) ** _BINARY[binary] if binary else Fraction(10) ** int(exponent or _DECIMAL.get(decimal, 0))
    return Fraction(number) * scale
