"""What random choice allows: how far the counts of equally likely backends may lie from their mean."""

from __future__ import annotations

from fractions import Fraction
from math import comb

FALSE_ALARM = 1e-6
"""How often, at most, a proxy that chooses truly at random is called unfair."""


def fair_range(requests: int, backends: int, false_alarm: float = FALSE_ALARM) -> tuple[int, int]:
    """The fewest and the most of `requests` that each of `backends` may get, if each gets one with equal chance.

    Each count is binomial (n = requests, p = 1/backends). The bounds cut at most false_alarm / (2 * backends) off
    either tail, so that by the union bound the chance that any count lies outside is at most `false_alarm`, though the
    counts depend on one another. It is computed exactly.
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
