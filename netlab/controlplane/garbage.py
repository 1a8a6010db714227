"""The garbage collector: objects whose owners are all gone are deleted (background propagation)."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import msgspec

from netlab.api.errors import ApiError
from netlab.api.meta_types import Object, OwnerReference
from netlab.api.resources import Resource, by_kind
from netlab.controlplane.cluster import Cluster, Index
from netlab.controlplane.controller import Controller

REMEMBERED = 8192
"""How many uids of deleted objects to remember; looking up any other costs a request."""


class GarbageCollector(Controller):
    """Knows the resources of netlab's table; an owner of another kind is ignored and counts as present."""

    name = "garbage-collector"
    workers = 16

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self._uids: set[str] = set()
        self._gone: dict[str, None] = {}  # ordered: the oldest is forgotten first
        self._dependents: dict[str, Index[Object]] = {}
        self._resources = {resource.plural: resource for resource in cluster.informers}
        for resource, informer in cluster.informers.items():
            self._dependents[resource.plural] = Index(informer, _owner_uids)
            informer.on_change(functools.partial(self._changed, resource.plural))

    def keys(self) -> Iterable[str]:
        """Every object that has an owner."""
        return [
            _key(resource.plural, obj)
            for resource, informer in self.cluster.informers.items()
            for obj in informer.items.values()
            if obj.metadata.ownerReferences
        ]

    async def reconcile(self, key: str) -> None:
        """Delete the object if all its owners are gone; otherwise remove its references to those that are."""
        plural, _, object_key = key.partition("/")
        resource = self._resources[plural]
        obj = self.cluster.informers[resource].items.get(object_key)
        if obj is None or not obj.metadata.ownerReferences or obj.metadata.deletionTimestamp is not None:
            return
        meta = obj.metadata
        present = [ref for ref in meta.ownerReferences if await self._exists(ref, meta.namespace)]
        try:
            if not present:
                await self.client.delete(resource, meta.name, meta.namespace, uid=meta.uid)
            elif len(present) < len(meta.ownerReferences):
                change = {
                    "resourceVersion": meta.resourceVersion,
                    "uid": meta.uid,
                    "ownerReferences": msgspec.to_builtins(present),
                }
                await self.client.patch(resource, meta.name, meta.namespace, {"metadata": change})
        except ApiError as error:
            if error.reason != "NotFound":
                raise

    async def _exists(self, owner: OwnerReference, namespace: str) -> bool:
        if owner.uid in self._uids:
            return True
        if owner.uid in self._gone:
            return False
        resource: Resource[Object] | None = by_kind(owner.apiVersion, owner.kind)
        if resource is None:
            return True
        # The watches of two resources are not ordered: the owner may exist and not have been seen yet.
        try:
            found = await self.client.get(resource, owner.name, namespace if resource.namespaced else None)
        except ApiError as error:
            if error.reason != "NotFound":
                raise
            self._remember_gone(owner.uid)
            return False
        return found.metadata.uid == owner.uid

    def _changed(self, plural: str, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self._uids.add(new.metadata.uid)
            if new.metadata.ownerReferences and (
                old is None or old.metadata.ownerReferences != new.metadata.ownerReferences
            ):
                self.queue.add(_key(plural, new))
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
            self._uids.discard(old.metadata.uid)
            self._remember_gone(old.metadata.uid)
            for kind, index in self._dependents.items():
                for dependent in index.get(old.metadata.uid):
                    self.queue.add(_key(kind, dependent))

    def _remember_gone(self, uid: str) -> None:
        self._gone[uid] = None
        if len(self._gone) > REMEMBERED:
            del self._gone[next(iter(self._gone))]


def _key(plural: str, obj: Object) -> str:
    return f"{plural}/{obj.key}"


def _owner_uids(obj: Object) -> list[str]:
    return [ref.uid for ref in obj.metadata.ownerReferences]
