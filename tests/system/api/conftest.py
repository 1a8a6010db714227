from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.api.serving import Server, serving


@pytest.fixture
def lab() -> Iterator[Path]:
    """A short path: a Unix socket's is at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="netlab-api-") as directory:
        yield Path(directory)


@pytest.fixture
def server(lab: Path) -> Iterator[Server]:
    with serving(lab) as running:
        yield running


@pytest.fixture(scope="module")
def server_of_module() -> Iterator[Server]:
    """For tests that leave nothing behind."""
    with tempfile.TemporaryDirectory(prefix="netlab-api-") as directory, serving(Path(directory)) as running:
        yield running
