"""Saves a lab's objects to a file, and restores them."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path

from netlab.api.resources import SNAPSHOT
from netlab.api.server.storage import snapshots, sqlite
from netlab.errors import ConflictError, NetlabError, NotFoundError
from netlab.lab import ids, startup
from netlab.lab.lab import Lab


def save(lab: Lab, file: Path) -> snapshots.Header:
    """Write all objects of a lab that is up, as of one moment, to a file. Returns the snapshot's header.

    Raises `NotFoundError` or `UnavailableError` when the lab is not up, `NetlabError` when the file cannot be written.
    """
    content = lab.client().read(SNAPSHOT)
    try:
        snapshots.write(file, [content])
    except OSError as error:
        raise startup.explained(error, file.parent) from error
    return snapshots.read_header(file)


def restore(lab: Lab, file: Path | None) -> snapshots.Header:
    """Replace the objects of a lab that is down by those of a snapshot; without `file`, by the lab's own snapshot.

    Raises `NotFoundError` when there is no such lab or snapshot, `ConflictError` when the lab is up, `NetlabError`
    when the snapshot is damaged or cannot be restored; nothing is changed then.
    """
    if not lab.exists():
        raise NotFoundError(f"there is no lab {lab.name!r}: `netlab list` shows the labs")
    ids.require_intact(lab.paths.directory)
    snapshot = snapshots.read(file or sqlite.snapshot_of(lab.paths.database))
    try:
        # Hold the lab's lock, as a monitor does, so that the lab cannot start in the meantime.
        with lab.paths.lock.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConflictError(
                    f"lab {lab.name} is up: a snapshot is restored to a lab that is down, `netlab down` removes it"
                ) from None
            os.umask(0o177)
            if lab.spec().store == "etcd":
                # Its API server takes it at the start: etcd does not run now.
                snapshots.copy(snapshot, sqlite.restoring_of(lab.paths.database))
            else:
                sqlite.restore(lab.paths.database, snapshot)
    except OSError as error:
        raise startup.explained(error, lab.paths.directory) from error
    except sqlite3.Error as error:
        raise NetlabError(f"lab {lab.name}: cannot rebuild its database: {error}") from error
    return snapshot.header
