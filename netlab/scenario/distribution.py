"""How far the counts of equally likely backends may be from their mean by chance."""

from __future__ import annotations

from fractions import Fraction
from math import comb

FALSE_ALARM = 1e-6
"""The highest probability of calling a truly random proxy unfair."""


def fair_range(requests: int, backends: int, false_alarm: float = FALSE_ALARM) -> tuple[int, int]:
    """The fewest and the most of `requests` that each of `backends` may get, if all are equally likely.

    Each count is binomial (n = requests, p = 1/backends). The bounds cut at most false_alarm / (2 * backends) off each
    tail. So by the union bound the probability that any count is outside is at most `false_alarm`, although the counts
    depend on one another. The computation is exact.
    """
    chance = Fraction(1, backends)
    tail = Fraction(false_alarm) / (2 * backends)
    probabilities = [comb(requests, k) * chance**k * (1 - chance) ** (requests - k) for k in range(requests + 1)]
    low, below = 0, probabilities[0]
    while below <= tail:
        low += 1
        below += probabilities[low]
    high, above = requests, probabilities[requests]
    while above <= tail:
        high -= 1
        above += probabilities[high]
    return low, high
