"""The namespace controller: it empties a namespace that is being deleted, and then releases it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec

from netlab.api.core_types import Namespace, NamespaceSpec, Pod
from netlab.api.errors import ApiError, unless_gone
from netlab.api.meta_types import Object
from netlab.api.resources import ALL, NAMESPACES, Resource
from netlab.controlplane.cluster import Cluster
from netlab.controlplane.controller import Controller

FINALIZER = "kubernetes"
RECHECK = 2.0
"""Seconds before looking again at a namespace that is not empty, if no pod deletion triggers it earlier."""
_AT_ONCE = 64


class NamespaceController(Controller):
    """Deletes what is in a terminating namespace, as often as it takes."""

    name = "namespace-controller"
    resource = NAMESPACES
    workers = 4
    min_interval = 0.1

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        cluster.namespaces.on_change(self._changed)
        cluster.pods.on_change(self._pod_changed)

    def keys(self) -> Iterable[str]:
        """Every namespace."""
        return list(self.cluster.namespaces.items)

    async def reconcile(self, key: str) -> None:
        """Delete everything in the namespace; once nothing is left, remove the finalizer."""
        namespace = self.cluster.namespaces.items.get(key)
        if namespace is None or namespace.metadata.deletionTimestamp is None:
            return
        left = 0
        for resource in ALL:
            if resource.namespaced and resource.stored_as is None:
                left += await self._empty(resource, key)
        if left:
            self.queue.add_after(key, RECHECK)
            return
        finalizers = [finalizer for finalizer in namespace.spec.finalizers if finalizer != FINALIZER]
        finalized = msgspec.structs.replace(namespace, spec=NamespaceSpec(finalizers=finalizers))
        await unless_gone(self.client.update(NAMESPACES, finalized, subresource="finalize"))

    async def _empty(self, resource: Resource[Object], namespace: str) -> int:
        """Delete all objects of a resource; returns how many are left, or were a moment ago."""
        # From the server and not the informer: objects created while this runs must not be missed.
        found, _ = await self.client.list(resource, namespace)
        doomed = [obj for obj in found if obj.metadata.deletionTimestamp is None]
        for start in range(0, len(doomed), _AT_ONCE):
            await asyncio.gather(*(self._delete(resource, obj) for obj in doomed[start : start + _AT_ONCE]))
        return len(found)

    async def _delete(self, resource: Resource[Object], obj: Object) -> None:
        try:
            await self.client.delete(resource, obj.metadata.name, obj.metadata.namespace, uid=obj.metadata.uid)
        except ApiError as error:
            if error.reason not in ("NotFound", "Conflict"):
                raise

    def _changed(self, _: Namespace | None, new: Namespace | None) -> None:
        if new is not None and new.metadata.deletionTimestamp is not None:
            self.queue.add(new.key)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        # Pods are what takes time: their kubelets stop them first.
        if new is None and old is not None and self.cluster.is_terminating(old.metadata.namespace):
            self.queue.add(old.metadata.namespace)
