"""The cluster's objects in SQLite: one file, written by this process alone.

Durability: WAL with synchronous=NORMAL. A committed transaction is in the page cache before a request is answered, so
it outlives `kill -9` of the server; an fsync for each, which only a power cut would need, is left out, because a lab
does not outlive the machine's kernel (its namespaces are gone). A power cut cannot damage the file, only take back the
last changes (https://www.sqlite.org/pragma.html#pragma_synchronous).

Damage: a server starts with all that was written, or says what is wrong and changes nothing. SQLite checks its pages, a
digest in the database covers every object, and a file beside it has the last revision (durability.py). A snapshot is
kept to go back to.
"""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from pathlib import Path
from typing import Any

import msgspec

from netlab.api.server import refusals
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.storage import snapshots
from netlab.api.server.storage.backend import Loaded, at_revision, check_size, stored_of
from netlab.api.server.storage.durability import DamagedError, Marker, Written, kept_log
from netlab.api.server.storage.watch import HISTORY, Event, Stored
from netlab.errors import ConflictError, ExhaustedError, NetlabError

FORMAT = 3
"""PRAGMA user_version of the database."""

_WITHOUT_HISTORY = 2
"""The format before it."""

# What undoes each of the last changes, so that watches from before a restart go on.
_HISTORY = """
CREATE TABLE history (
    revision INTEGER PRIMARY KEY,
    resource TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    before BLOB               -- the object's JSON until then; NULL if there was none
);
"""

# One row of `revision`: resourceVersion never goes back, not even when the newest object is deleted before a restart.
_SCHEMA = (
    """
CREATE TABLE objects (
    resource TEXT NOT NULL,   -- plural, such as pods
    namespace TEXT NOT NULL,  -- empty for what is cluster-scoped
    name TEXT NOT NULL,
    value BLOB NOT NULL,      -- the object's JSON, its resourceVersion within
    PRIMARY KEY (resource, namespace, name)
);
CREATE TABLE revision (
    value INTEGER NOT NULL,
    objects INTEGER NOT NULL, -- how many there are
    digest INTEGER NOT NULL   -- of all of them: snapshots.Digest
);
INSERT INTO revision VALUES (0, 0, 0);
"""
    + _HISTORY
)
_INSERT = "INSERT INTO objects VALUES (?, ?, ?, ?)"
_REMEMBER = "INSERT INTO history VALUES (?, ?, ?, ?, ?)"
_FORGET = "DELETE FROM history WHERE revision <= ?"
_SET_REVISION = "UPDATE revision SET value = ?, objects = ?, digest = ?"

_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
"""ENOSPC is SQLITE_FULL; EDQUOT and a full thin volume (EIO) come as SQLITE_IOERR."""

_PRIMARY_CODE = 0xFF


