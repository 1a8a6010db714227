"""The bounds of a fair share, against exact sums."""

import random
from fractions import Fraction
from math import comb

import pytest

from netlab.scenario.distribution import FALSE_ALARM, fair_range


def outside(requests: int, backends: int, low: int, high: int) -> Fraction:
    """The chance that one fair count lies outside the bounds."""
    p = Fraction(1, backends)
    inside = sum(comb(requests, k) * p**k * (1 - p) ** (requests - k) for k in range(low, high + 1))
    return Fraction(1 - inside)


@pytest.mark.parametrize(("requests", "backends"), [(300, 3), (60, 2), (100, 7), (5, 2), (20, 20)])
def test_the_bounds_keep_the_false_alarm_and_are_no_wider_than_that_needs(requests: int, backends: int) -> None:
    low, high = fair_range(requests, backends)
    tail = Fraction(FALSE_ALARM) / (2 * backends)
    assert backends * outside(requests, backends, low, high) <= Fraction(FALSE_ALARM)
    if low > 0:
        assert outside(requests, backends, low + 1, requests) > tail
    if high < requests:
        assert outside(requests, backends, 0, high - 1) > tail


@pytest.mark.parametrize(
    ("requests", "backends", "expected"), [(300, 3, (60, 143)), (1, 1, (1, 1)), (10, 2, (0, 10)), (50, 1, (50, 50))]
)
def test_bounds(requests: int, backends: int, expected: tuple[int, int]) -> None:
    assert fair_range(requests, backends) == expected


@pytest.mark.parametrize(("weights", "fair"), [((1, 1, 1), True), ((4, 1, 1), False), ((1, 1, 0), False)])
def test_an_unfair_choice_is_noticed(weights: tuple[int, ...], fair: bool) -> None:
    low, high = fair_range(300, len(weights))
    chosen = random.Random(7).choices(range(len(weights)), weights, k=300)
    counts = [chosen.count(backend) for backend in range(len(weights))]
    assert all(low <= count <= high for count in counts) == fair
