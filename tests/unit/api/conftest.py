from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netlab.api.server.registry.generic import Registry
from netlab.api.server.storage.backend import Backend
from netlab.api.server.storage.etcd import Etcd
from netlab.api.server.storage.etcd_gateway import Gateway
from netlab.api.server.storage.sqlite import Sqlite
from tests import etcd
from tests.unit.api import cluster


@pytest.fixture(scope="session")
def etcd_url() -> Iterator[str]:
    with etcd.running() as server:
        yield server.url


@pytest.fixture(params=["sqlite", "etcd"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Backend]:
    """Opens the same place whenever it is called: a database, or a prefix of an etcd."""
    if request.param == "sqlite":
        return lambda: Sqlite(tmp_path / "cluster.db")
    url, prefix = request.getfixturevalue("etcd_url"), f"/{uuid.uuid4()}"
    return lambda: Etcd(Gateway(url), prefix, tmp_path / "restoring")


@pytest.fixture
def registry(backend: Callable[[], Backend]) -> Iterator[Registry]:
    with cluster.opened(backend) as opened:
        yield opened
