"""What keeps the objects on a disk: SQLite or etcd, behind one interface. The memory image above it is store.py's."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import msgspec

from netlab.api.server import refusals
from netlab.api.server.objects import field_selectors
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.storage.watch import Event, Stored


@dataclasses.dataclass
class Loaded:
    """All that a backend has at its start: the objects, each with the name of its resource (Resource.collection)."""

    revision: int
    objects: list[tuple[str, Stored]]
    floor: int
    """All changes after this revision are in `history`."""
    history: list[tuple[str, Event]] = dataclasses.field(default_factory=list)


class Backend(Protocol):
    """Keeps each change before its caller hears of it, and numbers it: its revision is the object's resourceVersion."""

    def load(self) -> Loaded:
        """Take the objects over from an earlier server. Raises `NetlabError` when they cannot be read."""

    def settle(self) -> list[tuple[str, Event]]:
        """Find out what became of a write that got no answer, and take it back; what has changed by that.

        Raises `ApiError` when the answer is not to be had yet.
        """

    def put(self, plural: str, before: Stored | None, obj: JSONObject, limit: int | None) -> Stored:
        """Write an object in place of the one `before`, and set its resourceVersion.

        Raises `ApiError`: 413 if it has more bytes than the `limit`, 507, 500 or 503 when it cannot be written.
        """

    def remove(self, plural: str, before: Stored) -> Stored:
        """Delete an object; its last state, with the revision of the deletion. Raises as `put`."""

    def compact(self, revision: int) -> None:
        """Forget how the objects were before a revision. What is not forgotten now is at a later call."""

    def check(self) -> None:
        """Raise what is wrong if the objects cannot be read, or are not those that were written last."""

    def close(self) -> None:
        """Let the objects go."""


def stored_of(plural: str, obj: JSONObject, raw: bytes) -> Stored:
    """An object as it is kept in memory; `raw` is its JSON."""
    meta = obj["metadata"]
    return Stored(
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        uid=meta["uid"],
        revision=int(meta["resourceVersion"]),
        raw=raw,
        labels=meta.get("labels", {}),
        fields=field_selectors.read(obj, plural, raw),
    )


def at_revision(plural: str, stored: Stored, revision: int) -> Stored:
    """The same object with another resourceVersion."""
    obj = stored.decode()
    obj["metadata"]["resourceVersion"] = str(revision)
    return stored_of(plural, obj, msgspec.json.encode(obj))


def check_size(raw: bytes, limit: int | None) -> None:
    """Raise `ApiError` (413) if an object has more bytes than the limit."""
    if limit is not None and len(raw) > limit:
        raise refusals.object_too_large(len(raw), limit)
