"""Saves a lab's objects to a file, and restores them: to the lab itself, or to another one, here or elsewhere."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path

import msgspec

from netlab.api.meta_types import Object
from netlab.api.resources import LEASES, NODES, SNAPSHOT
from netlab.api.server.storage import snapshots, sqlite
from netlab.errors import ConflictError, NetlabError, NotFoundError, UsageError
from netlab.lab import external_etcd, ids, startup
from netlab.lab.lab import Lab
from netlab.lab.lifecycle import create
from netlab.lab.spec import LabSpec

_ADDRESSES = ("families", "podCIDRs", "serviceCIDRs", "nodeCIDRMaskSizes")
"""What objects have addresses of: of one lab and the other it has to be the same."""


def save(lab: Lab, file: Path) -> snapshots.Header:
    """Write all objects of a lab that is up, as of one moment, to a file. Returns the snapshot's header.

    Raises `NotFoundError` or `UnavailableError` when the lab is not up, `NetlabError` when the file cannot be written.
    """
    first, _, rest = lab.client().read(SNAPSHOT).partition(b"\n")
    header = msgspec.json.decode(first, type=snapshots.Header)
    header.lab = msgspec.to_builtins(lab.spec())
    try:
        snapshots.write(file, [msgspec.json.encode(header), b"\n", rest])
    except OSError as error:
        raise startup.explained(error, file.parent) from error
    return header


def restore(lab: Lab, file: Path | None) -> snapshots.Header:
    """Replace the objects of a lab that is down by those of a snapshot; without `file`, by the lab's own snapshot.

    A lab that does not exist is made, as the one was from which the snapshot is; it is down. Nodes that the lab does
    not have are left out.

    Raises `NotFoundError` when there is no such lab or snapshot, `ConflictError` when the lab is up or has other
    addresses, `NetlabError` when the snapshot is damaged or cannot be restored; nothing is changed then.
    """
    if file is None and not lab.exists():
        raise NotFoundError(f"there is no lab {lab.name!r}: `netlab list` shows the labs")
    ids.require_intact(lab.paths.directory)
    snapshot = snapshots.read(file or sqlite.snapshot_of(lab.paths.database))
    saved = _saved_from(snapshot.header, file)
    if not lab.exists():
        if saved is None:
            raise NotFoundError(
                f"there is no lab {lab.name!r}, and {file} does not say of what lab it is: give the --name of one"
            )
        create(lab, saved)
    spec = lab.spec()
    if saved is not None:
        _require_same_addresses(lab.name, spec, saved)
    snapshot = snapshots.without(snapshot, _absent(snapshot, spec))
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
            if spec.store == "etcd" or external_etcd.read(lab.paths) is not None:
                # Its API server takes it at the start: etcd does not run now.
                snapshots.copy(snapshot, sqlite.restoring_of(lab.paths.database))
            else:
                sqlite.restore(lab.paths.database, snapshot)
    except OSError as error:
        raise startup.explained(error, lab.paths.directory) from error
    except sqlite3.Error as error:
        raise NetlabError(f"lab {lab.name}: cannot rebuild its database: {error}") from error
    return snapshot.header


def _saved_from(header: snapshots.Header, file: Path | None) -> LabSpec | None:
    """The lab that a snapshot was saved from; None if it does not say. Raises `UsageError`."""
    if header.lab is None:
        return None
    try:
        spec = msgspec.convert(header.lab, LabSpec)
        spec.validate()
    except (msgspec.MsgspecError, UsageError) as error:
        raise UsageError(f"snapshot {file} is of a lab that cannot be: {error}") from None
    # What a lab has to do with the host and its network is of that machine alone.
    return msgspec.structs.replace(spec, store="sqlite", apiAddress=LabSpec().apiAddress, joins=None)


def _require_same_addresses(name: str, spec: LabSpec, saved: LabSpec) -> None:
    for field in _ADDRESSES:
        present, wanted = getattr(spec, field), getattr(saved, field)
        if present != wanted:
            raise ConflictError(
                f"lab {name} has {field} {', '.join(map(str, present))}, and the objects are of one with "
                f"{', '.join(map(str, wanted))}: restore them with a --name that does not exist, and such a lab is made"
            )


def _absent(snapshot: snapshots.Snapshot, spec: LabSpec) -> set[tuple[str, str]]:
    """The Nodes, and their Leases, that a lab does not have: what is on them is done anew elsewhere."""
    nodes = (msgspec.json.decode(raw, type=Object) for plural, raw in snapshot.objects if plural == NODES.plural)
    gone = {node.metadata.name for node in nodes} - set(spec.node_names)
    return {(resource.plural, name) for resource in (NODES, LEASES) for name in gone}