class Sqlite:
    """The objects in a SQLite database (`Backend`). One process holds the database at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._digest = snapshots.Digest()
        self._revision = 0

    def load(self) -> Loaded:
        """Open the database and read all of it.

        Raises `ConflictError` when another process holds it, and `NetlabError` when it cannot be read.
        """
        try:
            self._marker = Marker(marker_of(self._path))
            written = self._marker.read()
            with kept_log(self._path):
                loaded = self._open_and_load(written)
            self._revision = loaded.revision
            self._marker.begin(self._revision)
        except (OSError, sqlite3.Error, msgspec.MsgspecError, KeyError, TypeError, ValueError, DamagedError) as error:
            raise _start_error(self._path, error) from None
        return loaded

    def _open_and_load(self, written: Written | None) -> Loaded:
        if written is not None and written.revision and not (self._path.exists() and self._path.stat().st_size):
            raise DamagedError(f"it is empty, and has had {written.revision} changes")
        self._database = _connect(self._path)
        try:
            self._prepare(written)
            loaded = self._load()
            self._marker.compare(written, loaded.revision)
            if written is not None and written.revision > loaded.revision:
                # Changes were lost in a power cut, and who saw them must not go on as if they were there.
                return Loaded(written.revision, loaded.objects, floor=written.revision)
            loaded.floor, loaded.history = self._load_history(loaded)
        except BaseException:
            self._database.close()
            raise
        return loaded

    def _prepare(self, written: Written | None) -> None:
        database = self._database
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == 0 and written is not None and written.revision:
            raise DamagedError(f"it has no tables, and has had {written.revision} changes")
        if version == 0:
            database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;")
        elif version == _WITHOUT_HISTORY:
            database.executescript(f"BEGIN IMMEDIATE; {_HISTORY} PRAGMA user_version = {FORMAT}; COMMIT;")
        elif version != FORMAT:
            raise ValueError(f"it has format {version}, this netlab knows {FORMAT}")

    def _load(self) -> Loaded:
        (verdict,) = self._database.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise DamagedError(verdict.splitlines()[-1])  # below a line that names the database "main"
        found: list[tuple[str, Stored]] = []
        for plural, namespace, name, value in self._database.execute("SELECT * FROM objects"):
            stored = stored_of(plural, msgspec.json.decode(value), value)
            if (stored.namespace, stored.name) != (namespace, name):
                raise DamagedError(f"{plural} {namespace}/{name} has become another object")
            found.append((plural, stored))
            self._digest = self._digest.changed(plural, None, value)
        revision, objects, digest = self._database.execute("SELECT * FROM revision").fetchone()
        if self._digest != (objects, digest):
            raise DamagedError(f"of its {objects} objects some are missing or changed")
        return Loaded(revision, found, floor=revision)

    def _load_history(self, loaded: Loaded) -> tuple[int, list[tuple[str, Event]]]:
        """The changes that are known without a gap up to the last one, and the revision before the first of them."""
        image = {(plural, stored.namespace, stored.name): stored for plural, stored in loaded.objects}
        floor, history = loaded.revision, []
        for revision, plural, *place, raw in self._database.execute("SELECT * FROM history ORDER BY revision DESC"):
            after = image.pop((plural, *place), None)
            if revision != floor or (after is None and raw is None):
                break
            before = None if raw is None else stored_of(plural, msgspec.json.decode(raw), raw)
            gone = at_revision(plural, before, revision) if before is not None and after is None else None
            history.append((plural, Event(revision, before, after, gone)))
            if before is not None:
                image[plural, before.namespace, before.name] = before
            floor = revision - 1
        return floor, history[::-1]

    def compact(self, revision: int) -> None:
        """Forget changes, as `Backend.compact`; nothing while the disk is full."""
        with contextlib.suppress(sqlite3.Error):
            self._database.execute(_FORGET, (revision,))

    def check(self) -> None:
        """Raise what is wrong if the database cannot be read, or does not have what was written last."""
        (written,) = self._database.execute("SELECT value FROM revision").fetchone()
        if written > self._revision:
            raise ValueError(f"the database has revision {written}, and {self._revision} was written last")

    def close(self) -> None:
        """Let the database go."""
        self._database.close()
        self._marker.close()

    def settle(self) -> list[tuple[str, Event]]:
        """Nothing: each write is known to have been made, or not."""
        return []

    def put(self, plural: str, before: Stored | None, obj: JSONObject, limit: int | None) -> Stored:
        """Write an object, as `Backend.put`: 507 InsufficientStorage on a full disk, otherwise 500."""
        revision = self._revision + 1
        obj["metadata"]["resourceVersion"] = str(revision)
        raw = msgspec.json.encode(obj)
        check_size(raw, limit)
        stored = stored_of(plural, obj, raw)
        values = (plural, stored.namespace, stored.name, raw)
        self._write(revision, f"{_INSERT} ON CONFLICT DO UPDATE SET value = excluded.value", values, before, stored)
        return stored

    def remove(self, plural: str, before: Stored) -> Stored:
        """Delete an object, as `Backend.remove`."""
        revision = self._revision + 1
        statement = "DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?"
        self._write(revision, statement, (plural, before.namespace, before.name), before, None)
        return at_revision(plural, before, revision)

    def _write(
        self, revision: int, statement: str, values: tuple[Any, ...], before: Stored | None, after: Stored | None
    ) -> None:
        database, plural = self._database, values[0]
        digest = self._digest.changed(plural, before.raw if before else None, after.raw if after else None)
        try:
            database.execute("BEGIN IMMEDIATE")
            database.execute(statement, values)
            database.execute(_REMEMBER, (revision, *values[:3], before.raw if before else None))
            database.execute(_FORGET, (revision - HISTORY,))
            database.execute(_SET_REVISION, (revision, *digest))
            database.execute("COMMIT")
        except sqlite3.Error as error:
            if database.in_transaction:
                database.execute("ROLLBACK")
            if error.sqlite_errorcode & _PRIMARY_CODE in _FULL:
                raise refusals.no_space(error) from error
            raise refusals.storage_failed(error) from error
        self._digest = digest
        self._revision = revision
        self._marker.move(revision)


def marker_of(database: Path) -> Path:
    """The file with the database's last revision."""
    return database.with_name(database.name + "-revision")


