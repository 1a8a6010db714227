"""The cluster's objects: all of them in memory, and each change in a backend before anyone hears of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from netlab.api.meta_types import Object
from netlab.api.resources import ALL, Resource
from netlab.api.server.objects.schema import JSONObject
from netlab.api.server.storage.backend import Backend
from netlab.api.server.storage.watch import Event, Hub, Stored

Key = tuple[str, str]
"""Namespace (empty for what is cluster-scoped) and name."""


class Store:
    """The objects by resource and key, and the hub that their changes go to. Raises what loading the backend raises."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._objects: dict[str, dict[Key, Stored]] = {resource.collection: {} for resource in ALL}
        loaded = backend.load()
        for plural, stored in loaded.objects:
            self._objects.setdefault(plural, {})[stored.namespace, stored.name] = stored
        self.hub = Hub(loaded.floor)
        for plural, event in loaded.history:
            self.hub.publish(plural, event)
        self.hub.revision = loaded.revision

    @property
    def revision(self) -> int:
        """The resourceVersion of the latest change."""
        return self.hub.revision

    def contents(self) -> list[tuple[str, bytes]]:
        """Every object's JSON with its resource, as of now."""
        return [
            (plural, stored.raw) for plural, objects in self._objects.items() for _, stored in sorted(objects.items())
        ]

    def count(self, resource: Resource[Object]) -> int:
        """How many objects a resource has."""
        return len(self._of(resource))

    def check(self) -> None:
        """Raise what is wrong if the backend cannot be read, or does not have what was written last."""
        self._settle()
        self._backend.check()

    def compact(self, revision: int) -> None:
        """Forget how the objects were before a revision."""
        self.hub.compact(revision)
        self._backend.compact(revision)

    def close(self) -> None:
        """Let the backend go."""
        self._backend.close()

    def get(self, resource: Resource[Object], namespace: str, name: str) -> Stored | None:
        """One object, or None."""
        return self._of(resource).get((namespace, name))

    def all(self, resource: Resource[Object]) -> Iterator[Stored]:
        """The objects of a resource in every namespace, ordered by namespace and name."""
        objects = self._of(resource)
        return (objects[key] for key in sorted(objects))

    def objects_at(self, resource: Resource[Object], revision: int) -> Mapping[Key, Stored]:
        """The objects of a resource as they were at a revision, by key; not to be changed, nor kept.

        Raises `ApiError` (Expired) if the changes since then are not all known.
        """
        self.hub.check_known(revision)
        present = self._of(resource)
        since = self.hub.events_since(resource.collection, revision) if revision != self.revision else []
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

        Raises `ApiError` (507 InsufficientStorage, 500 or 503) when it could not be written, and 413 if it has more
        bytes than the `limit`: then nothing has changed.
        """
        self._settle()
        meta = obj["metadata"]
        before = self._of(resource).get((meta.get("namespace", ""), meta["name"]))
        stored = self._backend.put(resource.collection, before, obj, limit)
        self._apply(resource.collection, Event(stored.revision, before, stored))
        return stored

    def remove(self, resource: Resource[Object], namespace: str, name: str) -> Stored:
        """Delete an object that is there and tell the watches; its last state. Raises as `put`."""
        self._settle()
        before = self._of(resource)[namespace, name]
        gone = self._backend.remove(resource.collection, before)
        self._apply(resource.collection, Event(gone.revision, before, None, gone))
        return gone

    def _of(self, resource: Resource[Object]) -> dict[Key, Stored]:
        return self._objects.setdefault(resource.collection, {})

    def _settle(self) -> None:
        for plural, event in self._backend.settle():
            self._apply(plural, event)

    def _apply(self, plural: str, event: Event) -> None:
        objects = self._objects.setdefault(plural, {})
        if event.after is not None:
            objects[event.after.namespace, event.after.name] = event.after
        elif event.before is not None:
            del objects[event.before.namespace, event.before.name]
        self.hub.publish(plural, event)
