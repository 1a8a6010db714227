"""The lab of a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.machine.lab import Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A running lab of the test's own."""
    with Lab() as running:
        yield running


@pytest.fixture(scope="module")
def shared_lab() -> Iterator[Lab]:
    """A running lab for the tests that only look."""
    with Lab() as running:
        yield running
