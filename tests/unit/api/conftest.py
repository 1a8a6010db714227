from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from netlab.api.server.registry import Registry
from tests.unit.api import cluster


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with cluster.opened(tmp_path / "cluster.db") as opened:
        yield opened
