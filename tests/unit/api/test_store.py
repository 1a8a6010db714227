"""What SQLite has on the disk, and what a server says that cannot use it."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from netlab.api.resources import PODS
from netlab.api.server.storage import snapshots
from netlab.api.server.storage.sqlite import Sqlite, restore, snapshot_of
from netlab.api.server.storage.store import Store
from netlab.errors import ConflictError, NetlabError
from tests.unit.api.cluster import create, opened, pod, refused

_RESOURCE: Any = PODS


def test_one_server_for_one_database(tmp_path: Path) -> None:
    path = tmp_path / "cluster.db"
    with opened(path), pytest.raises(ConflictError, match="is in use by another API server"):
        Store(Sqlite(path))


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (b"not a database at all" * 100, "file is not a database"),
        (None, "it has format 99, this netlab knows 3"),
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
        Store(Sqlite(path))
    assert "`netlab down` removes the lab" in str(refused.value)


def test_an_object_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "cluster.db"
    with opened(path):
        pass
    with sqlite3.connect(path) as database:
        database.execute("UPDATE objects SET value = 'x'")
    database.close()
    with pytest.raises(NetlabError, match="cannot be used"):
        Store(Sqlite(path))


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NetlabError, match="does its directory exist"):
        Store(Sqlite(tmp_path / "absent" / "cluster.db"))


# --- Damage ----------------------------------------------------------------------------------------------------------

_PODS = 60
_PAGE = 4096
_WAL_HEADER, _FRAME = 32, 24 + _PAGE


def _killed(path: Path, pods: int = _PODS) -> None:
    """A database as a server that was killed leaves it: nearly everything is in the write-ahead log."""
    child = os.fork()
    if child == 0:
        try:
            with opened(path) as registry:
                for number in range(pods):
                    create(registry, PODS, pod(f"p{number}", hostname="x" * 60))
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def _closed(path: Path) -> None:
    """The same, all of it in the database and no log."""
    _killed(path)
    Store(Sqlite(path)).close()
    assert not path.with_name("cluster.db-wal").exists()


def _overwrite(name: str, offset: int, data: bytes) -> Callable[[Path], object]:
    def damage(path: Path) -> None:
        with path.with_name(name).open("r+b") as file:
            file.seek(offset, os.SEEK_SET if offset >= 0 else os.SEEK_END)
            file.write(data)

    return damage


def _zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _truncate(name: str, part: float) -> Callable[[Path], object]:
    def damage(path: Path) -> None:
        os.truncate(path.with_name(name), int(path.with_name(name).stat().st_size * part))

    return damage


def _sql(statement: str) -> Callable[[Path], object]:
    def damage(path: Path) -> None:
        database = sqlite3.connect(path, isolation_level=None)
        database.execute(statement)
        database.close()

    return damage


def _flip_in_an_object(path: Path) -> None:
    content = path.read_bytes()
    at = content.index(b"x" * 60)
    path.write_bytes(content[:at] + b"y" + content[at + 1 :])


_WAL, _DB = "cluster.db-wal", "cluster.db"
_LATE = _WAL_HEADER + 100 * _FRAME
DAMAGES: list[tuple[Callable[[Path], None], Callable[[Path], object]]] = [
    (_killed, _overwrite(_WAL, 0, bytes(4))),
    (_killed, _overwrite(_WAL, _WAL_HEADER + 8, b"\xff")),
    (_killed, _overwrite(_WAL, _LATE + 100, b"\xff\xff\xff")),
    (_killed, _overwrite(_WAL, -10, b"\xff\xfe\xfd")),
    (_killed, _truncate(_WAL, 0)),
    (_killed, _truncate(_WAL, 0.5)),
    (_killed, _truncate(_WAL, 0.999)),
    (_killed, lambda path: path.with_name(_WAL).unlink()),
    (_killed, lambda path: path.unlink()),
    (_killed, _truncate(_DB, 0)),
    (_closed, _truncate(_DB, 0)),
    (_closed, _truncate(_DB, 0.5)),
    (_closed, lambda path: path.unlink()),
    (_closed, _zero),
    (_closed, _overwrite(_DB, 0, bytes(16))),
    (_closed, _overwrite(_DB, 5 * _PAGE, b"\xa5" * _PAGE)),
    (_closed, _flip_in_an_object),
    (_closed, _sql("DELETE FROM objects WHERE name = 'p7'")),
    (_closed, _sql("UPDATE objects SET name = 'p-7' WHERE name = 'p7'")),
    (_closed, _sql("UPDATE revision SET value = 3")),
    (_closed, lambda path: path.with_name("cluster.db-revision").write_bytes(b"\0" * 20)),
]


@pytest.mark.parametrize(("make", "damage"), DAMAGES)
def test_damage_is_named_with_the_way_back_and_nothing_is_changed(
    tmp_path: Path, make: Callable[[Path], None], damage: Callable[[Path], object]
) -> None:
    path = tmp_path / "cluster.db"
    make(path)
    damage(path)
    log = path.with_name(_WAL)
    before = log.read_bytes() if log.exists() else b""
    for _ in range(2):
        with pytest.raises(NetlabError, match=r"cannot be used .*: there is no snapshot") as refused:
            Store(Sqlite(path))
        assert "\n" not in str(refused.value)
    assert (log.read_bytes() if log.exists() else b"") == before
    snapshots.write(snapshot_of(path), snapshots.lines(5, []))
    with pytest.raises(NetlabError, match=f"`netlab snapshot restore --name {tmp_path.name}` goes back"):
        Store(Sqlite(path))


def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "cluster.db"
    _killed(path)
    with opened(path) as registry:
        names = {
            name for _, raw in registry.store.contents() for name in [msgspec.json.decode(raw)["metadata"]["name"]]
        }
        assert {f"p{number}" for number in range(_PODS)} <= names


def test_changes_that_a_power_cut_took_back_are_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "cluster.db"
    _killed(path)
    _truncate(_WAL, 0.5)(path)
    marker = path.with_name("cluster.db-revision")
    written = int(marker.read_text().split()[0])
    marker.write_text(f"{written:020d} another-boot\n")
    with opened(path) as registry:
        assert registry.store.revision >= written
        with refused(410):  # the changes that are missing: nobody must go on from amid them
            registry.store.objects_at(_RESOURCE, written - 1)


def test_a_database_from_before_there_was_history(tmp_path: Path) -> None:
    path = tmp_path / "cluster.db"
    _closed(path)
    _sql("DROP TABLE history")(path)
    _sql("PRAGMA user_version = 2")(path)
    with opened(path) as registry:
        create(registry, PODS, pod("after"))
    with opened(path) as registry:
        registry.store.objects_at(_RESOURCE, registry.store.revision - 1)
        with refused(410):
            registry.store.objects_at(_RESOURCE, registry.store.revision - 2)


@pytest.mark.parametrize("damage", [_truncate(_DB, 0), _zero, _truncate(_WAL, 0.5)])
def test_a_snapshot_brings_everything_back(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    path = tmp_path / "cluster.db"
    _killed(path)
    store = Store(Sqlite(path))
    contents, revision = store.contents(), store.revision
    snapshots.write(snapshot_of(path), snapshots.lines(revision, contents))
    store.close()
    path.with_name(_WAL).write_bytes(b"\xa5" * 5000)
    damage(path)
    restore(path, snapshots.read(snapshot_of(path)))
    store = Store(Sqlite(path))
    assert (store.contents(), store.revision) == (contents, revision)
    store.close()


SPOILT = [
    (lambda content: content[:-50], "damaged"),
    (lambda content: b"\n".join(content.split(b"\n")[:-3]), "damaged"),
    (lambda content: content.replace(b"x" * 60, b"y" * 60, 1), "damaged"),
    (lambda content: content.replace(b'"Pod"', b'"Cow"', 1), "no Cow"),
    (lambda content: content.replace(b'"uid":"', b'"uidx":"', 1), "line 2: it has no name, uid or resourceVersion"),
    (lambda content: b"", "not a snapshot"),
    (lambda content: b"\xff\xfe\n", "not a snapshot"),
    (lambda content: b"{}\n", "not a snapshot"),
]


@pytest.mark.parametrize(("spoil", "said"), SPOILT)
def test_a_spoilt_snapshot_is_refused(tmp_path: Path, spoil: Callable[[bytes], bytes], said: str) -> None:
    path, file = tmp_path / "cluster.db", tmp_path / "file"
    with opened(path) as registry:
        for number in range(5):
            create(registry, PODS, pod(f"p{number}", hostname="x" * 60))
        snapshots.write(file, snapshots.lines(registry.store.revision, registry.store.contents()))
    assert len(snapshots.read(file).objects) == snapshots.read_header(file).objects
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(NetlabError, match=said):
        snapshots.read(file)
