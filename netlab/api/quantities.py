"""Quantities: numbers with a suffix, such as 500m, 1.5Gi or 2e6 (apimachinery pkg/api/resource)."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
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


@dataclasses.dataclass(frozen=True)
class Quantity:
    """An amount, and in which of the notations it is written: of 1024s (binary) or of 1000s."""

    amount: Fraction
    binary: bool = False

    def __add__(self, other: Quantity) -> Quantity:
        """In the notation of the first, if that says more than nothing (resource.Quantity.Add)."""
        return Quantity(self.amount + other.amount, self.binary if self.amount else other.binary)

    def __str__(self) -> str:
        """Without fractions, by the largest suffix with which there are none (CanonicalizeBytes)."""
        if self.binary and abs(self.amount) >= 1024:
            return _scaled(Fraction(math.ceil(self.amount)), 1024, ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"))
        # The smallest unit is a nano, and nothing is rounded down to none.
        nanos = math.ceil(self.amount * 10**9)
        return _scaled(Fraction(nanos), 1000, ("n", "u", "m", "", "k", "M", "G", "T", "P", "E"))


ZERO = Quantity(Fraction(0))


def read(text: str | int) -> Quantity:
    """A quantity with its notation. Raises `ValueError`."""
    written = str(text)
    return Quantity(parse(written), written.endswith("i"))


def _scaled(amount: Fraction, step: int, suffixes: Sequence[str]) -> str:
    if not amount:
        return "0"
    index = 0
    while index < len(suffixes) - 1 and (amount / step).denominator == 1:
        amount /= step
        index += 1
    return f"{amount}{suffixes[index]}"
