"""The cluster's objects: all of them in memory, and each change in SQLite before anybody hears of it.

Durability: WAL with synchronous=NORMAL. A committed transaction is in the page cache before a request is answered, so
it outlives `kill -9` of the server; an fsync for each, which only a power cut would need, is left out, because a lab
does not outlive the machine's kernel (its namespaces are gone). A power cut cannot damage the file, only take back the
last changes (https://www.sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from netlab.api.meta_types import Object
from netlab.api.resources import ALL, Resource
from netlab.api.server import field_selectors, refusals
from netlab.api.server.schema import JSONObject
from netlab.api.server.watch import Event, Hub, Stored
from netlab.errors import ConflictError, ExhaustedError, NetlabError

FORMAT = 1
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
CREATE TABLE revision (value INTEGER NOT NULL);
INSERT INTO revision VALUES (0);
"""

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
        try:
            self._database = self._open()
            revision = self._load()
        except (sqlite3.Error, msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
            raise _start_error(path, error) from None
        self.hub = Hub(revision)

    @property
    def revision(self) -> int:
        """The resourceVersion of the latest change."""
        return self.hub.revision

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=1.0, isolation_level=None)
        # Exclusive: two servers on one database would each believe in their own memory. It also spares the -shm file.
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;")
        elif version != FORMAT:
            raise ValueError(f"it has format {version}, this netlab knows {FORMAT}")
        return database

    def _load(self) -> int:
        for plural, value in self._database.execute("SELECT resource, value FROM objects"):
            stored = _stored(plural, msgspec.json.decode(value), value)
            self._objects[plural][stored.namespace, stored.name] = stored
        (revision,) = self._database.execute("SELECT value FROM revision").fetchone()
        return int(revision)

    def close(self) -> None:
        """Let the database go."""
        self._database.close()

    def get(self, resource: Resource[Object], namespace: str, name: str) -> Stored | None:
        """One object, or None."""
        return self._objects[resource.plural].get((namespace, name))

    def all(self, resource: Resource[Object]) -> Iterator[Stored]:
        """The objects of a resource in every namespace, ordered by namespace and name."""
        objects = self._objects[resource.plural]
        return (objects[key] for key in sorted(objects))

    def put(self, resource: Resource[Object], obj: JSONObject) -> Stored:
        """Store an object under its namespace and name and tell the watches; its resourceVersion is set.

        Raises `ApiError` (507 InsufficientStorage, or 500) when it could not be written: then nothing has changed.
        """
        revision = self.revision + 1
        meta = obj["metadata"]
        meta["resourceVersion"] = str(revision)
        stored = _stored(resource.plural, obj, msgspec.json.encode(obj))
        key = (stored.namespace, stored.name)
        self._write(
            revision,
            "INSERT INTO objects VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
            (resource.plural, *key, stored.raw),
        )
        objects = self._objects[resource.plural]
        before = objects.get(key)
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
        self._write(revision, statement, (resource.plural, namespace, name))
        del self._objects[resource.plural][namespace, name]
        self.hub.publish(resource.plural, Event(revision, before, None, gone))
        return gone

    def _write(self, revision: int, statement: str, values: tuple[Any, ...]) -> None:
        database = self._database
        try:
            database.execute("BEGIN IMMEDIATE")
            database.execute(statement, values)
            database.execute("UPDATE revision SET value = ?", (revision,))
            database.execute("COMMIT")
        except sqlite3.Error as error:
            if database.in_transaction:
                database.execute("ROLLBACK")
            if error.sqlite_errorcode & _PRIMARY_CODE in _FULL:
                raise refusals.no_space(error) from error
            raise refusals.storage_failed(error) from error


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
    if code in _FULL:
        return ExhaustedError(f"the cluster's database {path} cannot be opened ({error}): is the disk full?")
    if code == sqlite3.SQLITE_CANTOPEN:
        return NetlabError(f"the cluster's database {path} cannot be opened: does its directory exist and is it yours?")
    return NetlabError(f"the cluster's database {path} cannot be read ({error}): run `netlab down` and start anew")
