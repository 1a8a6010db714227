"""The garbage collector: what becomes of objects whose owners go.

They are deleted once all their owners are gone (background propagation). An owner that is being deleted with the
finalizer `foregroundDeletion` waits until those that block it (blockOwnerDeletion) are gone, and one with `orphan`
until they have forgotten it. What has another owner besides forgets the one that goes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import msgspec

from netlab.api.errors import ApiError, unless_gone
from netlab.api.informer import Informer
from netlab.api.meta_types import Object, OwnerReference
from netlab.api.resources import Resource, by_kind
from netlab.controlplane.cluster import Cluster, Index
from netlab.controlplane.controller import Controller

ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"
"""Finalizers (metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents)."""

REMEMBERED = 8192
"""How many uids of deleted objects to remember; looking up any other costs a request."""


class GarbageCollector(Controller):
    """Knows the resources that there are; an owner of another kind is ignored and counts as present."""

    name = "garbage-collector"
    workers = 16

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self._uids: set[str] = set()
        self._gone: dict[str, None] = {}  # ordered: the oldest is forgotten first
        self._dependents: dict[str, Index[Object]] = {}
        self._informers: dict[Resource[Any], Informer[Any]] = {}
        self._resources: dict[str, Resource[Any]] = {}
        for resource, informer in {**cluster.informers, **cluster.stored}.items():
            self._follow(resource, informer)
        cluster.custom.on_added(self._follow_added)
        cluster.custom.on_removed(self._leave)

    def _follow(self, resource: Resource[Any], informer: Informer[Any]) -> None:
        self._informers[resource] = informer
        self._resources[resource.collection] = resource
        self._dependents[resource.collection] = Index(informer, _owner_uids)
        informer.on_change(functools.partial(self._changed, resource.collection))

    def _follow_added(self, resource: Resource[Any], informer: Informer[Any]) -> None:
        self._follow(resource, informer)
        # Owners of a kind that was not known have counted as present.
        for known, other in self._informers.items():
            for obj in other.items.values():
                if any(self._by_kind(ref) is resource for ref in obj.metadata.ownerReferences):
                    self.queue.add(_key(known.collection, obj))

    def _leave(self, resource: Resource[Any]) -> None:
        for known in (self._resources, self._dependents):
            del known[resource.collection]
        del self._informers[resource]

    def keys(self) -> Iterable[str]:
        """Every object that has an owner, or is one that has asked for its dependents to be seen to."""
        return [
            _key(resource.collection, obj)
            for resource, informer in self._informers.items()
            for obj in informer.items.values()
            if obj.metadata.ownerReferences or _propagation(obj)
        ]

    def subject(self, key: str) -> Object | None:
        """The object itself: keys are COLLECTION/KEY."""
        _, found = self._find(key)
        return found

    def _find(self, key: str) -> tuple[Resource[Any] | None, Object | None]:
        collection, _, object_key = key.partition("/")
        resource = self._resources.get(collection)
        return resource, None if resource is None else self._informers[resource].items.get(object_key)

    async def reconcile(self, key: str) -> None:
        """Handle the dependents of an object that is being deleted and waits for that.

        Delete an object whose owners are all gone; otherwise remove its references to those that are.
        """
        resource, obj = self._find(key)
        if resource is None:
            return
        if obj is not None and (finalizer := _propagation(obj)):
            await self._propagate(resource, obj, finalizer)
            return
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

    async def _propagate(self, resource: Resource[Object], owner: Object, finalizer: str) -> None:
        meta = owner.metadata
        dependents = await self._read_dependents(owner)
        is_held = False
        for kind, dependent in dependents:
            if finalizer == ORPHAN or await self._has_another_owner(dependent, owner):
                await unless_gone(self._free(kind, dependent, owner))
            else:
                await unless_gone(self._delete_first(kind, dependent, owner))
                is_held |= _blocks(dependent, owner)
        if is_held:
            return  # Their ends bring it up again.
        change = {
            "resourceVersion": meta.resourceVersion,
            "uid": meta.uid,
            "finalizers": [each for each in meta.finalizers if each != finalizer],
        }
        await unless_gone(self.client.patch(resource, meta.name, meta.namespace, {"metadata": change}))

    async def _read_dependents(self, owner: Object) -> list[tuple[Resource[Object], Object]]:
        """From the server, not the informers: one that was not seen yet would be lost with its owner."""
        found: list[tuple[Resource[Object], Object]] = []
        for resource in list(self._informers):
            answer = await unless_gone(self.client.list(resource, owner.metadata.namespace or None))
            listed = answer[0] if answer is not None else []
            found += [(resource, each) for each in listed if owner.metadata.uid in _owner_uids(each)]
        return found

    async def _free(self, resource: Resource[Object], dependent: Object, owner: Object) -> None:
        meta = dependent.metadata
        others = [ref for ref in meta.ownerReferences if ref.uid != owner.metadata.uid]
        change = {
            "resourceVersion": meta.resourceVersion,
            "uid": meta.uid,
            "ownerReferences": msgspec.to_builtins(others),
        }
        await self.client.patch(resource, meta.name, meta.namespace, {"metadata": change})

    async def _has_another_owner(self, dependent: Object, owner: Object) -> bool:
        """Whether an object has an owner that is there and is not itself waiting for its dependents to go."""
        meta = dependent.metadata
        for ref in meta.ownerReferences:
            if ref.uid == owner.metadata.uid or not await self._exists(ref, meta.namespace):
                continue
            found = self._known_owner(ref, meta.namespace)
            if found is None or _propagation(found) != FOREGROUND:
                return True
        return False

    async def _delete_first(self, resource: Resource[Object], dependent: Object, owner: Object) -> None:
        meta = dependent.metadata
        if meta.deletionTimestamp is not None:
            return
        own = [each for index in self._dependents.values() for each in index.get(meta.uid)]
        if any(_propagation(each) == FOREGROUND for each in own) and self._owns(dependent, owner):
            # Each in the circle would wait for the next (garbagecollector.go, attemptToDeleteItem).
            await self._unblock(resource, dependent)
        policy = "Foreground" if own else "Background"
        await self.client.delete(resource, meta.name, meta.namespace, uid=meta.uid, propagation=policy)

    async def _unblock(self, resource: Resource[Object], dependent: Object) -> None:
        """Have no owner wait for an object."""
        meta = dependent.metadata
        refs = [msgspec.structs.replace(ref, blockOwnerDeletion=False) for ref in meta.ownerReferences]
        change = {"uid": meta.uid, "ownerReferences": msgspec.to_builtins(refs)}
        await self.client.patch(resource, meta.name, meta.namespace, {"metadata": change})

    def _owns(self, obj: Object, other: Object) -> bool:
        """Whether an object owns another, or an owner of it, and so on."""
        above, seen = [other], {other.metadata.uid}
        while above:
            for ref in above.pop().metadata.ownerReferences:
                if ref.uid == obj.metadata.uid:
                    return True
                found = self._known_owner(ref, other.metadata.namespace)
                if found is not None and ref.uid not in seen:
                    above.append(found)
                    seen.add(ref.uid)
        return False

    async def _exists(self, owner: OwnerReference, namespace: str) -> bool:
        if owner.uid in self._uids:
            return True
        if owner.uid in self._gone:
            return False
        resource = self._by_kind(owner)
        if resource is None:
            return True
        # The watches of two resources are not ordered: the owner may exist and not have been seen yet.
        found = await unless_gone(self.client.get(resource, owner.name, namespace if resource.namespaced else None))
        if found is None:
            self._remember_gone(owner.uid)
            return False
        return found.metadata.uid == owner.uid

    def _by_kind(self, ref: OwnerReference) -> Resource[Object] | None:
        found: Resource[Object] | None = by_kind(ref.apiVersion, ref.kind)
        return found if found is not None else self.cluster.custom.by_kind(ref.apiVersion, ref.kind)

    def _changed(self, collection: str, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self._uids.add(new.metadata.uid)
            if (
                new.metadata.ownerReferences
                and (old is None or old.metadata.ownerReferences != new.metadata.ownerReferences)
            ) or _propagation(new):
                self.queue.add(_key(collection, new))
            if old is not None and old.metadata.ownerReferences != new.metadata.ownerReferences:
                self._bring_up_owners(old)
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
            self._uids.discard(old.metadata.uid)
            self._remember_gone(old.metadata.uid)
            for kind, index in self._dependents.items():
                for dependent in index.get(old.metadata.uid):
                    self.queue.add(_key(kind, dependent))
            self._bring_up_owners(old)

    def _bring_up_owners(self, dependent: Object) -> None:
        for ref in dependent.metadata.ownerReferences:
            resource = self._by_kind(ref)
            owner = self._known_owner(ref, dependent.metadata.namespace)
            if resource is not None and owner is not None and _propagation(owner):
                self.queue.add(_key(resource.collection, owner))

    def _known_owner(self, ref: OwnerReference, namespace: str) -> Object | None:
        """The object that has an owner's name, if it was seen."""
        resource = self._by_kind(ref)
        informer = self._informers.get(resource) if resource is not None else None
        if resource is None or informer is None:
            return None
        found: Object | None = informer.items.get(f"{namespace}/{ref.name}" if resource.namespaced else ref.name)
        return found

    def _remember_gone(self, uid: str) -> None:
        self._gone[uid] = None
        if len(self._gone) > REMEMBERED:
            del self._gone[next(iter(self._gone))]


def _key(collection: str, obj: Object) -> str:
    return f"{collection}/{obj.key}"


def _propagation(obj: Object) -> str:
    """The finalizer by which an object that is being deleted asks for its dependents to be seen to; or nothing."""
    if obj.metadata.deletionTimestamp is None:
        return ""
    return next((each for each in obj.metadata.finalizers if each in (ORPHAN, FOREGROUND)), "")


def _blocks(dependent: Object, owner: Object) -> bool:
    """Whether an owner that is deleted in the foreground waits for this object to go."""
    refs = dependent.metadata.ownerReferences
    return any(ref.uid == owner.metadata.uid and ref.blockOwnerDeletion for ref in refs)


def _owner_uids(obj: Object) -> list[str]:
    return [ref.uid for ref in obj.metadata.ownerReferences]
