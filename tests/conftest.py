"""Fixtures of every test: the host is compared before and after."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import hypothesis
import pytest

from tests import host

# Tests are not timed, and a shared machine takes its time: neither an example's run nor its making (a second for the
# first ten) decides.
hypothesis.settings.register_profile("netlab", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("netlab")


def pytest_xdist_auto_num_workers() -> int:
    """Two for each processor: half of the time a test of the system waits, for the kernel or a process."""
    return 2 * len(os.sched_getaffinity(0))


@pytest.fixture(scope="module", autouse=True)
def untouched_host(request: pytest.FixtureRequest) -> Iterator[None]:
    """No system or end-to-end test changes the host's network, or leaves a cgroup."""
    if "/unit/" in str(request.path):
        yield
        return
    before, cgroups = host.snapshot(), host.abandoned_cgroups()
    yield
    after = host.snapshot()
    changed = [what for what in before if before[what] != after[what]]
    for _ in range(600):
        # One of a test that runs beside this one will be removed in time.
        left = host.abandoned_cgroups() - cgroups
        if not left:
            break
        time.sleep(0.1)
    assert not left, f"the tests left cgroups: {left}"
    assert not changed, f"the tests changed the host's {', '.join(changed)}: {[(before[c], after[c]) for c in changed]}"
