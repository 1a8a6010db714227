"""The cluster's objects: all of them in memory, and each change in SQLite before anybody hears of it.

Durability: WAL with synchronous=NORMAL. A committed transaction is in the page cache before a request is answered, so
it outlives `kill -9` of the server; an fsync for each, which only a power cut would need, is left out, because a lab
does not outlive the machine's kernel (its namespaces are gone). A power cut cannot damage the file, only take back the
last changes (https://www.sqlite.org/pragma.html#pragma_synchronous).

Damage: a server starts with all that was written, or says what is wrong and changes nothing. SQLite checks its pages, a
digest in the database covers every object, and a file beside it has the last revision (durability.py). A snapshot is
kept to go back to.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from netlab.api.meta_types import Object
from netlab.api.resources import ALL, Resource
from netlab.api.server import field_selectors, refusals, snapshots
from netlab.api.server.durability import DamagedError, Marker, Written, kept_log
from netlab.api.server.schema import JSONObject
from netlab.api.server.watch import Event, Hub, Stored
from netlab.errors import ConflictError, ExhaustedError, NetlabError

FORMAT = 2
"""PRAGMA user_version of the database."""

# One row of `revision`: resourceVersion never goes back, not even when the newest object is deleted before a restart.
_SCHEMA = """
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
_INSERT = "INSERT INTO objects VALUES (?, ?, ?, ?)"
_SET_REVISION = "UPDATE revision SET value = ?, objects = ?, digest = ?"

_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
"""ENOSPC is SQLITE_FULL; EDQUOT and a full thin volume (EIO) come as SQLITE_IOERR."""

_PRIMARY_CODE = 0xFF

Key = tuple[str, str]
"""Namespace (empty for what is cluster-scoped) and name."""


