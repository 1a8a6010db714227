from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import etcd
from tests.system.api.serving import Server, serving


@pytest.fixture
def lab() -> Iterator[Path]:
    """A short path: a Unix socket's is at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="netlab-api-") as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def etcd_url() -> Iterator[str]:
    with etcd.running() as running:
        yield running.url


@pytest.fixture(params=["sqlite", "etcd"])
def server(request: pytest.FixtureRequest, lab: Path) -> Iterator[Server]:
    url = request.getfixturevalue("etcd_url") if request.param == "etcd" else None
    with serving(lab, url) as running:
        yield running


@pytest.fixture(scope="module")
def server_of_module() -> Iterator[Server]:
    """For tests that leave nothing behind."""
    with tempfile.TemporaryDirectory(prefix="netlab-api-") as directory, serving(Path(directory)) as running:
        yield running