def snapshot_of(database: Path) -> Path:
    """The snapshot that a server keeps of its database."""
    return database.with_name(database.name + "-snapshot")


def lock_of(database: Path) -> Path:
    """The file that is locked by a server that keeps its objects in etcd."""
    return database.with_name(database.name + "-lock")


def restoring_of(database: Path) -> Path:
    """The snapshot with which a server that keeps its objects in etcd is to start."""
    return database.with_name(database.name + "-restoring")


def restore(database: Path, snapshot: snapshots.Snapshot) -> None:
    """Make a database anew from a snapshot, in place of whatever is there; no server may be at work on it.

    Until the last moment the old one is as it was. Raises `OSError` and `sqlite3.Error`.
    """
    fresh = database.with_name(database.name + ".new")
    fresh.unlink(missing_ok=True)
    made = _connect(fresh)
    try:
        made.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {FORMAT};")
        for plural, raw in snapshot.objects:
            stored = stored_of(plural, msgspec.json.decode(raw), raw)
            made.execute(_INSERT, (plural, stored.namespace, stored.name, raw))
        header = snapshot.header
        made.execute(_SET_REVISION, (header.revision, header.objects, header.digest))
        made.execute("COMMIT")
    finally:
        made.close()
    # Its log would be taken for that of the new one; the last revision stays until that one is there.
    database.with_name(database.name + "-wal").unlink(missing_ok=True)
    fresh.rename(database)
    marker_of(database).unlink(missing_ok=True)


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=1.0, isolation_level=None)
    try:
        # Exclusive: two servers on one database would each believe in their own memory. It also spares the -shm file.
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        database.close()
        raise
    return database


def _start_error(path: Path, error: Exception) -> NetlabError:
    code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return ConflictError(f"the cluster's database {path} is in use by another API server: stop that one first")
    if code in _FULL or getattr(error, "errno", 0) in (errno.ENOSPC, errno.EDQUOT):
        return ExhaustedError(f"the cluster's database {path} cannot be opened ({error}): is the disk full?")
    if code == sqlite3.SQLITE_CANTOPEN or isinstance(error, OSError):
        return NetlabError(f"the cluster's database {path} cannot be opened: does its directory exist and is it yours?")
    return NetlabError(f"the cluster's database {path} cannot be used ({error}): {_remedy(path)}")


def _remedy(path: Path) -> str:
    command = f"netlab snapshot restore --name {path.parent.name}"
    try:
        header = snapshots.read_header(snapshot_of(path))
    except NetlabError:
        return f"there is no snapshot to go back to; `{command} FILE` takes one of yours, `netlab down` removes the lab"
    return (
        f"`{command}` goes back to the snapshot of {header.time} ({header.objects} objects, {snapshot_of(path)}), "
        "`netlab down` removes the lab"
    )
