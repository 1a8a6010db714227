"""How long to wait before the next attempt."""

import pytest

from netlab.backoff import Backoff


@pytest.mark.parametrize(
    ("lasted", "delays"),
    [
        ([0, 0, 0, 0, 0, 0], [1, 2, 4, 8, 10, 10]),
        ([0, 0, 0, 61, 0, 0], [1, 2, 4, 1, 2, 4]),
        ([0, 60, 60], [1, 2, 4]),
        ([61, 61], [1, 1]),
    ],
)
def test_delays_double_to_their_cap_until_an_attempt_was_steady(lasted: list[float], delays: list[float]) -> None:
    backoff, found = Backoff(first=1, last=10, steady=60), []
    assert backoff.delay == 0
    for seconds in lasted:
        backoff = backoff.failed(seconds)
        found.append(backoff.delay)
    assert found == delays


def test_an_attempt_that_lasts_owes_nothing_to_failures_before_it() -> None:
    backoff = Backoff(first=1, last=10, steady=60).failed().failed()
    assert [backoff.after(seconds).delay for seconds in (0, 60, 61)] == [2, 2, 0]
