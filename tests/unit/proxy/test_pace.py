"""Syncs against a clock of the test's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.proxy.pace import Pace


def begun(pace: Pace, changes: list[float]) -> list[float]:
    """When a sync begins for changes that come at these times, one that waits taking in all that come meanwhile."""
    times: list[float] = []
    for at in changes:
        if times and times[-1] >= at:
            continue
        begin = at + pace.delay(at)
        pace.spend(begin)
        times.append(begin)
    return times


@pytest.mark.parametrize(
    ("period", "burst", "changes", "expected"),
    [
        (1.0, 2, [100.0], [100.0]),
        (1.0, 2, [100.0, 100.1, 100.2, 100.3], [100.0, 100.1, 101.0]),
        (1.0, 1, [100.0, 100.5, 101.5, 110.0], [100.0, 101.0, 102.0, 110.0]),
        (0.0, 1, [1.0, 1.1, 1.2], [1.0, 1.1, 1.2]),
    ],
    ids=["a first change", "a burst", "no burst", "no least time"],
)
def test_when_syncs_begin(period: float, burst: int, changes: list[float], expected: list[float]) -> None:
    assert begun(Pace(period, burst), changes) == pytest.approx(expected)


@given(
    changes=st.lists(st.floats(1, 100), min_size=1).map(sorted),
    period=st.floats(0.01, 10),
    burst=st.integers(1, 10),
)
def test_no_window_has_more_syncs_than_the_pace_allows(changes: list[float], period: float, burst: int) -> None:
    times = begun(Pace(period, burst), changes)
    for index, first in enumerate(times):
        for count, last in enumerate(times[index:], start=1):
            assert count <= burst + (last - first) / period + 1e-6
    assert times[-1] <= changes[-1] + period * (1 + 1e-9), "no change waits longer than the period"
