"""What is on the disk, and what a server says that cannot use it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from netlab.api.resources import PODS
from netlab.api.server.registry import DeleteOptions
from netlab.api.server.store import Store
from netlab.errors import ConflictError, NetlabError
from tests.unit.api.cluster import create, opened, pod

_RESOURCE: Any = PODS


def test_everything_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "cluster.db"
    with opened(path) as registry:
        made = create(registry, PODS, pod())
    with opened(path) as registry:
        assert registry.get(_RESOURCE, "default", "p").decode() == made


def test_the_revision_never_goes_back(tmp_path: Path) -> None:
    path = tmp_path / "cluster.db"
    with opened(path) as registry:
        create(registry, PODS, pod())
        registry.delete(_RESOURCE, "default", "p", DeleteOptions())
        revision = registry.store.revision
    with opened(path) as registry:
        assert registry.store.revision == revision
        assert int(create(registry, PODS, pod())["metadata"]["resourceVersion"]) == revision + 1


def test_one_server_for_one_database(tmp_path: Path) -> None:
    path = tmp_path / "cluster.db"
    with opened(path), pytest.raises(ConflictError, match="is in use by another API server"):
        Store(path)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (b"not a database at all" * 100, "file is not a database"),
        (None, "it has format 99, this netlab knows 1"),
    ],
)
def test_a_database_that_cannot_be_read(tmp_path: Path, damage: bytes | None, complaint: str) -> None:
    path = tmp_path / "cluster.db"
    if damage is not None:
        path.write_bytes(damage)
    else:
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA user_version = 99")
        database.close()
    with pytest.raises(NetlabError, match=complaint) as refused:
        Store(path)
    assert "run `netlab down` and start anew" in str(refused.value)


def test_an_object_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "cluster.db"
    with opened(path):
        pass
    with sqlite3.connect(path) as database:
        database.execute("UPDATE objects SET value = 'x'")
    database.close()
    with pytest.raises(NetlabError, match="cannot be read"):
        Store(path)


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NetlabError, match="does its directory exist"):
        Store(tmp_path / "absent" / "cluster.db")