class Store:
    """The objects by resource and key. One process holds the database at a time.

    Raises `ConflictError` when another process holds it, and `NetlabError` when it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._objects: dict[str, dict[Key, Stored]] = {resource.plural: {} for resource in ALL}
        self._digest = snapshots.Digest()
        self._marker = Marker(marker_of(path))
        try:
            written = self._marker.read()
            with kept_log(path):
                revision = self._open_and_load(written)
            self._marker.begin(revision)
        except (OSError, sqlite3.Error, msgspec.MsgspecError, KeyError, TypeError, ValueError, DamagedError) as error:
            raise _start_error(path, error) from None
        self.hub = Hub(revision)

    @property
    def revision(self) -> int:
        """The resourceVersion of the latest change."""
        return self.hub.revision

    def _open_and_load(self, written: Written | None) -> int:
        if written is not None and written.revision and not (self._path.exists() and self._path.stat().st_size):
            raise DamagedError(f"it is empty, and has had {written.revision} changes")
        self._database = _connect(self._path)
        try:
            self._prepare(written)
            revision = self._load()
            self._marker.compare(written, revision)
        except BaseException:
            self._database.close()
            raise
        return max(revision, written.revision if written else 0)

    def _prepare(self, written: Written | None) -> None:
        database = self._database
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == 0 and written is not None and written.revision:
            raise DamagedError(f"it has no tables, and has had {written.revision} changes")
        if version == 0:
            database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;")
        elif version != FORMAT:
            raise ValueError(f"it has format {version}, this netlab knows {FORMAT}")

    def _load(self) -> int:
        (verdict,) = self._database.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise DamagedError(verdict.splitlines()[-1])  # below a line that names the database "main"
        for plural, namespace, name, value in self._database.execute("SELECT * FROM objects"):
            stored = _stored(plural, msgspec.json.decode(value), value)
            if (stored.namespace, stored.name) != (namespace, name):
                raise DamagedError(f"{plural} {namespace}/{name} has become another object")
            self._objects[plural][namespace, name] = stored
            self._digest = self._digest.changed(plural, None, value)
        revision, objects, digest = self._database.execute("SELECT * FROM revision").fetchone()
        if self._digest != (objects, digest):
            raise DamagedError(f"of its {objects} objects some are missing or changed")
        return int(revision)

    def contents(self) -> list[tuple[str, bytes]]:
        """Every object's JSON with its resource, as of now."""
        return [
            (plural, stored.raw) for plural, objects in self._objects.items() for _, stored in sorted(objects.items())
        ]

    def count(self, resource: Resource[Object]) -> int:
        """How many objects a resource has."""
        return len(self._objects[resource.plural])

    def check(self) -> None:
        """Raise what is wrong if the database cannot be read, or does not have what was written last."""
        (written,) = self._database.execute("SELECT value FROM revision").fetchone()
        if written > self.revision:
            raise ValueError(f"the database has revision {written}, and {self.revision} was written last")

    def close(self) -> None:
        """Let the database go."""
        self._database.close()
        self._marker.close()

    def get(self, resource: Resource[Object], namespace: str, name: str) -> Stored | None:
        """One object, or None."""
        return self._objects[resource.plural].get((namespace, name))

    def all(self, resource: Resource[Object]) -> Iterator[Stored]:
        """The objects of a resource in every namespace, ordered by namespace and name."""
        objects = self._objects[resource.plural]
        return (objects[key] for key in sorted(objects))

    def objects_at(self, resource: Resource[Object], revision: int) -> Mapping[Key, Stored]:
        """The objects of a resource as they were at a revision, by key; not to be changed, nor kept.

        Raises `ApiError` (Expired) if the changes since then are not all known.
        """
        present = self._objects[resource.plural]
        since = self.hub.events_since(resource.plural, revision) if revision != self.revision else []
        if not since:
            return present
        past = dict(present)
        for event in reversed(since):
            if event.before is not None:
                past[event.before.namespace, event.before.name] = event.before
            elif event.after is not None:
                del past[event.after.namespace, event.after.name]
        return past

    def put(self, resource: Resource[Object], obj: JSONObject, limit: int | None = None) -> Stored:
        """Store an object under its namespace and name and tell the watches; its resourceVersion is set.

        Raises `ApiError` (507 InsufficientStorage, or 500) when it could not be written, and 413 if it has more bytes
        than the `limit`: then nothing has changed.
        """
        revision = self.revision + 1
        meta = obj["metadata"]
        meta["resourceVersion"] = str(revision)
        raw = msgspec.json.encode(obj)
        check_size(raw, limit)
        stored = _stored(resource.plural, obj, raw)
        key = (stored.namespace, stored.name)
        objects = self._objects[resource.plural]
        before = objects.get(key)
        self._write(
            revision,
            f"{_INSERT} ON CONFLICT DO UPDATE SET value = excluded.value",
            (resource.plural, *key, stored.raw),
            before,
            stored,
        )
        objects[key] = stored
        self.hub.publish(resource.plural, Event(revision, before, stored))
        return stored

    def remove(self, resource: Resource[Object], namespace: str, name: str) -> Stored:
        """Delete an object that is there and tell the watches; its last state. Raises as `put`."""
        before = self._objects[resource.plural][namespace, name]
        revision = self.revision + 1
        last = before.decode()
        last["metadata"]["resourceVersion"] = str(revision)
        gone = _stored(resource.plural, last, msgspec.json.encode(last))
        statement = "DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?"
        self._write(revision, statement, (resource.plural, namespace, name), before, None)
        del self._objects[resource.plural][namespace, name]
        self.hub.publish(resource.plural, Event(revision, before, None, gone))
        return gone

    def _write(
        self, revision: int, statement: str, values: tuple[Any, ...], before: Stored | None, after: Stored | None
    ) -> None:
        database, plural = self._database, values[0]
        digest = self._digest.changed(plural, before.raw if before else None, after.raw if after else None)
        try:
            database.execute("BEGIN IMMEDIATE")
            database.execute(statement, values)
            database.execute(_SET_REVISION, (revision, *digest))
            database.execute("COMMIT")
        except sqlite3.Error as error:
            if database.in_transaction:
                database.execute("ROLLBACK")
            if error.sqlite_errorcode & _PRIMARY_CODE in _FULL:
                raise refusals.no_space(error) from error
            raise refusals.storage_failed(error) from error
        self._digest = digest
        self._marker.move(revision)


def check_size(raw: bytes, limit: int | None) -> None:
    """Raise `ApiError` (413) if an object has more bytes than the limit."""
    if limit is not None and len(raw) > limit:
        raise refusals.object_too_large(len(raw), limit)


def marker_of(database: Path) -> Path:
    """The file with the database's last revision."""
    return database.with_name(database.name + "-revision")


def snapshot_of(database: Path) -> Path:
    """The snapshot that a server keeps of its database."""
    return database.with_name(database.name + "-snapshot")


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
            stored = _stored(plural, msgspec.json.decode(raw), raw)
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


def _stored(plural: str, obj: JSONObject, raw: bytes) -> Stored:
    meta = obj["metadata"]
    return Stored(
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        uid=meta["uid"],
        revision=int(meta["resourceVersion"]),
        raw=raw,
        labels=meta.get("labels", {}),
        fields=field_selectors.read(obj, plural),
    )


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
